"""One subscription: follows a room's log from the last position, keeps what waits for the loop over it, once and in order, and proves by
the ids that nothing is missing. Does no waiting of its own but in `next`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Literal

from .connection import Connection
from .errors import RoomlogError
from .outbox import Outbox, Reading
from .protocol import Frame, Gap, Message, before, follows, gap_of, is_after, message_of

logger = logging.getLogger("roomlog")

Item = Message | Gap

SubscriptionState = Literal["catching_up", "live", "ended"]

# Items that may wait for a slow loop. Beyond, the room is let go, and read on from the log when the loop has come through most of them.
WAITING = 1000

# How long acknowledgements are gathered.
ACK_EVERY_S = 0.05

# Pause before a room is subscribed to again that was refused, or showed a hole again.
PAUSE_S = 1.0


@dataclass(frozen=True)
class Options:
    """How a room is followed."""

    since: str | None
    last: int | None
    durable: str | None
    auto_ack: bool


class Subscription:
    """What is behind a loop over a room's messages."""

    def __init__(self, room: str, options: Options, connection: Connection, outbox: Outbox) -> None:
        self.room, self.options = room, options
        #: All up to here was taken from the server.
        self.received: str | None = None
        #: All up to here was handled.
        self.handled: str | None = None
        #: From here on everything was seen, with no jump.
        self.seen_from: str | None = None
        self._connection, self._outbox = connection, outbox
        #: Where the server's delivery stands on this connection; nothing while it does not deliver.
        self._cursor: str | None = None
        #: All up to here was acknowledged, of a durable subscription.
        self._acked: str | None = None
        #: Whether the server has delivered all that there was, on this connection.
        self._caught_up = False
        #: Counts subscribe frames, so that the answer to an older one is known.
        self._subscribed = 0
        #: This connection has a subscription at the server, whether or not what it brings is taken.
        self._held = False
        #: A subscribe frame is not answered yet: what comes is of the subscription before it.
        self._asking = False
        self._queue: deque[Item] = deque()
        #: What the loop has, and has not finished.
        self._given: Item | None = None
        self._paused = False
        self._holes = 0
        self._end: RoomlogError | None = None
        #: This client has ended it.
        self.left = False
        #: Something changed for who waits in `next` or `started`.
        self._changed = asyncio.Event()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> SubscriptionState:
        if self._end:
            return "ended"
        return "live" if self._caught_up and not self._queue else "catching_up"

    @property
    def reading(self) -> Reading:
        # While it is paused it waits for the loop, which may wait for a message to be confirmed.
        if self._end or self._paused:
            return "away"
        return "live" if self._caught_up else "behind"

    async def started(self) -> None:
        """Waits until delivery has begun for the first time."""
        while self.received is None:
            await self._change()

    async def next(self) -> Item:
        """The next item. The one before is handled then."""
        self._finish()
        while not self._queue:
            await self._change()
        self._given = self._queue.popleft()
        if self._paused and len(self._queue) <= WAITING // 4:
            self._paused = False
            self.flush()
            self.up()
        return self._given

    def ack(self, id: str) -> None:
        """All up to here is handled, which the server is told soon."""
        if self._acked is not None and not is_after(id, self._acked):
            return
        self._acked = id
        if not self._ack_timer:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_EVERY_S, self.flush)

    def flush(self) -> None:
        """Sends what is acknowledged and was not sent yet."""
        if self._ack_timer:
            self._ack_timer.cancel()
            self._ack_timer = None
        if self._held and self._acked is not None:
            self._connection.tell({"op": "ack", "room": self.room, "id": self._acked})

    def leave(self, forget: bool = False) -> None:
        """Stops delivery, for good."""
        if self._end:
            return
        self.flush()
        self._connection.tell({"op": "unsubscribe", "room": self.room, **({"forget": True} if forget else {})})
        self.left = True
        self.end(RoomlogError("closed", f"the loop over the room {self.room} was closed"))

    def end(self, error: RoomlogError) -> None:
        """There will be no more. The loop is told after what it can still have."""
        if self._end:
            return
        self._held = False
        self._silence()
        if self._ack_timer:
            self._ack_timer.cancel()
        self._end = error
        if self.left or self.options.durable is not None:
            # A durable one begins after what was acknowledged the next time, or with who has taken over.
            self._queue.clear()
        self._changed.set()
        self._outbox.kick(self.room)

    def up(self) -> None:
        """Delivery begins anew, from where this client stands."""
        if self._end or self._paused:
            return
        self._silence()
        mine = self._subscribed
        self._asking = True

        def answer(ok: Frame | RoomlogError) -> None:
            if mine != self._subscribed:
                return
            self._asking = False
            if isinstance(ok, RoomlogError):
                self._refused(ok)
            else:
                self._started(ok["position"])

        self._connection.ask(self._frame(), answer)

    def down(self) -> None:
        """The connection was lost."""
        self._held = False
        self._silence()

    def frame(self, frame: Frame) -> None:
        """What the server says of this room."""
        op = frame["op"]
        if op == "unsubscribed":
            if not self._asking:
                self.end(RoomlogError(frame["code"], frame["message"]))
        elif self._cursor is None:
            return
        elif op == "message":
            id = frame["id"]
            if not is_after(id, self._cursor):
                return
            if not follows(self._cursor, id):
                return self._heal(id)
            self._cursor = id
            if self.received is None or is_after(id, self.received):
                self.received = id
                self._enqueue(message_of(frame))
        elif op == "gap":
            gap = gap_of(self.room, frame)
            self._cursor = before(gap.next)
            if gap.reason == "rewound" or self.received is None or is_after(self._cursor, self.received):
                self.received = self._cursor
                self._enqueue(gap)
        elif op == "live":
            self._caught_up = True
            self._holes = 0
            self._outbox.kick(self.room)

    def _frame(self) -> Frame:
        options = self.options
        frame: Frame = {"op": "subscribe", "room": self.room}
        if options.durable is not None:
            frame["durable"] = options.durable
        if self.received is None and options.since is not None:
            frame["since"] = options.since
        elif self.received is not None and options.durable is None:
            # With `durable` it would replace the position, which another device may have moved on.
            frame["since"] = self.received
        elif options.last is not None:
            frame["last"] = options.last
        return frame

    def _started(self, position: str) -> None:
        self._held = True
        self._cursor = position
        if self.received is None:
            self.received = self.handled = self.seen_from = position
        elif self.options.durable is not None:
            if is_after(position, self.received):
                # Somebody else has handled what lies between, and all before.
                self.received = self.handled = self.seen_from = position
                self._queue.clear()
            if self._acked is not None and is_after(self._acked, position):
                self.flush()
        self._changed.set()
        self._outbox.kick(self.room)

    def _refused(self, error: RoomlogError) -> None:
        if error.code == "disconnected":
            return
        if error.is_temporary or error.code == "internal":
            logger.warning("the room %s could not be subscribed to, and is tried again: %s", self.room, error)
            self._later(PAUSE_S if error.retry_after_ms is None else error.retry_after_ms / 1000)
        else:
            self.end(error)

    def _heal(self, id: str) -> None:
        """A message is missing and nothing said so: it is asked for again from the last that was there."""
        logger.warning(
            "the room %s delivered %s right after %s, so messages are missing in between; they are fetched again",
            self.room,
            id,
            self._cursor,
        )
        self._holes += 1
        if self._holes == 1:
            self.up()
        else:
            self._silence()
            self._later(PAUSE_S)

    def _enqueue(self, item: Item) -> None:
        self._queue.append(item)
        self._changed.set()
        if len(self._queue) >= WAITING:
            self._paused = True
            self._silence()
            # A durable subscription is kept, since letting go would hand it to another connection.
            if self.options.durable is None:
                self._connection.tell({"op": "unsubscribe", "room": self.room})
            self._outbox.kick(self.room)

    def _finish(self) -> None:
        """What was given is handled."""
        given, self._given = self._given, None
        if isinstance(given, Gap):
            self._handle(before(given.next), rewound=given.reason == "rewound")
        elif given:
            self._handle(given.id)
            if self.options.auto_ack:
                self.ack(given.id)

    def _handle(self, id: str, rewound: bool = False) -> None:
        if rewound or self.handled is None or is_after(id, self.handled):
            self.handled = id

    def _silence(self) -> None:
        """From now on, what comes is of an older subscription."""
        self._subscribed += 1
        self._asking = False
        self._cursor = None
        self._caught_up = False
        if self._retry_timer:
            self._retry_timer.cancel()
            self._retry_timer = None

    def _later(self, pause: float) -> None:
        self._retry_timer = asyncio.get_running_loop().call_later(pause, self.up)

    async def _change(self) -> None:
        if self._end:
            raise self._end.copy()
        self._changed.clear()
        await self._changed.wait()
