"""Loops over a room's messages: their start, their continuation, and their end."""

import asyncio
import gc

import pytest
from harness import token, until

from roomlog import Deleted, Gap, Message, RoomlogError, Signal


def fill(server, room, count, start=0):
    answers = server.request("POST", "/v1/messages", [{"room": room, "data": n} for n in range(start, start + count)])
    return [answer["id"] for answer in answers]


async def take(messages, count):
    return [await asyncio.wait_for(messages.__anext__(), 30) for _ in range(count)]


def position(server, room):
    """Returns the position of the room's only durable subscription."""
    [subscription] = server.request("GET", f"/v1/rooms/{room}/subscriptions")
    return subscription["position"]


def data(messages):
    return [message.data for message in messages]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize(("begin", "expected"), [("oldest", [0, 1, 2, 3]), ("id", [2, 3]), ("last", [1, 2, 3]), ("new", [])])
async def test_begins_at_the_position_of_its_options(client, server, name, encoding, begin, expected):
    ids = fill(server, name, 4)
    options = {"oldest": {"since": "0"}, "id": {"since": ids[1]}, "last": {"last": 3}, "new": {}}[begin]
    room = client(encoding=encoding).room(name)
    async with room.messages(**options) as messages:
        publication = room.publish("new", type="note")
        got = await take(messages, len(expected) + 1)
        assert data(got) == [*expected, "new"]
        assert got[-1] == Message(name, await publication, publication.key, "ann", "note", "new")


async def test_continues_after_the_last_handled_message(client, server, name):
    ids = fill(server, name, 4)
    room = client().room(name)
    messages = room.messages(since="0")
    assert messages.position is None
    assert data(await take(messages, 2)) == [0, 1]
    # The second message is not handled before the loop asks for the third.
    assert messages.position == ids[0]
    await messages.aclose()
    assert data(await take(room.messages(since=messages.position), 3)) == [1, 2, 3]
    with pytest.raises(StopAsyncIteration):
        await messages.__anext__()


async def test_continues_after_a_lost_connection_once_and_in_order(client, proxy, server, name):
    fill(server, name, 10)
    room = client(proxy.url).room(name)
    async with room.messages(since="0") as messages:
        got = await take(messages, 3)
        proxy.go_offline()
        fill(server, name, 10, start=10)
        proxy.go_online()
        got += await take(messages, 17)
        assert data(got) == list(range(20))
    assert proxy.connections > 1


@pytest.mark.parametrize("options", [{}, {"durable": "bot", "auto_ack": True}], ids=["plain", "durable"])
async def test_a_slow_loop_gets_every_message_and_buffers_at_most_a_thousand(client, server, name, options):
    for start in range(0, 5000, 1000):
        fill(server, name, 1000, start)
    one = client()
    room = one.room(name)
    async with room.messages(since="0", **options) as messages:
        subscription = messages._subscription
        await until("the room is unsubscribed", lambda: subscription.reading == "away")
        assert len(subscription._queue) == 1000
        got = []
        async for message in messages:
            got.append(message.data)
            assert len(subscription._queue) <= 1000
            if len(got) == 5000:
                break
    assert got == list(range(5000))


async def test_a_gap_takes_the_place_of_deleted_messages(client, server, name):
    ids = fill(server, name, 4)
    for id in ids[1:3]:
        server.request("DELETE", f"/v1/rooms/{name}/messages/{id}", rooms={"*": ["manage"]})
    room = client().room(name)
    first, gap, last = await take(room.messages(since="0"), 3)
    assert (first.data, gap, last.data) == (0, Gap(name, ids[0], ids[3], "trimmed"), 3)
    with pytest.raises(AttributeError):
        gap.data  # noqa: B018
    page = await room.history(after="0")
    assert ([m.data for m in page.messages], page.gap, page.more, page.head) == ([0, 3], gap, False, ids[3])


