"""The messages that are not confirmed yet. Each room has a lane, whose messages are sent one after another, so that their order holds
whatever fails. Each is sent with the same key until there is an answer. A store keeps them across restarts: a message is stored before
`publish` returns, marked before it is sent, and deleted when it is confirmed."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

from .connection import Connection
from .data import text
from .errors import RoomlogError
from .ids import is_after
from .publication import Publication
from .store import SqliteOutbox

logger = logging.getLogger("roomlog")

# Pause after a temporary refusal, unless the server names one.
PAUSE_MS = 1000

# Number of rooms whose newest confirmed id is remembered.
ROOMS = 1000

Reading = Literal["away", "behind", "live"]


class Reader(Protocol):
    """A loop over a room's messages, as the outbox uses it."""

    @property
    def reading(self) -> Reading:
        """`away`: the room is not followed. `behind`: it is, and has not caught up on this connection. `live`: every message after
        `seen_from` was received."""

    @property
    def received(self) -> str | None:
        """Everything up to this id was received from the server."""

    @property
    def seen_from(self) -> str | None:
        """Everything from this id on was received, without a jump."""


class Lane:
    """The unconfirmed messages of one room, in order."""

    def __init__(self) -> None:
        self.items: deque[Publication[Any]] = deque()
        self.task: asyncio.Task[None] | None = None
        #: Whether something has changed since the lane was last drained.
        self.again = False


