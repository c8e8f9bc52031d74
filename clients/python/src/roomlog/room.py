"""A room as applications use it: publishing to it, and a loop over its messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, cast

from .errors import RoomlogError
from .protocol import page_of
from .publication import Publication
from .rooms import Rooms
from .subscription import Options, SubscriptionState
from .types import Deleted, Gap, HistoryPage, Message, Signal, T

# Signals that may wait for a slow loop. Beyond, the oldest are dropped: delivery of signals is not promised.
SIGNALS = 100


class Room(Generic[T]):
    """A room, from `client.room(name)`. It is cheap: the same room can be made repeatedly.

    `T` is the type of its messages' content, for type checkers: `room: Room[ChatMessage] = client.room("chat.general")`. Without it,
    content is `Any`. Nothing is checked when the program runs.
    """

    name: str
    """The room's name."""

    def __init__(self, rooms: Rooms, name: str) -> None:
        self.name = name
        self._rooms = rooms
        self._connection = rooms.connection
        self._outbox = rooms.outbox

    def __repr__(self) -> str:
        return f"<Room {self.name} on {self._rooms!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Room) and (self._rooms, self.name) == (other._rooms, other.name)

    def __hash__(self) -> int:
        return hash((self._rooms, self.name))

    @property
    def pending(self) -> list[Publication[T]]:
        """This client's unconfirmed messages to the room, in order."""
        return self._outbox.waiting(self.name)

    def publish(self, data: T, *, type: str = "message", key: str | None = None) -> Publication[T]:
        """Publishes a message. Awaiting the publication gives the id, once the message is stored.

        Without a connection the message waits. Messages are sent in the order of publishing, and stored once, whatever fails. `key`
        is a UUID, generated if it is missing; publishing a key again stores nothing new. Raises `RoomlogError` with the code
        `bad_request` for data that cannot be sent, and `outbox_full` if `outbox_limit` messages are unconfirmed.
        """
        return self._outbox.publish(self.name, data, type, key)

    def messages(
        self, *, since: str | None = None, last: int | None = None, durable: str | None = None, auto_ack: bool = False
    ) -> Messages[T]:
        """Returns the room's messages, for `async for`. Without options, only new ones.

        - `since`: starts after this id; "0" starts with the oldest message that the room keeps.
        - `last`: starts with this many of the newest messages, at most 1000.
        - `durable`: the name of a subscription whose position is kept on the server, for this user, and moves as messages are
          acknowledged. It starts at `since` or `last` the first time; `since` also moves an existing one. One connection at a time
          holds it, the newest; in the previous one, the loop ends with the code `replaced`.
        - `auto_ack`: acknowledges each message of a durable subscription when the loop asks for the next one. Otherwise call `ack`.
        """
        if since is not None and last is not None:
            raise RoomlogError("bad_request", "`since` and `last` exclude each other: pass one of them")
        if auto_ack and durable is None:
            raise RoomlogError("not_durable", "only a durable subscription is acknowledged: pass its name as `durable`")
        return Messages(self._rooms, self.name, Options(since, last, durable, auto_ack))

    def ack(self, message: Message[Any] | str) -> None:
        """Acknowledges a message (or its id), and all before it, of this client's durable subscription to the room."""
        subscription = self._rooms.subscription(self.name)
        if not subscription:
            raise RoomlogError("not_subscribed", f"no loop of this client follows the room {self.name}, so there is nothing to acknowledge")
        if subscription.options.durable is None:
            raise RoomlogError("not_durable", "only a durable subscription is acknowledged: pass its name as `durable`")
        subscription.ack(message if isinstance(message, str) else message.id)

    async def history(self, *, before: str | None = None, after: str | None = None, limit: int | None = None) -> HistoryPage[T]:
        """Reads a part of the history: the messages before or after an id, or the newest. `limit` is 1 to 1000, 100 if it is
        missing. Waits for a connection if there is none."""
        frame = {"op": "history", "room": self.name, "before": before, "after": after, "limit": limit}
        return page_of(self.name, await self._connection.read({k: v for k, v in frame.items() if v is not None}))

    def signal(self, type: str, data: Any = None, *, to: str | None = None) -> None:
        """Sends a signal to the users who are present, or to the user `to`, such as that this user types. It is not stored, and lost
        without a connection."""
        frame = {"op": "signal", "room": self.name, "type": type, "data": self._connection.snapshot(data)}
        self._connection.tell_if_free({**frame, "to": to} if to is not None else frame)

    async def signals(self) -> AsyncIterator[Signal | Deleted]:
        """Yields the signals of this room, and a `Deleted` when a message is deleted, while a loop over its messages follows it. If the
        application is slow, the newest 100 are kept."""
        queue: asyncio.Queue[Signal | Deleted | None] = asyncio.Queue(SIGNALS)

        def put(signal: Signal | Deleted | None) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(signal)

        remove = self._rooms.listen(self.name, put)
        try:
            while signal := await queue.get():
                yield signal
        finally:
            remove()


class Messages(Generic[T]):
    """A loop over a room's messages. It yields each once and in order, across lost connections and server restarts.

    A message counts as handled when the loop asks for the next one. Where messages are gone for good, the loop gets a `Gap` in their
    place, which has no `data`: check for it. One loop of a client follows a room at a time, the newest; the previous one ends with
    `replaced`.

    The client follows the room from the loop's first step on, as long as this object lives. With `async with`, it follows the room
    from the beginning of the block, which waits until the server has begun delivery, to its end.
    """

    def __init__(self, rooms: Rooms, room: str, options: Options) -> None:
        self._rooms = rooms
        self._subscription = rooms.subscribe(room, options)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def position(self) -> str | None:
        """The id of the last handled message, or the start of the loop: pass it as `since` to continue there. None before the start."""
        return self._subscription.handled

    @property
    def state(self) -> SubscriptionState:
        """`catching_up`: connecting, or reading the backlog. `live`: the loop has got the backlog. `ended`."""
        return self._subscription.state

    def __aiter__(self) -> Messages[T]:
        return self

    async def __anext__(self) -> Message[T] | Gap:
        self._begin()
        try:
            return cast(Message[T] | Gap, await self._subscription.next())
        except RoomlogError:
            if self._subscription.left:
                raise StopAsyncIteration from None
            raise

    async def __aenter__(self) -> Messages[T]:
        self._begin()
        await self._subscription.started()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self, *, forget: bool = False) -> None:
        """Ends the loop. With `forget`, a durable position is deleted on the server, too."""
        if self._loop:
            self._rooms.unfollow(self._subscription, forget)

    def _begin(self) -> None:
        if not self._loop:
            self._rooms.follow(self._subscription)
            self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        # The loop was left by `break`. The garbage collector may run in any thread.
        if self._loop and not self._loop.is_closed():
            if asyncio._get_running_loop() is self._loop:
                self._rooms.unfollow(self._subscription)
            else:
                self._loop.call_soon_threadsafe(self._rooms.unfollow, self._subscription)