async def test_history_is_read_in_pages(client, server, name):
    ids = fill(server, name, 5)
    room = client(encoding="json").room(name)
    newest = await room.history(limit=2)
    assert (data(newest.messages), newest.more, newest.gap) == ([3, 4], True, None)
    assert data((await room.history(before=newest.messages[0].id, limit=2)).messages) == [1, 2]
    assert data((await room.history(after=ids[3])).messages) == [4]
    with pytest.raises(RoomlogError) as raised:
        await room.history(limit=0)
    assert raised.value.code == "bad_request"


async def test_a_hole_without_a_gap_frame_is_noticed_and_filled(client, relay, server, name):
    room = client(relay.url, encoding="json").room(name)
    async with room.messages() as messages:
        lost = []

        def lose_the_second(frame):
            if frame["op"] == "message" and frame["data"] == 1 and not lost:
                return lost.append(frame)
            return frame

        relay.from_server = lose_the_second
        fill(server, name, 4)
        got = await take(messages, 4)
        assert lost and data(got) == [0, 1, 2, 3]
    assert relay.ops("subscribe")[1]["since"] == got[0].id


async def test_a_durable_subscription_continues_after_the_acknowledged_messages(client, server, name):
    ids = fill(server, name, 6)
    one = client()
    room = one.room(name)
    async with room.messages(durable="bot", since="0") as messages:
        got = await take(messages, 3)
        room.ack(got[1])
    await one.close()
    room = client().room(name)
    async with room.messages(durable="bot", auto_ack=True) as messages:
        assert data(await take(messages, 3)) == [2, 3, 4]
    room = client().room(name)
    async with room.messages(durable="bot") as messages:
        assert data(await take(messages, 2)) == [4, 5]
        assert position(server, name) == ids[3]
        await messages.aclose(forget=True)
    await until("it is forgotten", lambda: server.request("GET", f"/v1/rooms/{name}/subscriptions") == [])


async def test_an_acknowledgement_survives_a_lost_connection(client, proxy, server, name):
    ids = fill(server, name, 3)
    room = client(proxy.url).room(name)
    async with room.messages(durable="bot", since="0") as messages:
        got = await take(messages, 3)
        proxy.go_offline()
        room.ack(got[-1])
        await until("the acknowledgement could not be sent", lambda: not messages._subscription._ack_timer)
        proxy.go_online()
        await until("the server has it", lambda: position(server, name) == ids[-1])


async def test_the_newest_loop_takes_a_durable_subscription_and_the_older_ends(client, server, name):
    fill(server, name, 3)
    older = client().room(name).messages(durable="bot", since="0", auto_ack=True)
    first, second = await take(older, 2)
    assert (first.data, second.data) == (0, 1)
    await until("the first is acknowledged", lambda: position(server, name) == first.id)
    newer_room = client().room(name)
    async with newer_room.messages(durable="bot") as newer:
        assert data(await take(newer, 2)) == [1, 2]
        with pytest.raises(RoomlogError) as raised:
            await take(older, 3)
        assert raised.value.code == "replaced"
        assert older.state == "ended"
        await newer_room.publish("after")
        assert data(await take(newer, 1)) == ["after"]


async def test_a_newer_loop_of_the_same_client_takes_over(client, server, name):
    fill(server, name, 2)
    room = client().room(name)
    older = room.messages(since="0")
    assert data(await take(older, 2)) == [0, 1]
    waiting = asyncio.create_task(older.__anext__())
    newer = room.messages(since="0")
    assert data(await take(newer, 2)) == [0, 1]
    with pytest.raises(RoomlogError) as raised:
        await waiting
    assert raised.value.code == "replaced"
    await room.publish("after")
    assert data(await take(newer, 1)) == ["after"]


async def test_a_loop_left_by_break_is_unsubscribed(client, server, name):
    fill(server, name, 2)
    one = client()
    async for message in one.room(name).messages(since="0"):
        assert message.data == 0
        break
    gc.collect()
    await until("nobody subscribes", lambda: server.request("GET", f"/v1/rooms/{name}")["subscribers"] == 0)
    assert one._rooms.subscription(name) is None