class Outbox:
    """The unconfirmed messages of all rooms."""

    def __init__(self, limit: int, store: SqliteOutbox | None, connection: Connection, reader: Callable[[str], Reader | None]) -> None:
        self._limit, self._store, self._connection, self._reader = limit, store, connection, reader
        self._lanes: dict[str, Lane] = {}
        self._by_key: dict[tuple[str, str], Publication[Any]] = {}
        #: The newest confirmed id of each room that was published to lately.
        self._newest: dict[str, str] = {}
        self._closed: RoomlogError | None = None

    def open(self) -> None:
        """Takes over the messages that an earlier client left in the store."""
        if not self._store:
            return
        entries = self._store._open()
        try:
            for entry in entries:
                self._connection.snapshot(entry.data)
        except RoomlogError as error:
            self._store._close()
            raise RoomlogError("outbox_failed", f"{self._store} has a message that this client cannot send: {error.args[0]}") from None
        for entry in entries:
            publication = Publication(entry.room, entry.data, entry.type, entry.key, self._cancel)
            publication._attempted, publication._after = entry.attempted, entry.after
            publication._confirmed.add_done_callback(functools.partial(self._report, publication))
            self._add(publication)

    def publish(self, room: str, data: Any, type: str, key: str | None) -> Publication[Any]:
        if self._closed:
            raise self._closed.copy()
        # The messages that an earlier client left come first.
        self._connection.start()
        room, type, key = text(room, "room"), text(type, "type"), text(key or str(uuid.uuid4()), "key")
        known = self._by_key.get((room, key))
        if known:
            return known
        if len(self._by_key) >= self._limit:
            raise RoomlogError(
                "outbox_full",
                f"{self._limit} messages are waiting to be confirmed, and the outbox takes no more: await some, or raise `outbox_limit`",
            )
        publication = Publication(room, self._connection.snapshot(data), type, key, self._cancel)
        if self._store:
            self._store._put(room, key, type, publication.data)
        self._add(publication)
        self.kick(room)
        return publication

    def waiting(self, room: str) -> list[Publication[Any]]:
        """Returns the unconfirmed messages of a room, in order."""
        lane = self._lanes.get(room)
        # A copy at once, since a thread may call this while the event loop runs in another.
        return list(lane.items.copy()) if lane else []

    def seen(self, room: str, key: str, id: str) -> None:
        """Takes the arrival of a message through its room as its confirmation, if it is one of this outbox."""
        publication = self._by_key.get((room, key))
        if publication:
            self._settle(publication, id)

    def kick(self, room: str | None = None) -> None:
        """Sends the messages that may be sent now, of a room or of all, since something has changed for them."""
        for name in list(self._lanes) if room is None else [room]:
            lane = self._lanes.get(name)
            if not lane:
                continue
            lane.again = True
            if not lane.task:
                lane.task = asyncio.create_task(self._run(name, lane), name=f"roomlog outbox of {name}")

    def close(self, error: RoomlogError) -> None:
        """Fails all messages. They stay in the store, if there is one, for the next client."""
        self._closed = self._closed or error
        fate = f"the message stays in {self._store}" if self._store else "the message is not known to be stored"
        for publication in list(self._by_key.values()):
            self._remove(publication, RoomlogError(error.code, f"{fate}: {error.args[0]}"))
            if self._store:
                publication._confirmed.exception()  # Retrieved, so that asyncio does not report it: nothing is lost.
        if self._store:
            self._store._close()

    def _add(self, publication: Publication[Any]) -> None:
        self._by_key[publication.room, publication.key] = publication
        self._lanes.setdefault(publication.room, Lane()).items.append(publication)

    def _report(self, publication: Publication[Any], _confirmed: asyncio.Future[str]) -> None:
        """Logs the failure of a message of an earlier client, which no caller awaits."""
        if (error := publication.error) and not self._closed and error.code != "cancelled":
            logger.error("the message %s to %s, of an earlier run, was refused: %s", publication.key, publication.room, error)

    def _cancel(self, publication: Publication[Any]) -> bool:
        if publication.state != "sending" or publication._attempted:
            return False
        if self._store:
            self._store._delete(publication.room, publication.key)
        self._remove(publication, RoomlogError("cancelled", "the message was cancelled before it was sent"))
        return True

    async def _run(self, room: str, lane: Lane) -> None:
        while lane.again:
            lane.again = False
            await self._drain(room, lane)
        lane.task = None
        if not lane.items:
            del self._lanes[room]

    async def _drain(self, room: str, lane: Lane) -> None:
        """Sends the messages of a lane in order, until none is left or the next one must wait."""
        while lane.items and self._connection.state == "open":
            publication = lane.items[0]
            try:
                if not await self._may_go(publication):
                    return
                after = None if publication._attempted else await self._position(room)
                if publication.state != "sending":
                    continue
                if not publication._attempted:
                    if self._store:
                        self._store._attempt(room, publication.key, after)
                    publication._attempted, publication._after = True, after
                ok = await self._connection.request(
                    {
                        "op": "publish",
                        "room": room,
                        "key": publication.key,
                        "type": publication.type,
                        "data": publication.data,
                    }
                )
                self._settle(publication, ok["id"])
            except RoomlogError as error:
                if error.code == "outbox_failed":
                    logger.warning("messages to %s wait until the outbox can be written: %s", room, error)
                    await asyncio.sleep(PAUSE_MS / 1000)
                elif not error.is_temporary:
                    self._settle(publication, error)
                elif error.code != "disconnected":
                    pause = PAUSE_MS if error.retry_after_ms is None else error.retry_after_ms
                    await asyncio.sleep(pause / 1000 * random.uniform(1, 1.25))

    async def _may_go(self, publication: Publication[Any]) -> bool:
        """Tells whether a message may be sent now. A message that was attempted before the connection was lost may be stored already.
        It is looked for first, since the server forgets keys: in the backlog of a followed room, or else in the history."""
        reader = self._reader(publication.room)
        reading = reader.reading if reader else "away"
        if not publication._attempted:
            return reading != "behind" or (reader is not None and reader.received is not None)
        if reading == "behind":
            return False
        if publication._after is None:
            return True
        if reading == "live" and reader and reader.seen_from and not is_after(reader.seen_from, publication._after):
            return True
        await self._search(publication, publication._after)
        return True

    async def _position(self, room: str) -> str | None:
        """Returns a position that the room has reached, so that a message that is sent now comes after it."""
        reader = self._reader(room)
        position = (reader.received if reader else None) or self._newest.get(room)
        if position is None and self._store:
            # A restart may take longer than the server remembers keys.
            try:
                head: str = (await self._connection.request({"op": "history", "room": room, "limit": 1}))["head"]
                return head
            except RoomlogError as error:
                if error.code != "forbidden":
                    raise
        return position

    async def _search(self, publication: Publication[Any], after: str) -> None:
        """Looks for a message in the history, and confirms it if it is there."""
        room, more = publication.room, True
        while more:
            try:
                page = await self._connection.request({"op": "history", "room": room, "after": after, "limit": 1000})
            except RoomlogError as error:
                # Without permission to read, the server's memory of keys must do.
                if error.code == "forbidden":
                    return
                raise
            for message in page["messages"]:
                after = message["id"]
                if message["key"] == publication.key:
                    return self._settle(publication, after)
            more = page["more"]
        publication._after = after

    def _settle(self, publication: Publication[Any], outcome: str | RoomlogError) -> None:
        """Ends a message by the server's answer."""
        if self._by_key.get((publication.room, publication.key)) is not publication:
            return
        if self._store:
            try:
                self._store._delete(publication.room, publication.key)
            except RoomlogError as error:
                # The next client finds it in the room.
                logger.warning("the message %s is done, and could not be deleted: %s", publication.key, error)
        if isinstance(outcome, str):
            self._newest.pop(publication.room, None)
            self._newest[publication.room] = outcome
            if len(self._newest) > ROOMS:
                del self._newest[next(iter(self._newest))]
        self._remove(publication, outcome)

    def _remove(self, publication: Publication[Any], outcome: str | RoomlogError) -> None:
        del self._by_key[publication.room, publication.key]
        self._lanes[publication.room].items.remove(publication)
        publication._settle(outcome)
        self.kick(publication.room)
