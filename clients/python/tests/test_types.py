"""Messages and the like as values, and as type checkers see them."""

import copy
from datetime import datetime, timedelta, timezone
from pathlib import Path

import mypy.api
import pytest

from roomlog import Deleted, Gap, Message, Roomlog, Signal

MESSAGE = Message("chat.general", "1795331063141-7", "0b9d9b2e-6a52-4f0e-9d3a-6d3c1f0c7a11", "ann", "message", {"text": "hi"})


def test_type_checkers_know_the_content_of_typed_rooms():
    usage = Path(__file__).parent / "typed_usage.py"
    report, errors, status = mypy.api.run(["--strict", "--config-file=", "--no-incremental", str(usage)])
    assert (errors, status) == ("", 0), report


def test_the_time_of_a_message_is_that_of_its_id():
    assert MESSAGE.time == datetime(2026, 11, 22, 7, 4, 23, 141000, timezone.utc)
    assert MESSAGE.time.utcoffset() == timedelta(0)


async def test_the_time_of_a_message_is_now(client, name):
    room = client().room(name)
    await room.publish(1)
    [message] = (await room.history()).messages
    assert abs(message.time - datetime.now(timezone.utc)) < timedelta(seconds=30)


def test_values_are_compared_by_content_and_hashable():
    same = copy.deepcopy(MESSAGE)
    assert same == MESSAGE and len({same, MESSAGE}) == 1
    assert MESSAGE != Message("chat.general", MESSAGE.id, MESSAGE.key, "ann", "message", {"text": "ho"})
    gap = Gap("chat.general", "1-1", "1-3", "trimmed")
    assert {gap: 1}[Gap("chat.general", "1-1", "1-3", "trimmed")] == 1
    one, other = Roomlog("ws://a", token="x"), Roomlog("ws://a", token="x")
    assert one.room("a") == one.room("a") and hash(one.room("a")) == hash(one.room("a"))
    assert one.room("a") != one.room("b") and one.room("a") != other.room("a")
    with pytest.raises(AttributeError):
        MESSAGE.data = 1


async def test_representations_say_what_matters_and_are_short(client, name):
    assert repr(MESSAGE) == "<Message 1795331063141-7 in chat.general from 'ann': {'text': 'hi'}>"
    note = Message("a", "1-1", "k", "ann", "note", "x" * 10_000)
    assert repr(note).startswith("<Message 1-1 in a from 'ann' of type 'note': 'xxx") and len(repr(note)) < 120
    assert repr(Gap("a", "1-1", "1-3", "trimmed")) == "<Gap in a after 1-1, before 1-3: trimmed>"
    assert repr(Signal("a", "ann", "typing", True)) == "<Signal 'typing' in a from 'ann': True>"
    assert repr(Deleted("a", "1-1", "ops")) == "Deleted(room='a', id='1-1', by='ops')"
    one = client()
    url = one._connection.url
    room = one.room(name)
    assert repr(one) == f"<Roomlog at {url}: idle>"
    publication = room.publish(1)
    assert repr(publication) == f"<Publication {publication.key} to {name}: sending>"
    id = await publication
    assert repr(publication) == f"<Publication {publication.key} to {name}: sent ({id})>"
    assert repr(room) == f"<Room {name} on <Roomlog at {url} as 'ann': open>>"