async def test_a_refusal_ends_the_loop(client, name):
    some = client(token=token("ann", rooms={"open.*": ["read"]}))
    with pytest.raises(RoomlogError) as raised:
        async for _ in some.room(name).messages():
            pass
    assert raised.value.code == "forbidden"
    for options, code in [({"since": "0", "last": 1}, "bad_request"), ({"auto_ack": True}, "not_durable")]:
        with pytest.raises(RoomlogError) as raised:
            some.room(name).messages(**options)
        assert raised.value.code == code
    with pytest.raises(RoomlogError) as raised:
        some.room(name).ack("1-1")
    assert raised.value.code == "not_subscribed"


async def test_a_room_that_is_deleted_ends_the_loop(client, server, name):
    fill(server, name, 1)
    messages = client().room(name).messages(since="0")
    await take(messages, 1)
    server.request("DELETE", f"/v1/rooms/{name}", rooms={"*": ["manage"]})
    with pytest.raises(RoomlogError) as raised:
        await take(messages, 1)
    assert raised.value.code == "deleted"


async def test_closing_the_client_ends_the_loop_without_an_error(client, server, name):
    one = client()
    got = []

    async def loop():
        async for message in one.room(name).messages(since="0"):
            got.append(message)

    fill(server, name, 1)
    looping = asyncio.create_task(loop())
    await until("it runs", lambda: got)
    await one.close()
    await looping


async def test_signals_reach_the_users_who_are_present(client, name):
    ann, bob = client().room(name), client(token=token("bob"), encoding="json").room(name)
    async with ann.messages(), bob.messages():
        signals = ann.signals()
        heard = asyncio.ensure_future(signals.__anext__())
        await until("ann listens", lambda: ann._rooms._listeners)
        bob.signal("typing", {"since": 1})
        signal = await asyncio.wait_for(heard, 30)
        assert (signal.room, signal.from_, signal.type, signal.data) == (name, "bob", "typing", {"since": 1})
        bob.signal("typing", 1, to="nobody")
        bob.signal("typing", 2, to="ann")
        assert (await asyncio.wait_for(signals.__anext__(), 30)).data == 2
        await signals.aclose()
    with pytest.raises(RoomlogError):
        ann.signal("typing", {1})


async def test_a_deletion_reaches_those_who_are_present_apart_from_signals(client, server, name):
    [id] = fill(server, name, 1)
    ann, bob = client().room(name), client(token=token("bob"), encoding="json").room(name)
    async with ann.messages(), bob.messages():
        signals = ann.signals()
        heard = asyncio.ensure_future(signals.__anext__())
        await until("ann listens", lambda: ann._rooms._listeners)
        # A user cannot pretend to be the server.
        bob.signal("$deleted", {"id": id})
        assert await asyncio.wait_for(heard, 30) == Signal(name, "bob", "$deleted", {"id": id})
        server.request("DELETE", f"/v1/rooms/{name}/messages/{id}", rooms={"*": ["manage"]})
        assert await asyncio.wait_for(signals.__anext__(), 30) == Deleted(name, id, "checker")
        await signals.aclose()


async def test_unknown_signals_of_the_server_are_ignored(client, relay, name):
    """A later version of the server sends them."""

    def newer(frame):
        return {**frame, "sys": True} if frame.get("type") == "$newer" else frame

    relay.from_server = newer
    ann, bob = client(relay.url, encoding="json").room(name), client(token=token("bob")).room(name)
    async with ann.messages(), bob.messages():
        signals = ann.signals()
        heard = asyncio.ensure_future(signals.__anext__())
        await until("ann listens", lambda: ann._rooms._listeners)
        bob.signal("$newer", {"what": 1})
        bob.signal("typing", True)
        assert (await asyncio.wait_for(heard, 30)).type == "typing"
        await signals.aclose()
