"""Publishing: without waiting, in order and exactly once, whatever fails in between."""

import asyncio
import datetime
import re

import pytest
from harness import token, until

from roomlog import RoomlogError


async def test_returns_a_publication_at_once_and_its_id_when_it_is_stored(client, server, name):
    room = client().room(name)
    publication = room.publish({"text": "hi"})
    assert (publication.state, publication.room, publication.type, publication.data) == ("sending", name, "message", {"text": "hi"})
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", publication.key)
    assert room.pending == [publication]
    id = await publication
    assert (publication.state, publication.id, room.pending) == ("sent", id, [])
    assert [(m["id"], m["key"], m["from"]) for m in server.history(name)] == [(id, publication.key, "ann")]


async def test_the_same_key_is_stored_once(client, server, name):
    room = client().room(name)
    key = "0b9d9b2e-6a52-4f0e-9d3a-6d3c1f0c7a11"
    first = room.publish("one", key=key)
    assert room.publish("one", key=key) is first
    id = await first
    assert await room.publish("one", key=key) == id
    assert await client(encoding="json").room(name).publish("one", key=key) == id
    # A key belongs to a room.
    other = client().room(f"{name}.other")
    assert await asyncio.gather(*(to.publish(2, key="5e0c4d8e-8f43-4d5e-9d0b-0d5b5cf6a001") for to in (room, other)))
    assert (server.data(name), server.data(other.name)) == (["one", 2], [2])


async def test_queues_messages_in_order_without_a_connection_and_lets_them_be_cancelled(client, proxy, server, name):
    proxy.go_offline()
    room = client(proxy.url).room(name)
    publications = [room.publish(n) for n in (1, 2, 3, 4)]
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(publications[0], 0.05)
    assert publications[1].cancel()
    assert not publications[1].cancel()
    assert publications[1].state == "cancelled"
    with pytest.raises(RoomlogError, match="cancelled"):
        await publications[1]
    proxy.go_online()
    await asyncio.gather(*(publications[i] for i in (0, 2, 3)))
    assert not publications[0].cancel()
    assert server.data(name) == [1, 3, 4]


async def test_raises_outbox_full_when_too_many_messages_wait(client, proxy, server, name):
    proxy.go_offline()
    room = client(proxy.url, outbox_limit=2).room(name)
    waiting = [room.publish(n) for n in (1, 2)]
    with pytest.raises(RoomlogError, match="2 messages are waiting to be confirmed, and the outbox takes no more") as raised:
        room.publish(3)
    assert raised.value.code == "outbox_full"
    proxy.go_online()
    await asyncio.gather(*waiting)
    await room.publish(4)
    assert server.data(name) == [1, 2, 4]


async def test_keeps_the_order_when_one_of_several_messages_is_refused_temporarily(client, relay, server, name):
    refused = []

    def unconfirmed(frame):
        """Refuses the first message, as if Redis had not confirmed it."""
        if frame["op"] != "ok" or "id" not in frame or refused:
            return frame
        refused.append(frame)
        return {"op": "error", "ref": frame["ref"], "code": "unavailable", "message": "again", "retry_after_ms": 50}

    relay.from_server = unconfirmed
    room = client(relay.url, encoding="json").room(name)
    await asyncio.gather(*(room.publish(n) for n in (1, 2, 3)))
    assert refused and server.data(name) == [1, 2, 3]


async def test_refuses_data_that_cannot_be_sent_and_names_the_part(client, server, name):
    room = client(encoding="json").room(name)
    deep: object = 1
    for _ in range(33):
        deep = [deep]
    cases = [
        (
            {"at": datetime.date(2026, 1, 1)},
            "data.at cannot be sent: an instance of date is not plain data; send the result of `isoformat()`",
        ),
        ({"list": [1, float("nan")]}, "data.list[1] cannot be sent: nan is not a finite number"),
        ({"set": {1}}, "data.set cannot be sent: an instance of set is not plain data"),
        ({1: 2}, "data cannot be sent: the key 1 is not a str"),
        ([2**64], f"data[0] cannot be sent: {2**64} is outside the range -2^63 to 2^64-1; send it as text"),
        ("\ud83d", "data cannot be sent: '\\ud83d' contains half a surrogate pair"),
        (b"x", 'data cannot be sent: binary data needs a client with the encoding "msgpack"'),
        (deep, f"data{'[0]' * 32} cannot be sent: it is nested more than 32 levels deep"),
    ]
    for data, message in cases:
        with pytest.raises(RoomlogError) as raised:
            room.publish(data)
        assert (raised.value.code, raised.value.args[0]) == ("bad_request", message)
    for size in (70_000, 2_000_000):
        with pytest.raises(RoomlogError) as raised:
            await room.publish("x" * size)
        assert raised.value.code == "too_large"
    with pytest.raises(RoomlogError) as raised:
        await room.publish("x", key="no UUID")
    assert raised.value.code == "bad_request"
    # None of this broke the connection or blocked the room.
    await room.publish("fine")
    assert server.data(name) == ["fine"]


