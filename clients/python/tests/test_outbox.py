"""Messages that survive a restart: a SqliteOutbox, with programs that are killed, and files that cannot be used."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from harness import token, until

from roomlog import RoomlogError, SqliteOutbox

PUBLISHER = Path(__file__).parent / "harness/publisher.py"

# Each place at which a message is handed from one step to the next.
STEPS = [f"{when} {method} {call}" for method in ("_put", "_attempt", "_delete") for when in ("before", "after") for call in (1, 2, 5)]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "outbox.db"


class Publisher:
    """A run of the program that publishes until it is killed."""

    def __init__(self, url, file, room, first, step=""):
        command = [sys.executable, PUBLISHER, url, file, room, str(first), *step.split()]
        self._out = file.with_suffix(f".{first}.out")
        self._errors = file.with_suffix(f".{first}.errors")
        env = {**os.environ, "PYTHONPATH": str(PUBLISHER.parents[1])}
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(command, stdout=out, stderr=errors, env=env)

    def published(self):
        """Returns the numbers for which `publish` has returned."""
        return [int(line) for line in self._out.read_text().split()]

    async def killed_itself(self):
        """Waits until it has killed itself, and returns the numbers that it has published."""
        await asyncio.to_thread(self._process.wait, 30)
        assert self._process.returncode == -signal.SIGKILL, self._errors.read_text()
        return self.published()

    async def killed_after(self, count, pause=0.0):
        """Kills it some time after it has published `count` messages."""
        await until("it has published some", lambda: len(self.published()) >= count)
        await asyncio.sleep(pause)
        self._process.kill()
        return await self.killed_itself()


async def drained(client, room):
    """Sends what is left in the outbox, and ends the client."""
    async with client:
        await until("all messages are confirmed", lambda: client.state == "open" and not client.room(room).pending)
    await client.close()


def check(log, runs):
    """Each number that was published is in the log once, in order. Of each run, one more may be: it was killed before it could say so."""
    assert log == sorted(set(log)), "each once and in order"
    published = {number for run in runs for number in run}
    assert published <= set(log), f"lost: {published - set(log)}"
    assert set(log) - published <= {run[-1] + 1 if run else index * 1000 for index, run in enumerate(runs)}


async def test_a_program_killed_between_any_two_steps_loses_and_repeats_nothing(client, server, name, file):
    """The server forgets keys after a second or two, as it does after an hour or two: most restarts take longer here."""
    runs = []
    for step in STEPS:
        publisher = Publisher(server.url, file, name, len(runs) * 1000, step)
        runs.append(await publisher.killed_itself())
    await drained(client(outbox=SqliteOutbox(file)), name)
    check(server.data(name), runs)


async def test_a_program_killed_at_random_times_loses_and_repeats_nothing(client, server, name, file):
    chance, runs = random.Random(17), []
    for _ in range(15):
        publisher = Publisher(server.url, file, name, len(runs) * 1000)
        runs.append(await publisher.killed_after(chance.randint(1, 9), chance.uniform(0, 0.03)))
    await drained(client(outbox=SqliteOutbox(file)), name)
    check(server.data(name), runs)


async def test_messages_written_offline_are_sent_by_the_next_client_in_order(client, proxy, server, name, file):
    proxy.go_offline()
    one = client(proxy.url, outbox=SqliteOutbox(file))
    first = one.room(name).publish({"n": 1, "raw": b"\x89PNG"})
    one.room(name).publish(2, type="note")
    withdrawn = one.room(name).publish("withdrawn")
    assert withdrawn.cancel()
    await one.close()
    with pytest.raises(RoomlogError, match=r"closed: the message stays in SqliteOutbox\(.*\): the client is closed"):
        await first
    proxy.go_online()
    two = client(outbox=SqliteOutbox(file))
    room = two.room(name)
    third = room.publish(3)
    assert [(p.key, p.type, p.data, p.state) for p in room.pending][:2] == [
        (first.key, "message", {"n": 1, "raw": b"\x89PNG"}, "sending"),
        (room.pending[1].key, "note", 2, "sending"),
    ]
    # The same key is the same message, also in the next process.
    assert room.publish("again", key=first.key) is room.pending[0]
    await third
    assert server.data(name) == [{"n": 1, "raw": "iVBORw=="}, 2, 3]
    await two.close()
    assert await client(outbox=SqliteOutbox(file)).room(name).publish(4)
    assert server.data(name)[3:] == [4]


async def test_a_message_of_an_unfollowed_room_is_found_after_a_long_absence(client, relay, server, name, file):
    """It was stored and never confirmed, and the server has forgotten its key since."""
    relay.from_server = lambda frame: None if frame["op"] == "ok" and "duplicate" not in frame and "id" in frame else frame
    one = client(relay.url, encoding="json", outbox=SqliteOutbox(file))
    publication = one.room(name).publish("once")
    await until("it is stored", lambda: server.data(name) == ["once"])
    await one.close()
    assert publication.state == "failed"
    key = {"data": 1, "key": "19e792c1-94b0-47cc-81f5-f2ece617fb95"}
    first = server.request("POST", "/v1/rooms/forgotten/messages", key)["id"]
    await until("keys are forgotten", lambda: server.request("POST", "/v1/rooms/forgotten/messages", key)["id"] != first)
    await drained(client(outbox=SqliteOutbox(file)), name)
    assert server.data(name) == ["once"]


async def test_a_client_that_may_not_read_sends_all_the_same(client, server, name, file):
    one = client(token=token("ann", rooms={"*": ["write"]}), outbox=SqliteOutbox(file))
    await asyncio.gather(*(one.room(name).publish(n) for n in range(3)))
    assert server.data(name) == [0, 1, 2]


async def test_a_refused_message_of_an_earlier_run_is_reported_and_does_not_block(client, proxy, server, name, file, caplog):
    proxy.go_offline()
    one = client(proxy.url, outbox=SqliteOutbox(file))
    key = one.room(name).publish("x" * 70_000).key
    one.room(name).publish("fine")
    await one.close()
    caplog.clear()
    await drained(client(outbox=SqliteOutbox(file)), name)
    assert server.data(name) == ["fine"]
    assert [
        text for text in caplog.messages if text.startswith(f"the message {key} to {name}, of an earlier run, was refused: too_large: ")
    ]


async def test_a_refused_client_leaves_its_messages_to_the_next(client, server, name, file):
    one = client(token="nonsense", outbox=SqliteOutbox(file))
    with pytest.raises(RoomlogError, match=r"^unauthenticated: the message stays in SqliteOutbox"):
        await one.room(name).publish(1)
    await drained(client(outbox=SqliteOutbox(file)), name)
    assert server.data(name) == [1]


async def test_the_outbox_is_bounded_over_restarts(client, proxy, name, file):
    proxy.go_offline()
    one = client(proxy.url, outbox=SqliteOutbox(file), outbox_limit=2)
    for n in (1, 2):
        one.room(name).publish(n)
    await one.close()
    two = client(proxy.url, outbox=SqliteOutbox(file), outbox_limit=2)
    with pytest.raises(RoomlogError, match="2 messages are waiting to be confirmed") as raised:
        two.room(name).publish(3)
    assert raised.value.code == "outbox_full"


async def test_two_clients_cannot_share_a_file(client, server, name, file):
    """Neither in one process nor in two."""
    publisher = Publisher(server.url, file, name, 0)
    await until("it has the file", publisher.published)
    one = client(outbox=SqliteOutbox(file))
    message = f"another client, perhaps of another process, uses the outbox {file}: close it, or give each process a file of its own"
    loop = one.room(name).messages()
    for begin in (one.connect, one.room(name).history, lambda: one.room(name).publish("x"), loop.__anext__, loop.__anext__):
        with pytest.raises(RoomlogError) as raised:
            await begin()
        assert (raised.value.code, raised.value.args[0]) == ("outbox_locked", message)
    await publisher.killed_after(0)
    # The kernel has released it, so the same client may use it now.
    await one.room(name).publish("mine")
    shared = SqliteOutbox(file)
    for outbox in (shared, shared, one._rooms.outbox._store):
        with pytest.raises(RoomlogError, match=r"^outbox_locked: "):
            await client(outbox=outbox).connect()
    await one.room(name).publish("still mine")
    await one.close()
    await client(outbox=shared).room(name).publish("theirs")
    assert server.data(name)[-3:] == ["mine", "still mine", "theirs"]


def corrupt_page(file):
    """Overwrites the middle of a database that has messages."""
    raw = bytearray(file.read_bytes())
    raw[4096:8192] = b"\xaa" * 4096
    file.write_bytes(raw)


def of_another_program(file):
    file.unlink()
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE orders (id)")
        database.commit()


def of_a_newer_version(file):
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 2")


def no_message_pack(file):
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE messages SET data = x'c1'")
        database.commit()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda file: file.write_text("shopping list\n" * 1000), "is damaged (file is not a database): move it away"),
        (lambda file: os.truncate(file, 4096 + 17), "is damaged (database disk image is malformed): move it away"),
        (corrupt_page, "is damaged ("),
        (no_message_pack, "is damaged (the data of a message cannot be decoded: "),
        (of_another_program, "is the database of another program: choose another path"),
        (of_a_newer_version, "has the format 2, and this version of roomlog knows 1: install a newer one"),
    ],
    ids=["no database", "truncated", "overwritten", "no MessagePack", "another program", "newer version"],
)
async def test_a_file_that_is_no_outbox_is_refused_and_not_changed(client, proxy, name, file, damage, why):
    proxy.go_offline()
    one = client(proxy.url, outbox=SqliteOutbox(file))
    one.room(name).publish("kept")
    await one.close()
    damage(file)
    before = file.read_bytes()
    with pytest.raises(RoomlogError) as raised:
        client(outbox=SqliteOutbox(file)).room(name).publish("new")
    assert raised.value.code == "outbox_failed" and why in raised.value.args[0], raised.value
    assert file.read_bytes() == before


async def test_binary_messages_are_not_lost_to_a_client_that_cannot_send_them(client, proxy, server, name, file):
    proxy.go_offline()
    one = client(proxy.url, outbox=SqliteOutbox(file))
    one.room(name).publish(b"raw")
    await one.close()
    with pytest.raises(RoomlogError, match=r"outbox_failed: .* has a message that this client cannot send: data cannot be sent: binary"):
        await client(encoding="json", outbox=SqliteOutbox(file)).connect()
    await drained(client(outbox=SqliteOutbox(file)), name)
    assert len(server.data(name)) == 1


@pytest.mark.parametrize("place", ["missing/outbox.db", "."])
async def test_a_path_that_cannot_be_written_is_refused(client, name, tmp_path, place):
    with pytest.raises(RoomlogError, match=r"outbox_failed: the outbox .* cannot be used .*: check that the directory exists"):
        client(outbox=SqliteOutbox(tmp_path / place)).room(name).publish(1)


async def test_a_full_disk_refuses_new_messages_and_loses_none(client, proxy, server, name, file):
    """SQLite itself limits the size of the database, as a full disk does."""
    proxy.go_offline()
    one = client(proxy.url, outbox=SqliteOutbox(file))
    room = one.room(name)
    await until("it waits", lambda: room.publish("first") and one.state == "waiting")
    kept = [publication.data for publication in room.pending]
    database = one._rooms.outbox._store._database
    database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(RoomlogError, match=r"outbox_failed: .*database or disk is full.* that the disk has space"):
        while True:
            room.publish("x" * 1000)
            kept.append("x" * 1000)
    database.execute("PRAGMA max_page_count = 100000")
    room.publish("last")
    proxy.go_online()
    await until("all are confirmed", lambda: not room.pending)
    assert server.data(name) == [*kept, "last"]


async def test_a_message_waits_until_its_attempt_can_be_recorded(client, proxy, server, name, file, caplog):
    """Another program locks the database for a while."""
    proxy.go_offline()
    one = client(proxy.url, outbox=SqliteOutbox(file))
    publication = one.room(name).publish(1)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        proxy.go_online()
        await until("it says so", lambda: f"messages to {name} wait until the outbox can be written: outbox_failed" in caplog.text)
        assert server.data(name) == [] and publication.state == "sending"
    await publication
    assert server.data(name) == [1]
