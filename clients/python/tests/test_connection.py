"""Connecting, staying connected, servers that restart, and tokens."""

import asyncio
import time

import pytest
from harness import FAST, Answers, Relay, Server, token, until

from roomlog import Roomlog, RoomlogError, Timing


@pytest.fixture
def own():
    """A server of its own for a test that kills or stops it."""
    server = Server()
    try:
        yield server.start()
    finally:
        server.end()


def observe(client, monkeypatch, attribute):
    """Records the values that an attribute of the connection takes."""
    seen = []
    connection = client._connection
    original = type(connection)

    class Observed(original):
        def __setattr__(self, name, value):
            if name == attribute and (not seen or seen[-1] != value):
                seen.append(value)
            super().__setattr__(name, value)

    connection.__class__ = Observed
    return seen


async def test_connects_when_it_is_needed_and_reconnects_after_a_loss(client, proxy, monkeypatch):
    one = client(proxy.url)
    states = observe(one, monkeypatch, "state")
    assert one.state == "idle"
    await one.connect()
    assert (one.state, one.user) == ("open", "ann")
    proxy.cut()
    await until("it is open again", lambda: states.count("open") == 2)
    assert states == ["connecting", "open", "waiting", "connecting", "open"]
    await one.close()
    assert one.state == "closed"


async def test_can_be_closed_at_any_moment_of_connecting(server):
    async def connect_and_close(ticks):
        one = Roomlog(server.url, token=token("ann"), timing=FAST)
        waiting = asyncio.create_task(one.connect())
        for _ in range(ticks):
            await asyncio.sleep(0)
        await one.close()
        assert one.state == "closed"
        await asyncio.gather(waiting, return_exceptions=True)

    for ticks in range(0, 100, 2):
        await asyncio.wait_for(asyncio.gather(*(connect_and_close(ticks) for _ in range(4))), 3)


@pytest.mark.parametrize("url", ["chat.example", "ftp://chat.example", "ws://"])
def test_refuses_an_invalid_address(url):
    with pytest.raises(RoomlogError, match="is not the address of a server: use one such as"):
        Roomlog(url, token="")


def test_accepts_each_form_of_a_servers_address():
    for url in ("https://chat.example", "https://chat.example/", "wss://chat.example/v1/ws"):
        assert Roomlog(url, token="x")._connection.url == "wss://chat.example/v1/ws"
    assert Roomlog("http://a:1/chat/v1/ws/", token="x")._connection.url == "ws://a:1/chat/v1/ws"


def test_pauses_are_random_and_double_up_to_a_bound():
    connection = Roomlog("ws://localhost", token="x")._connection
    for widest in (0.5, 1, 2, 4, 8, 16, 20, 20):
        attempts = connection._attempts
        pauses = []
        for _ in range(200):
            connection._attempts = attempts
            pauses.append(connection._pause())
        assert 0 <= min(pauses) < widest * 0.2 and widest * 0.8 < max(pauses) <= widest
    connection._retry_after_ms = 1666
    assert connection._pause() == 1.666


async def test_reconnects_to_a_restarting_server_at_the_time_it_asked_for(own, stack):
    relay = await Relay(own.url).start()
    stack.push_async_callback(relay.close)
    asked = []

    def ask_for_a_pause(frame):
        if frame["op"] == "goodbye":
            asked.append(time.monotonic())
            frame["retry_after_ms"] = 800
        return frame

    relay.from_server = ask_for_a_pause
    one = await stack.enter_async_context(Roomlog(relay.url, token=token("ann"), encoding="json", timing=FAST))
    await one.connect()
    await asyncio.to_thread(own.terminate)
    await asyncio.to_thread(own.start)
    await until("it has reconnected", lambda: relay.connections > 1)
    assert time.monotonic() - asked[0] >= 0.79
    await one.connect()