async def test_copies_the_data_so_that_later_changes_are_not_sent(client, server, name):
    room = client().room(name)
    data = {"n": 1, "bytes": b"\x89PNG"}
    publication = room.publish(data)
    data["n"] = 2
    await publication
    assert server.data(name) == [{"n": 1, "bytes": "iVBORw=="}]
    assert (await room.history()).messages[0].data == {"n": 1, "bytes": b"\x89PNG"}


async def test_a_forbidden_message_fails_without_blocking_other_rooms(client, server, name):
    some = client(token=token("ann", rooms={"open.*": ["write"]}))
    with pytest.raises(RoomlogError) as raised:
        await some.room(name).publish(1)
    assert raised.value.code == "forbidden"
    await some.room(f"open.{name}").publish(2)
    assert server.data(f"open.{name}") == [2]


async def test_closing_fails_the_messages_that_wait(client, proxy, name):
    proxy.go_offline()
    one = client(proxy.url)
    publication = one.room(name).publish(1)
    await one.close()
    with pytest.raises(RoomlogError, match="the message is not known to be stored: the client is closed"):
        await publication
    with pytest.raises(RoomlogError, match="closed"):
        one.room(name).publish(2)


async def unanswered(relay, server, room):
    """Publishes a message that is stored, loses every frame that would confirm it, and cuts the client off."""

    def swallow(frame):
        return None if frame["op"] == "message" or (frame["op"] == "ok" and "id" in frame) else frame

    relay.from_server = swallow
    publication = room.publish("once")
    await until("it is stored", lambda: "once" in server.data(room.name))
    relay.silent = True
    relay.cut()
    return publication


async def forgotten(server):
    """Waits until the server has forgotten the keys that it knows now."""
    room, key = "forgotten", "19e792c1-94b0-47cc-81f5-f2ece617fb95"
    body = {"data": 1, "key": key}
    first = server.request("POST", f"/v1/rooms/{room}/messages", body)["id"]
    await until("a known key is stored again", lambda: server.request("POST", f"/v1/rooms/{room}/messages", body)["id"] != first)


def restore(relay):
    relay.silent = False
    relay.from_server = lambda frame: frame
    relay.cut()


async def test_a_message_is_stored_once_after_a_long_absence(client, relay, server, name):
    room = client(relay.url, encoding="json").room(name)
    async with room.messages() as messages:
        await until("it is live", lambda: messages.state == "live")
        publication = await unanswered(relay, server, room)
        await forgotten(server)
        restore(relay)
        message = await messages.__anext__()
        assert (message.data, await publication) == ("once", message.id)
    assert server.data(name) == ["once"]
    # The backlog confirmed it.
    assert (len(relay.ops("publish")), relay.ops("history")) == (1, [])


async def test_a_message_is_found_in_the_history_after_a_long_absence_without_a_loop(client, relay, server, name):
    room = client(relay.url, encoding="json").room(name)
    async with room.messages() as messages:
        await until("it is live", lambda: messages.state == "live")
        publication = await unanswered(relay, server, room)
    await forgotten(server)
    restore(relay)
    await publication
    assert server.data(name) == ["once"]
    assert len(relay.ops("publish")) == 1


async def test_a_message_is_found_after_a_long_absence_in_a_room_that_is_only_published_to(client, relay, server, name):
    room = client(relay.url, encoding="json").room(name)
    await room.publish("before")
    publication = await unanswered(relay, server, room)
    await forgotten(server)
    restore(relay)
    await publication
    assert server.data(name) == ["before", "once"]


async def test_a_loop_can_await_its_own_message_while_its_buffer_is_full(client, relay, server, name):
    """A publish was lost, more messages than fit arrived since, and the loop's body awaits the publication."""
    room = client(relay.url, encoding="json").room(name)
    async with room.messages() as messages:
        await until("it is live", lambda: messages.state == "live")
        relay.silent = True
        publication = room.publish("mine")
        await until("it was sent", lambda: relay.ops("publish"))
        relay.cut()
        for _ in range(3):
            server.request("POST", "/v1/messages", [{"room": name, "data": n} for n in range(500)])
        relay.silent = False
        await messages.__anext__()
        id = await publication
        got = [await messages.__anext__() for _ in range(1500)]
        assert [message.data for message in got] == [*range(1, 500), *range(500), *range(500), "mine"]
        assert got[-1].id == id
    assert server.data(name).count("mine") == 1
