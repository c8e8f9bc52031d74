"""The rooms of a client: hands each frame to the loop and the listeners of its room, and begins delivery anew on each connection."""

from __future__ import annotations

from collections.abc import Callable

from .connection import Connection, Timing
from .errors import RoomlogError
from .outbox import Outbox
from .protocol import Encoding, Frame, codec_of, signal_of
from .store import SqliteOutbox
from .subscription import Options, Subscription
from .tokens import Tokens, TokenSource
from .types import Deleted, Signal

SignalListener = Callable[[Signal | Deleted | None], None]
"""Takes a signal or a deletion, or None when there will be no more."""


class Rooms:
    """The loops over rooms and the listeners for signals, with the connection and the outbox that they share."""

    def __init__(
        self, url: str, token: TokenSource, encoding: Encoding, outbox: SqliteOutbox | None, outbox_limit: int, timing: Timing
    ) -> None:
        self.connection = Connection(url, codec_of(encoding), Tokens(token), timing, self)
        self._subscriptions: dict[str, Subscription] = {}
        self._listeners: dict[str, set[SignalListener]] = {}
        self.outbox = Outbox(outbox_limit, outbox, self.connection, self._subscriptions.get)

    def __repr__(self) -> str:
        user = f" as {self.connection.user!r}" if self.connection.user is not None else ""
        return f"<Roomlog at {self.connection.url}{user}: {self.connection.state}>"

    def subscription(self, room: str) -> Subscription | None:
        """Returns the subscription behind the loop that follows a room."""
        return self._subscriptions.get(room)

    def subscribe(self, room: str, options: Options) -> Subscription:
        """Returns a new subscription, to be followed."""
        return Subscription(room, options, self.connection, self.outbox)

    def follow(self, subscription: Subscription) -> None:
        """Begins delivery. A loop that followed the room before ends with `replaced`."""
        self.connection.start()
        older = self._subscriptions.get(subscription.room)
        if older:
            older.end(RoomlogError("replaced", f"a newer loop of this client follows the room {subscription.room}"))
        self._subscriptions[subscription.room] = subscription
        if self.connection.failure:
            subscription.end(self.connection.failure)
        elif self.connection.state == "open":
            subscription.up()

    def unfollow(self, subscription: Subscription, forget: bool = False) -> None:
        """Ends delivery, unless a newer loop follows the room."""
        if self._subscriptions.get(subscription.room) is subscription:
            subscription.leave(forget)
            del self._subscriptions[subscription.room]

    def leave_all(self) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.leave()

    def listen(self, room: str, listener: SignalListener) -> Callable[[], None]:
        """Adds a listener for a room's signals, and returns a function that removes it."""
        listeners = self._listeners.setdefault(room, set())
        listeners.add(listener)

        def remove() -> None:
            listeners.discard(listener)
            if not listeners and self._listeners.get(room) is listeners:
                del self._listeners[room]

        return remove

    # Called by the connection.

    def starting(self) -> None:
        self.outbox.open()

    def up(self) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.up()
        self.outbox.kick()

    def down(self) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.down()

    def frame(self, frame: Frame) -> None:
        room = frame["room"]
        if frame["op"] == "message":
            # Even a message that no loop takes is proof that it is stored.
            self.outbox.seen(room, frame["key"], frame["id"])
        if frame["op"] == "signal":
            if signal := signal_of(frame):
                self._deliver(room, signal)
        elif subscription := self._subscriptions.get(room):
            subscription.frame(frame)

    def closed(self, error: RoomlogError) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.end(error)
        self.outbox.close(error)
        for room in list(self._listeners):
            self._deliver(room, None)

    def _deliver(self, room: str, signal: Signal | Deleted | None) -> None:
        for listener in list(self._listeners.get(room, ())):
            listener(signal)