async def test_detects_a_dead_connection_by_its_silence(client, server, stack):
    """The network keeps the connection open, and forwards nothing."""
    upstream: list[asyncio.StreamWriter] = []
    held: list[asyncio.StreamWriter] = []
    silent = False

    async def pump(source, sink):
        while chunk := await source.read(65536):
            if not silent:
                sink.write(chunk)
        sink.close()

    async def accept(reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
        upstream.append(far_writer)
        held.append(writer)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    network = await asyncio.start_server(accept, "127.0.0.1", 0)
    stack.callback(network.close)
    url = f"ws://127.0.0.1:{network.sockets[0].getsockname()[1]}"
    one = client(url, timing=Timing(backoff_min=0.02, backoff_max=0.1, connect=0.5, ping=0.2))
    await one.connect()
    silent = True
    await until("it was given up", lambda: len(held) > 1)
    silent = False
    await one.connect()
    await one.close()


async def test_publishes_are_stored_once_and_in_order_over_kills_of_the_server(own, stack, name):
    """The server is killed and started again while messages are published and read."""
    writer = await stack.enter_async_context(Roomlog(own.url, token=token("ann"), timing=FAST))
    reader = await stack.enter_async_context(Roomlog(own.url, token=token("bob"), timing=FAST))
    count, got = 300, []

    async def read():
        async for message in reader.room(name).messages(since="0"):
            got.append(message)

    async def write():
        publications = []
        for n in range(count):
            publications.append(writer.room(name).publish(n))
            if n % 3 == 0:
                await publications[-1]
        return [await publication for publication in publications]

    reading, writing = asyncio.create_task(read()), asyncio.create_task(write())
    for kills in range(1, 4):
        await until("some are read", lambda kills=kills: len(got) > kills * count / 6)
        await asyncio.to_thread(own.kill)
        await asyncio.to_thread(own.start)
    ids = await writing
    log = own.history(name)
    assert [message["data"] for message in log] == list(range(count))
    assert [message["id"] for message in log] == ids
    await until("all are read", lambda: len(got) >= count or reading.done())
    assert [message.id for message in got] == ids
    reading.cancel()


async def test_a_token_is_fetched_once_for_requests_that_wait_at_the_same_time(client, name):
    asked = []

    def source():
        asked.append(1)
        return token("ann")

    one = client(token=source)
    await asyncio.gather(one.room(f"{name}.a").publish(1), one.room(f"{name}.b").publish(2), one.room(f"{name}.c").history())
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_token_is_renewed_before_it_expires_on_the_same_connection(client, proxy, name, kind, caplog):
    asked = []

    def plain():
        asked.append(1)
        return token("ann", ttl=3)

    async def asynchronous():
        return plain()

    one = client(proxy.url, token=plain if kind == "plain" else asynchronous)
    await one.connect()
    await until("it was renewed", lambda: len(asked) >= 2)
    await one.room(name).publish("still here")
    assert (proxy.connections, caplog.messages) == (1, [])


async def test_a_failing_renewal_is_repeated_until_a_new_token_connects_again(client, proxy, name, caplog):
    asked = []

    def source():
        asked.append(1)
        if 1 < len(asked) < 4:
            raise OSError("the token server is down")
        return token("ann", ttl=2 if len(asked) == 1 else 60)

    one = client(proxy.url, token=source)
    await one.connect()
    await until("it has a new one", lambda: len(asked) == 4)
    await one.room(name).publish("still here")
    assert "the token could not be renewed: application: the token function failed: the token server is down" in caplog.messages


async def test_a_token_that_has_expired_is_replaced(client, caplog):
    asked = []

    def source():
        asked.append(1)
        return token("ann", ttl=-60 if len(asked) == 1 else 60)

    await client(token=source).connect()
    assert len(asked) == 2
    assert any("token_expired" in text for text in caplog.messages)


REFUSALS = [
    ("nonsense", "unauthenticated", "the token is not a JWT signed with HS256, RS256, ES256 or EdDSA"),
    (token("ann") + "x", "unauthenticated", "the token is not signed with an accepted key"),
    (token("ann", aud="other"), "unauthenticated", "the token has an `aud`, and this server has none: its auth.audience must be set"),
    (
        token("ann", exp=1_600_000_000),
        "token_expired",
        "the token expired on 2020-09-13 at 12:26:40 UTC: instead of a text, pass a function as `token`, and the client calls it in"
        " time for a new one",
    ),
]


@pytest.mark.parametrize(("bad", "code", "why"), REFUSALS, ids=["no token", "wrong key", "audience", "expired"])
async def test_a_refused_token_closes_the_client_for_good_with_the_reason(client, proxy, name, bad, code, why):
    one = client(proxy.url, token=bad)
    publication = one.room(name).publish(1)
    messages = one.room(name).messages()
    for waiting in (one.connect(), messages.__anext__(), publication):
        with pytest.raises(RoomlogError) as raised:
            await waiting
        assert raised.value.code == code
        assert raised.value.args[0] == (f"the message is not known to be stored: {why}" if waiting is publication else why)
    assert (one.state, proxy.connections) == ("closed", 1)
    with pytest.raises(RoomlogError, match=f"^{code}: "):
        one.room(name).publish(2)


async def test_a_static_token_that_expires_meanwhile_closes_the_client_with_the_reason(client):
    one = client(token=token("ann", exp=int(time.time()) - 3))  # The server allows 5 s more.
    await one.connect()
    await until("it has expired", lambda: one.state == "closed")
    with pytest.raises(RoomlogError, match=r"^token_expired: the token expired on .* pass a function as `token`"):
        await one.connect()


async def test_a_server_without_websockets_is_reported_with_its_answer(client, stack, caplog):
    """A proxy answers in the place of the server, or a server that accepts no more connections."""
    given = [
        (404, b"<h1>Not Found</h1>", ""),
        (
            429,
            b'{"code": "too_many", "detail": "this node has no room", "retry_after_ms": 10}',
            "content-type: application/problem+json\r\n",
        ),
    ]
    answers = await Answers(lambda path, body: given[0]).start()
    stack.push_async_callback(answers.close)
    caplog.set_level("INFO", "roomlog")
    async with client(answers.url):
        await until("it says so", lambda: "the HTTP status 404: check the address" in caplog.text)
        given.pop(0)
        await until("it says so", lambda: "failed: too_many: this node has no room; trying again in 0.0 s" in caplog.text)


async def test_a_revoked_token_closes_the_client_for_good(client, server, name):
    one = client(token=token("eve", jti="leaked"))
    messages = one.room(name).messages()
    async with messages:
        server.request("POST", "/v1/revocations", {"jti": "leaked"}, rooms={"*": ["manage"]})
        with pytest.raises(RoomlogError) as raised:
            await messages.__anext__()
    assert (raised.value.code, one.state) == ("token_revoked", "closed")
    assert "revoked" in raised.value.args[0] and "code 4502" not in raised.value.args[0]
