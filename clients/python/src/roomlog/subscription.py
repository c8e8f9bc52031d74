"""A subscription: follows a room's log from the last position, queues its messages for the loop, once and in order, and proves by the
ids that nothing is missing. Waits nowhere but in `next` and `started`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from .connection import Connection
from .errors import RoomlogError
from .ids import before, follows, is_after
from .outbox import Outbox, Reading
from .protocol import Frame, gap_of, message_of
from .types import Gap, Message

logger = logging.getLogger("roomlog")

Item = Message[Any] | Gap

SubscriptionState = Literal["catching_up", "live", "ended"]
"""The state of a loop over messages: see `Messages.state`."""

# Limit of items that wait for a slow loop. At the limit the room is unsubscribed; it continues from the log when most are handled.
WAITING = 1000

# Longest time that an acknowledgement waits for others.
ACK_EVERY_S = 0.05

# Pause before the next attempt after a refusal, or after a hole that shows again.
PAUSE_S = 1.0


@dataclass(frozen=True)
class Options:
    """Options of a loop."""

    since: str | None
    last: int | None
    durable: str | None
    auto_ack: bool


class Subscription:
    """The subscription behind a loop over a room's messages."""

    def __init__(self, room: str, options: Options, connection: Connection, outbox: Outbox) -> None:
        self.room, self.options = room, options
        #: Everything up to this id was received from the server.
        self.received: str | None = None
        #: Everything up to this id was handled.
        self.handled: str | None = None
        #: Everything from this id on was received, without a jump.
        self.seen_from: str | None = None
        self._connection, self._outbox = connection, outbox
        #: The last id that the server delivered on this connection. None while it does not deliver.
        self._cursor: str | None = None
        #: Everything up to this id was acknowledged, of a durable subscription.
        self._acked: str | None = None
        #: Whether the server has delivered the backlog on this connection.
        self._caught_up = False
        #: Whether the server has a subscription of this connection, even if its frames are ignored now.
        self._held = False
        #: Identifies the subscribe frame that is not answered yet: frames belong to the previous subscription until then.
        self._asked: object | None = None
        self._queue: deque[Item] = deque()
        #: The item that the loop is handling.
        self._given: Item | None = None
        self._paused = False
        self._holes = 0
        self._end: RoomlogError | None = None
        #: Whether this client has ended it.
        self.left = False
        #: Set when something has changed for `next` or `started`.
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
        # While paused, it waits for the loop, which may be awaiting a publication in turn.
        if self._end or self._paused:
            return "away"
        return "live" if self._caught_up else "behind"

    async def started(self) -> None:
        """Waits until delivery has begun for the first time."""
        while self.received is None:
            await self._change()

    async def next(self) -> Item:
        """Returns the next item. The previous one counts as handled then."""
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
        """Acknowledges everything up to `id`, gathered with other acknowledgements."""
        if self._acked is not None and not is_after(id, self._acked):
            return
        self._acked = id
        if not self._ack_timer:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_EVERY_S, self.flush)

    def flush(self) -> None:
        """Sends the newest acknowledgement now."""
        if self._ack_timer:
            self._ack_timer.cancel()
            self._ack_timer = None
        if self._held and self._acked is not None:
            self._connection.tell({"op": "ack", "room": self.room, "id": self._acked})

    def leave(self, forget: bool = False) -> None:
        """Stops delivery for good."""
        if self._end:
            return
        self.flush()
        self._connection.tell({"op": "unsubscribe", "room": self.room, **({"forget": True} if forget else {})})
        self.left = True
        self.end(RoomlogError("closed", f"the loop over the room {self.room} was closed"))

    def end(self, error: RoomlogError) -> None:
        """Ends the subscription. The loop raises `error` after the items that it still gets."""
        if self._end:
            return
        self._held = False
        self._silence()
        if self._ack_timer:
            self._ack_timer.cancel()
        self._end = error
        if self.left or self.options.durable is not None:
            # These items come again: after the acknowledged position the next time, or to the new holder.
            self._queue.clear()
        self._changed.set()
        self._outbox.kick(self.room)

    def up(self) -> None:
        """Begins delivery anew after the last received message."""
        if self._end or self._paused:
            return
        self._silence()
        mine = self._asked = object()

        def answer(ok: Frame | RoomlogError) -> None:
            if self._asked is not mine:
                return
            self._asked = None
            if isinstance(ok, RoomlogError):
                self._refused(ok)
            else:
                self._started(ok["position"])

        self._connection.ask(self._frame(), answer)

    def down(self) -> None:
        """Ends delivery with the connection."""
        self._held = False
        self._silence()

    def frame(self, frame: Frame) -> None:
        """Takes a frame of the server for this room."""
        op = frame["op"]
        if op == "unsubscribed":
            if not self._asked:
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
            # With `durable`, `since` would replace the position, which another device may have moved on.
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
                # Another device has handled the messages up to there.
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
        """Fetches messages that are missing without a gap frame, from the last received one on."""
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
            # A durable subscription is kept: releasing it would hand it to another connection.
            if self.options.durable is None:
                self._connection.tell({"op": "unsubscribe", "room": self.room})
            self._outbox.kick(self.room)

    def _finish(self) -> None:
        """Marks the item that the loop has got as handled."""
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
        """Ignores frames and answers from now on: they belong to an older subscription."""
        self._asked = None
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
