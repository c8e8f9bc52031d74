"""The wire protocol, version 1: messages and the like as types, message ids, and both encodings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import msgpack

from .errors import RoomlogError

Encoding = Literal["json", "msgpack"]

Frame = dict[str, Any]

Payload = str | bytes


@dataclass(frozen=True)
class Message:
    """A message of a room."""

    room: str
    """The room that it is in."""
    id: str
    """Its id, `<ms>-<seq>`: its time in Unix milliseconds and its number in the room."""
    key: str
    """The UUID that its sender gave it."""
    from_: str
    """The user who published it. (`from` is a keyword of Python.)"""
    type: str
    """Its type, `message` unless the sender chose another."""
    data: Any
    """Its content: any JSON value, and `bytes` with MessagePack."""


@dataclass(frozen=True)
class Gap:
    """Messages that are no longer available. It has no `data`, so that a loop that treats it as a message fails."""

    room: str
    after: str
    """The last id before them."""
    next: str
    """The id at which delivery continues. If that message does not exist yet, the smallest id that it can have."""
    reason: str
    """`trimmed`: retention removed them, or they were deleted. `rewound`: the server lost writes that it had confirmed."""


@dataclass(frozen=True)
class Signal:
    """A message to the users who are present. It is not stored, and delivered at most once."""

    room: str
    from_: str
    type: str
    data: Any


@dataclass(frozen=True)
class HistoryPage:
    """A part of a room's history."""

    messages: list[Message]
    """In ascending order."""
    more: bool
    """Whether there are more in the requested direction."""
    head: str
    """The newest id of the room."""
    gap: Gap | None
    """The first place in the page where messages are missing."""


def message_of(frame: Frame) -> Message:
    return Message(frame["room"], frame["id"], frame["key"], frame["from"], frame["type"], frame["data"])


def gap_of(room: str, frame: Frame) -> Gap:
    return Gap(room, frame["after"], frame["next"], frame["reason"])


def signal_of(frame: Frame) -> Signal:
    return Signal(frame["room"], frame["from"], frame["type"], frame["data"])


def page_of(room: str, ok: Frame) -> HistoryPage:
    gap = ok.get("gap")
    messages = [message_of({"room": room, **message}) for message in ok["messages"]]
    return HistoryPage(messages, ok["more"], ok["head"], gap and gap_of(room, gap))


def parse_id(id: str) -> tuple[int, int]:
    """Returns an id's two numbers, which compare as ids do."""
    ms, _, seq = id.partition("-")
    return int(ms), int(seq)


def is_after(id: str, position: str) -> bool:
    return parse_id(id) > parse_id(position)


def before(id: str) -> str:
    """Returns the position right before a message."""
    ms, seq = parse_id(id)
    return f"{ms}-{seq - 1}"


def follows(position: str, id: str) -> bool:
    """Tells whether `id` comes right after `position`, with nothing between them."""
    return is_after(id, position) and parse_id(id)[1] == parse_id(position)[1] + 1


class JsonCodec:
    encoding: Encoding = "json"

    def encode(self, value: object) -> Payload:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def decode(self, payload: Payload) -> Any:
        return json.loads(payload)


class MsgpackCodec:
    encoding: Encoding = "msgpack"

    def encode(self, value: object) -> Payload:
        packed: bytes = msgpack.packb(value)
        return packed

    def decode(self, payload: Payload) -> Any:
        return msgpack.unpackb(payload)


Codec = JsonCodec | MsgpackCodec


def codec_of(encoding: Encoding) -> Codec:
    if encoding == "msgpack":
        return MsgpackCodec()
    if encoding == "json":
        return JsonCodec()
    raise RoomlogError("bad_request", f'{encoding!r} is not an encoding: use "msgpack" or "json"')


def frames_of(decoded: Any) -> list[Frame]:
    """Returns the frames of one WebSocket message."""
    frames = decoded if isinstance(decoded, list) else [decoded]
    for frame in frames:
        if not isinstance(frame, dict) or not isinstance(frame.get("op"), str):
            raise RoomlogError("bad_frame", "the server sent something that is not a frame")
    return frames
