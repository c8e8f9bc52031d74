"""The values that applications get: messages, gaps, signals, deletions, pages of the history."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Generic, Literal

from .ids import parse_id

if TYPE_CHECKING:
    # Type checkers bundle this module. `typing` has default types of variables from Python 3.13 on.
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def short(data: object) -> str:
    """Returns the `repr` of a message's content, cut to a length that suits logs."""
    return _short.repr(data)


@dataclass(frozen=True, repr=False)
class Message(Generic[T]):
    """A message of a room. `T` is the type of its content, such as a `TypedDict`: `Any` unless the room has one."""

    room: str
    """The name of the room that it is in."""
    id: str
    """Its id, `<ms>-<seq>`: its time in Unix milliseconds and its number in the room."""
    key: str
    """The UUID that its sender gave it."""
    from_: str
    """The user who published it. (`from` is a keyword of Python.)"""
    type: str
    """Its type, `message` unless the sender chose another."""
    data: T
    """Its content: any JSON value, and `bytes` with MessagePack."""

    @property
    def time(self) -> datetime:
        """When the server stored it, in UTC, to the millisecond."""
        return EPOCH + timedelta(milliseconds=parse_id(self.id)[0])

    def __hash__(self) -> int:
        return hash((self.room, self.id))

    def __repr__(self) -> str:
        type = "" if self.type == "message" else f" of type {self.type!r}"
        return f"<Message {self.id} in {self.room} from {self.from_!r}{type}: {short(self.data)}>"


@dataclass(frozen=True, repr=False)
class Gap:
    """Messages that are no longer available. It has no `data`, so that a loop that treats it as a message fails."""

    room: str
    """The name of the room that they were in."""
    after: str
    """The last id before them."""
    next: str
    """The id at which delivery continues. If that message does not exist yet, the smallest id that it can have."""
    reason: Literal["trimmed", "rewound"]
    """`trimmed`: retention removed them, or they were deleted. `rewound`: the server lost writes that it had confirmed."""

    def __repr__(self) -> str:
        return f"<Gap in {self.room} after {self.after}, before {self.next}: {self.reason}>"


@dataclass(frozen=True, repr=False)
class Signal:
    """A message to the users who are present. It is not stored, and delivered at most once."""

    room: str
    """The name of the room."""
    from_: str
    """The user who sent it."""
    type: str
    """Its type, such as `typing`."""
    data: Any
    """Its content: any JSON value, and `bytes` with MessagePack."""

    def __repr__(self) -> str:
        return f"<Signal {self.type!r} in {self.room} from {self.from_!r}: {short(self.data)}>"


@dataclass(frozen=True)
class Deleted:
    """The deletion of a message, reported to the users who are present, at most once. A loop that reads the log later gets a `Gap`."""

    room: str
    """The name of the room."""
    id: str
    """The id of the deleted message."""
    by: str
    """The user who deleted it."""


@dataclass(frozen=True)
class HistoryPage(Generic[T]):
    """A part of a room's history."""

    messages: list[Message[T]]
    """The messages, in ascending order."""
    more: bool
    """Whether there are more in the requested direction."""
    head: str
    """The newest id of the room, `0-0` if it never had a message."""
    gap: Gap | None
    """The first place in the page where messages are missing."""
