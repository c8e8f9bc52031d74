"""The client for programs without asyncio, such as Flask and Django apps, Celery workers and scripts.

The names are those of `roomlog`, and the methods wait instead of being awaited. A client may be used by several threads. It connects in a
thread of its own, which starts with the first use:

```python
from roomlog.sync import Roomlog

client = Roomlog("https://chat.example", token=fetch_token)
client.room("chat.general").publish({"text": "hi"}, timeout=5)
```

Every `timeout` is in seconds, and without one a method waits for as long as it takes. A method that has waited for that long raises
`TimeoutError`. All else is as in asyncio: what happens to connections, messages and errors, and the client is driven by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from . import client, publication, room
from .background import Background
from .connection import ConnectionState, Timing
from .errors import RoomlogError
from .protocol import Encoding
from .publication import PublicationState
from .store import SqliteOutbox
from .subscription import SubscriptionState
from .tokens import TokenSource
from .types import Deleted, Gap, HistoryPage, Message, Signal, T

__all__ = ["Messages", "Publication", "Room", "Roomlog", "Signals"]

I = TypeVar("I")  # noqa: E741


class Roomlog:
    """A client of one server, for one user. The parameters are those of `roomlog.Roomlog`.

    A client that is used, and then inherited by a child process, raises `RoomlogError` with the code `forked` there. A client that is only
    created before the fork is fine: its thread and its connection begin with the first use.

    At the end of the program, acknowledgements are still sent, as by `close()`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: TokenSource,
        encoding: Encoding = "msgpack",
        outbox: SqliteOutbox | None = None,
        outbox_limit: int = 1000,
        timing: Timing | None = None,
    ) -> None:
        self._client = client.Roomlog(url, token=token, encoding=encoding, outbox=outbox, outbox_limit=outbox_limit, timing=timing)
        self._background = Background(self._client.close)
        self._end = weakref.finalize(self, self._background.end)

    def __repr__(self) -> str:
        return repr(self._client)

    @property
    def state(self) -> ConnectionState:
        """As `roomlog.Roomlog.state`."""
        return self._client.state

    @property
    def user(self) -> str | None:
        """The user whom the token names, once connected."""
        return self._client.user

    def room(self, name: str) -> Room[Any]:
        """Returns a room, to publish to and to follow. Annotate it to have its content checked: `room: Room[ChatMessage] = …`."""
        return Room(self, name)

    def connect(self, *, timeout: float | None = None) -> None:
        """Connects now, instead of when it is first needed, and waits until that is done. Raises `RoomlogError` if the server refuses
        this user."""
        self._background.call(self._client.connect, timeout)

    def close(self) -> None:
        """Ends the client, after its acknowledgements are sent. Messages that are not confirmed fail with the code `closed`, and loops
        end."""
        self._end()

    def __enter__(self) -> Roomlog:
        """Begins to connect, without waiting for it."""
        self._background.call(self._client.__aenter__)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Publication(Generic[T]):
    """A message that was submitted, from `room.submit(data)`."""

    def __init__(self, publication: publication.Publication[T], background: Background) -> None:
        self._publication, self._background = publication, background

    def __repr__(self) -> str:
        return repr(self._publication)

    @property
    def key(self) -> str:
        """The message's UUID. The message that comes back through the room has the same."""
        return self._publication.key

    @property
    def state(self) -> PublicationState:
        """As `roomlog.Publication.state`."""
        return self._publication.state

    @property
    def id(self) -> str | None:
        """The message's id, once it is `sent`."""
        return self._publication.id

    @property
    def error(self) -> RoomlogError | None:
        """Why it `failed`."""
        return self._publication.error

    def result(self, timeout: float | None = None) -> str:
        """Waits until the message is stored, and returns its id. `TimeoutError` does not withdraw the message: `cancel()` does."""

        async def result() -> str:
            return await self._publication

        return self._background.call(result, timeout)

    def cancel(self) -> bool:
        """Withdraws the message, if it has not been sent. Otherwise returns False: it may be stored already."""

        async def cancel() -> bool:
            return self._publication.cancel()

        return self._background.call(cancel)


