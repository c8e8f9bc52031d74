"""Programs as type checkers see them: never run, but checked by `test_types.py`. An unexpected error fails, and so does a missing one,
since an unused `type: ignore` is an error."""

from typing import Any, TypedDict

from typing_extensions import assert_type

from roomlog import Deleted, Gap, HistoryPage, Message, Publication, Room, Roomlog, Signal, sync


class ChatMessage(TypedDict):
    text: str


async def content_is_any_by_default(client: Roomlog) -> None:
    room = client.room("chat.general")
    await room.publish({"text": 1})
    async for message in room.messages():
        if not isinstance(message, Gap):
            assert_type(message.data, Any)


async def content_has_the_type_of_the_room(client: Roomlog) -> None:
    room: Room[ChatMessage] = client.room("chat.general")
    assert_type(room.publish({"text": "hi"}), Publication[ChatMessage])
    room.publish({"txt": "hi"})  # type: ignore[typeddict-item, typeddict-unknown-key]
    room.publish("hi")  # type: ignore[arg-type]
    assert_type(await room.publish({"text": "hi"}), str)
    assert_type(await room.history(), HistoryPage[ChatMessage])
    async with room.messages(last=50) as messages:
        async for message in messages:
            print(message.data)  # type: ignore[union-attr]
            if isinstance(message, Gap):
                continue
            assert_type(message, Message[ChatMessage])
            assert_type(message.data["text"], str)
            print(message.data["txt"])  # type: ignore[typeddict-item]
    async for signal in room.signals():
        assert_type(signal, Signal | Deleted)


def threads_have_the_same_types(client: sync.Roomlog) -> None:
    room: sync.Room[ChatMessage] = client.room("chat.general")
    assert_type(room.publish({"text": "hi"}, timeout=5), str)
    room.publish({"text": 1})  # type: ignore[typeddict-item]
    assert_type(room.submit({"text": "hi"}), sync.Publication[ChatMessage])
    assert_type(room.history(limit=5), HistoryPage[ChatMessage])
    with room.messages() as messages:
        for message in messages:
            if not isinstance(message, Gap):
                assert_type(message.data, ChatMessage)
    for signal in room.signals():
        assert_type(signal, Signal | Deleted)


def functions_name_what_they_take(message: Message, typed: Message[ChatMessage]) -> None:
    assert_type(message.data, Any)
    assert_type(typed.data, ChatMessage)
