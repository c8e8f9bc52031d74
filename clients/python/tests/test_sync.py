"""The client for threads: the same behaviour without `await`, time-outs, threads, forks, Ctrl-C and the end of a program."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import FAST, token, wait_until

from roomlog import Deleted, Gap, RoomlogError, Signal, SqliteOutbox
from roomlog.sync import Roomlog

TESTS = Path(__file__).parent


@pytest.fixture
def client(server):
    """Makes clients."""
    made = []

    def make(url=None, **options):
        made.append(Roomlog(url or server.url, **{"token": lambda: token("ann"), "timing": FAST, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def program(server, name, tmp_path):
    """Starts a program of its own, that ends within seconds."""
    running = []

    def start(text):
        source = f"""
import linecache, os, signal, sys, time
from harness import token
from roomlog import RoomlogError, SqliteOutbox
from roomlog.sync import Roomlog
client = Roomlog({server.url!r}, token=lambda: token("ann"))
room = client.room({name!r})
{textwrap.dedent(text)}"""
        env = {**os.environ, "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-W", "error", "-c", source]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=env, text=True, cwd=tmp_path)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def outcome(process):
    out, errors = process.communicate(timeout=30)
    return process.returncode, out, errors


def test_publishes_reads_and_acknowledges_without_await(client, server, name):
    with client() as one:
        room = one.room(name)
        ids = [room.publish({"n": n}, type="note") for n in range(3)]
        assert [message["id"] for message in server.history(name)] == ids
        assert (one.state, one.user, room.pending) == ("open", "ann", [])
        assert [message.id for message in room.history(after=ids[0]).messages] == ids[1:]
        got = []
        with room.messages(durable="bot", since="0") as messages:
            for message in messages:
                got.append(message)
                room.ack(message)
                if len(got) == 3:
                    break
            assert messages.position == ids[1]
        assert [(message.id, message.data) for message in got] == [(id, {"n": n}) for n, id in enumerate(ids)]
        [subscription] = server.request("GET", f"/v1/rooms/{name}/subscriptions")
        assert subscription["position"] == ids[-1]
    assert one.state == "closed"


def test_a_submitted_message_is_awaited_later(client, server, name):
    room = client().room(name)
    publications = [room.submit(n) for n in range(100)]
    ids = [publication.result(timeout=30) for publication in publications]
    assert [message["id"] for message in server.history(name)] == ids
    assert (publications[0].state, publications[0].id, publications[0].error) == ("sent", ids[0], None)
    assert not publications[0].cancel()


def test_errors_are_those_of_asyncio(client, name):
    room = client(token=token("ann", rooms={"open": ["write"]})).room(name)
    cases = [
        (lambda: room.ack("1-1"), "not_subscribed"),
        (lambda: room.publish({1}), "bad_request"),
        (lambda: room.publish(1), "forbidden"),
        (lambda: room.submit(1).result(), "forbidden"),
        (lambda: room.history(), "forbidden"),
        (lambda: next(room.messages()), "forbidden"),
        (lambda: room.messages(since="0", last=1), "bad_request"),
        (lambda: room.signal("typing", {1}), "bad_request"),
        (lambda: client(token="nonsense").connect(), "unauthenticated"),
    ]
    for call, code in cases:
        with pytest.raises(RoomlogError) as raised:
            call()
        assert raised.value.code == code


def test_a_loop_gets_gaps_and_signals(client, server, name):
    room = client().room(name)
    ids = [room.publish(n) for n in range(3)]
    server.request("DELETE", f"/v1/rooms/{name}/messages/{ids[1]}", rooms={"*": ["manage"]})
    bob = client(token=token("bob")).room(name)
    with room.messages(since="0", timeout=30) as messages, bob.messages():
        assert [next(messages) for _ in range(3)][1] == Gap(name, ids[0], ids[2], "trimmed")
        signals = room.signals(timeout=0.05)
        with pytest.raises(TimeoutError):
            next(signals)
        # It still listens.
        bob.signal("typing", True)
        server.request("DELETE", f"/v1/rooms/{name}/messages/{ids[0]}", rooms={"*": ["manage"]})
        signals._timeout = 30
        assert [next(signals), next(signals)] == [Signal(name, "bob", "typing", True), Deleted(name, ids[0], "checker")]


def test_time_outs_leave_messages_and_loops_intact(client, server, name):
    server_is_away = client("http://127.0.0.1:9")
    room = server_is_away.room(name)
    key = "0b9d9b2e-6a52-4f0e-9d3a-6d3c1f0c7a11"
    for call in (
        lambda: server_is_away.connect(timeout=0.01),
        lambda: room.publish(1, key=key, timeout=0.01),
        lambda: room.publish(1, key=key, timeout=0.01),
        lambda: room.history(timeout=0.01),
    ):
        with pytest.raises(TimeoutError, match=r"there was no result within 0.01 s"):
            call()
    # It still waits, once.
    assert [publication.key for publication in room.pending] == [key]
    assert room.pending[0].cancel() and room.pending == []
    # A loop misses nothing however often it times out.
    room, writer = client().room(name), client().room(name)
    with room.messages(timeout=30) as messages:
        messages._timeout = 0.001
        got, timeouts = [], 0
        with ThreadPoolExecutor(1) as threads:
            writing = threads.submit(lambda: [writer.publish(n) for n in range(200)])
            while len(got) < 200:
                try:
                    got.append(next(messages).data)
                except TimeoutError:
                    timeouts += 1
            writing.result()
        assert got == list(range(200)) and timeouts > 0


def test_threads_share_a_client(client, server, name):
    one = client()
    with ThreadPoolExecutor(16) as threads:
        ids = list(threads.map(lambda n: one.room(f"{name}.{n % 4}").publish(n), range(400)))
    assert len(set(ids)) >= 100
    for lane in range(4):
        assert sorted(server.data(f"{name}.{lane}")) == list(range(lane, 400, 4))
    assert sum(thread.name == "roomlog" for thread in threading.enumerate()) == 1


def test_threads_share_a_loop(client, name):
    room = client().room(name)
    with room.messages(timeout=30) as messages:
        for n in range(200):
            room.submit(n)
        with ThreadPoolExecutor(8) as threads:
            got = list(threads.map(lambda _: next(messages).data, range(200)))
    assert sorted(got) == list(range(200))


def test_closing_wakes_every_thread_that_waits(client, name):
    one, away = client(), client("http://127.0.0.1:9")
    messages = one.room(name).messages()
    with ThreadPoolExecutor(3) as threads:
        loop = threads.submit(list, messages)
        publishing = threads.submit(away.room(name).publish, 1)
        connecting = threads.submit(away.connect)
        wait_until("all wait", lambda: messages.state == "live" and away.room(name).pending and away.state == "waiting")
        one.close()
        away.close()
        assert loop.result(10) == []
        for waiting in (publishing, connecting):
            with pytest.raises(RoomlogError, match=r"^closed: "):
                waiting.result(10)
    for call in (lambda: away.room(name).publish(2), away.connect, lambda: next(away.room(name).messages())):
        with pytest.raises(RoomlogError, match=r"^closed: the client is closed: create a new one"):
            call()
    away.close()
    assert not any(thread.name == "roomlog" for thread in threading.enumerate())


def test_a_client_that_is_no_longer_used_ends_its_thread(server, name):
    one = Roomlog(server.url, token=token("ann"))
    one.room(name).publish(1)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    wait_until("its thread has ended", lambda: not any(thread.name == "roomlog" for thread in threading.enumerate()))


def test_a_program_that_ends_sends_its_acknowledgements(server, name, program):
    ended = program("""
        id = room.publish("one")
        for message in room.messages(durable="bot", since="0"):
            room.ack(message)
            break
        print(id)
    """)
    code, out, errors = outcome(ended)
    assert (code, errors) == (0, "")
    [subscription] = server.request("GET", f"/v1/rooms/{name}/subscriptions")
    assert subscription["position"] == out.strip()


def test_a_program_ends_while_its_server_is_away(program):
    code, _, errors = outcome(
        program("""
        away = Roomlog("http://127.0.0.1:9", token=lambda: token("ann"), outbox=SqliteOutbox("outbox.db"))
        away.room("a").submit(1)
    """)
    )
    assert (code, errors) == (0, "")


def test_ctrl_c_interrupts_a_loop_and_the_program_ends(program):
    process = program("""
        messages = room.messages()
        try:
            with messages:
                print("follows", flush=True)
                for message in messages:
                    print(message.data, flush=True)
        except KeyboardInterrupt:
            print("interrupted", client.state, flush=True)
            client.close()
            raise
    """)
    assert process.stdout.readline() == "follows\n"
    process.send_signal(signal.SIGINT)
    code, out, errors = outcome(process)
    assert (code, out) == (-signal.SIGINT, "interrupted open\n")
    assert errors.rstrip().endswith("KeyboardInterrupt") and "never" not in errors


def test_a_loop_that_is_interrupted_again_and_again_misses_and_repeats_nothing(client, name, program):
    """As by Ctrl-C, while it waits for a message."""
    process = program("""
        def interrupt(_, frame):
            # Elsewhere in its code, even Python's own `Condition` does not stand it.
            if "waiter.acquire(" in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        got, interrupts = [], 0
        with room.messages() as messages:
            print("follows", flush=True)
            signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
            while len(got) < 300:
                try:
                    got.append(next(messages).data)
                except KeyboardInterrupt:
                    interrupts += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(got == list(range(300)), interrupts > 10)
    """)
    assert process.stdout.readline() == "follows\n"
    writer = client().room(name)
    for n in range(300):
        writer.publish(n)
    assert outcome(process) == (0, "True True\n", "")


FORKING = """
    def child(work):
        process = os.fork()
        if process == 0:
            try:
                work()
            except RoomlogError as error:
                print(error.code, error.args[0].replace(str(os.getppid()), "PARENT"), flush=True)
            sys.exit()
        assert os.waitpid(process, 0)[1] == 0