class Room(Generic[T]):
    """A room, from `client.room(name)`. It is cheap: the same room can be made repeatedly. `T` is the type of its messages' content."""

    name: str
    """The room's name."""

    def __init__(self, client: Roomlog, name: str) -> None:
        self.name = name
        # Keeps the client from being collected, and with it its thread.
        self._client = client
        self._background = client._background
        self._room: room.Room[T] = client._client.room(name)

    def __repr__(self) -> str:
        return repr(self._room)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Room) and self._room == other._room

    def __hash__(self) -> int:
        return hash(self._room)

    def publish(self, data: T, *, type: str = "message", key: str | None = None, timeout: float | None = None) -> str:
        """Publishes a message, waits until it is stored, and returns its id.

        `TimeoutError` does not withdraw the message, which may be stored later. To try again, publish with the same `key`, a UUID: it is
        stored once. Errors are those of `roomlog.Room.publish`.
        """

        async def publish() -> str:
            return await self._room.publish(data, type=type, key=key)

        return self._background.call(publish, timeout)

    def submit(self, data: T, *, type: str = "message", key: str | None = None) -> Publication[T]:
        """Publishes a message without waiting until it is stored. The client must not be closed before, unless an outbox keeps it."""

        async def submit() -> publication.Publication[T]:
            return self._room.publish(data, type=type, key=key)

        return Publication(self._background.call(submit), self._background)

    @property
    def pending(self) -> list[Publication[T]]:
        """This client's unconfirmed messages to the room, in order."""
        return [Publication(pending, self._background) for pending in self._room.pending]

    def messages(
        self,
        *,
        since: str | None = None,
        last: int | None = None,
        durable: str | None = None,
        auto_ack: bool = False,
        timeout: float | None = None,
    ) -> Messages[T]:
        """Returns the room's messages, for a `for` loop. The options are those of `roomlog.Room.messages`. `timeout` is the longest wait
        for each item: the loop may be continued after the `TimeoutError`, and misses nothing."""
        messages = self._room.messages(since=since, last=last, durable=durable, auto_ack=auto_ack)
        return Messages(messages, self._client, timeout)

    def ack(self, message: Message[Any] | str) -> None:
        """Acknowledges a message (or its id), and all before it, of this client's durable subscription to the room."""

        async def ack() -> None:
            self._room.ack(message)

        self._background.call(ack)

    def history(
        self, *, before: str | None = None, after: str | None = None, limit: int | None = None, timeout: float | None = None
    ) -> HistoryPage[T]:
        """Reads a part of the history, as `roomlog.Room.history` does."""
        return self._background.call(functools.partial(self._room.history, before=before, after=after, limit=limit), timeout)

    def signal(self, type: str, data: Any = None, *, to: str | None = None) -> None:
        """Sends a signal to the users who are present, or to the user `to`. It is not stored, and lost without a connection."""

        async def signal() -> None:
            self._room.signal(type, data, to=to)

        self._background.call(signal)

    def signals(self, *, timeout: float | None = None) -> Signals:
        """Returns the signals of this room and a `Deleted` for each deleted message, for a `for` loop, while another thread follows the
        room's messages. `timeout` is the longest wait for each."""
        return Signals(self._room.signals(), self._client, timeout)


class _Loop(Generic[I]):
    """A loop over an asynchronous iterator. Several threads may share it: each item comes once."""

    def __init__(self, source: AsyncIterator[I], client: Roomlog, timeout: float | None) -> None:
        self._source, self._client, self._timeout = source, client, timeout
        self._background = client._background
        self._stepping = threading.Lock()
        #: The number of items that callers have got, and the step that fetches the next one, with its number.
        self._got = 0
        self._step: tuple[int, asyncio.Task[I]] | None = None

    def __iter__(self) -> Iterator[I]:
        return self

    def __next__(self) -> I:
        with self._stepping:
            try:
                item = self._background.call(functools.partial(self._item, self._got), self._timeout)
            except StopAsyncIteration:
                raise StopIteration from None
            self._got += 1
            return item

    async def _item(self, number: int) -> I:
        """Returns an item by its number: the same one again, if a time-out or Ctrl-C came before the caller had it."""
        if self._step is None or self._step[0] != number:
            task = asyncio.create_task(self._fetch())
            # An error that the caller was not there for comes with the next call, and is not reported by asyncio.
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._step = number, task
        return await asyncio.shield(self._step[1])

    async def _fetch(self) -> I:
        return await self._source.__anext__()


class Signals(_Loop[Signal | Deleted]):
    """A loop over a room's signals and deletions."""


class Messages(_Loop[Message[T] | Gap], Generic[T]):
    """A loop over a room's messages, as `roomlog.Messages`. With `with`, it follows the room from the beginning of the block to its end."""

    def __init__(self, messages: room.Messages[T], client: Roomlog, timeout: float | None) -> None:
        super().__init__(messages, client, timeout)
        self._messages = messages

    @property
    def position(self) -> str | None:
        """The id of the last handled message, or the start of the loop: pass it as `since` to continue there. None before the start."""
        return self._messages.position

    @property
    def state(self) -> SubscriptionState:
        """As `roomlog.Messages.state`."""
        return self._messages.state

    def close(self, *, forget: bool = False) -> None:
        """Ends the loop. With `forget`, a durable position is deleted on the server, too."""
        # A closed client has ended it.
        with contextlib.suppress(RoomlogError):
            self._background.call(functools.partial(self._messages.aclose, forget=forget))

    def __enter__(self) -> Messages[T]:
        self._background.call(self._messages.__aenter__, self._timeout)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
