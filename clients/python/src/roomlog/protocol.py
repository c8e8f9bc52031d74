"""The wire protocol, version 1: both encodings, and the values that frames carry."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgpack

from .errors import RoomlogError
from .types import Deleted, Gap, HistoryPage, Message, Signal

Encoding = Literal["json", "msgpack"]
"""The encoding of frames: `json` has no binary data, and is readable."""

Frame = dict[str, Any]

Payload = str | bytes


def message_of(frame: Frame) -> Message[Any]:
    return Message(frame["room"], frame["id"], frame["key"], frame["from"], frame["type"], frame["data"])


def gap_of(room: str, frame: Frame) -> Gap:
    return Gap(room, frame["after"], frame["next"], frame["reason"])


def signal_of(frame: Frame) -> Signal | Deleted | None:
    """Returns the meaning of a `signal` frame: None if it is the server's own, and of a kind that this version does not know."""
    room, sender, type, data = frame["room"], frame["from"], frame["type"], frame["data"]
    if not frame.get("sys"):
        return Signal(room, sender, type, data)
    return Deleted(room, data["id"], sender) if type == "$deleted" else None


def page_of(room: str, ok: Frame) -> HistoryPage[Any]:
    gap = ok.get("gap")
    messages = [message_of({"room": room, **message}) for message in ok["messages"]]
    return HistoryPage(messages, ok["more"], ok["head"], gap and gap_of(room, gap))


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