"""


def test_a_client_is_used_in_every_process_that_inherited_it_unused(server, name, program):
    """As the workers of gunicorn and Celery do."""
    code, _, errors = outcome(
        program(f"""{FORKING}
    for n in range(3):
        child(lambda: room.publish(n))
    room.publish(3)
    """)
    )
    assert (code, errors) == (0, "")
    assert server.data(name) == [0, 1, 2, 3]


def test_a_client_that_was_used_before_a_fork_says_so_in_the_child(server, name, program):
    """Neither its connection nor its outbox suffers in the parent, while and after children end."""
    forking = FORKING.replace("os.fork()", "fork()")
    ended = program(f"""
    import warnings
    def fork():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Newer versions of Python warn of threads.
            return os.fork()
{forking}
    client = Roomlog({server.url!r}, token=lambda: token("ann"), outbox=SqliteOutbox("outbox.db"))
    room = client.room({name!r})
    room.publish("before")
    for n in range(5):
        child(lambda: room.publish("child"))
        child(client.close)
        room.publish(n)
    client.close()
    client = Roomlog({server.url!r}, token=lambda: token("ann"), outbox=SqliteOutbox("outbox.db"))
    client.room({name!r}).publish("after")
    """)
    code, out, errors = outcome(ended)
    assert (code, errors) == (0, "")
    assert set(out.splitlines()) == {
        "forked the process PARENT used this client before it forked this process, which cannot share the connection: create a client in"
        " each process, or leave it unused until after the fork"
    }
    assert server.data(name) == ["before", 0, 1, 2, 3, 4, "after"]


def test_an_outbox_is_used_by_threads(client, server, name, tmp_path):
    away = client("http://127.0.0.1:9", outbox=SqliteOutbox(tmp_path / "outbox.db"))
    away.room(name).submit("kept")
    away.close()
    one = client(outbox=SqliteOutbox(tmp_path / "outbox.db"))
    one.room(name).publish("new")
    assert server.data(name) == ["kept", "new"]
