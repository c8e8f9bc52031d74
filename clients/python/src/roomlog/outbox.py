"""The messages that are not confirmed yet. Each room has a lane, whose messages are sent one after another, so that their order holds
whatever fails. Each is sent with the same key until there is an answer."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

from .connection import Connection
from .errors import RoomlogError
from .ids import is_after
from .publication import Publication

# Pause after a temporary refusal, unless the server names one.
PAUSE_MS = 1000

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

    def __init__(self, limit: int, connection: Connection, reader: Callable[[str], Reader | None]) -> None:
        self._limit, self._connection, self._reader = limit, connection, reader
        self._lanes: dict[str, Lane] = {}
        self._by_key: dict[tuple[str, str], Publication[Any]] = {}
        self._closed: RoomlogError | None = None

    def publish(self, room: str, data: Any, type: str, key: str | None) -> Publication[Any]:
        if self._closed:
            raise self._closed.copy()
        key = key or str(uuid.uuid4())
        known = self._by_key.get((room, key))
        if known:
            return known
        if len(self._by_key) >= self._limit:
            raise RoomlogError(
                "outbox_full",
                f"{self._limit} messages are waiting to be confirmed, and the outbox takes no more: await some, or raise `outbox_limit`",
            )
        publication = Publication(room, self._connection.snapshot(data), type, key, self._cancel)
        self._by_key[room, key] = publication
        self._lanes.setdefault(room, Lane()).items.append(publication)
        self._connection.start()
        self.kick(room)
        return publication

    def waiting(self, room: str) -> list[Publication[Any]]:
        """Returns the unconfirmed messages of a room, in order."""
        lane = self._lanes.get(room)
        return list(lane.items) if lane else []

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
        self._closed = self._closed or error
        for publication in list(self._by_key.values()):
            self._settle(publication, RoomlogError(error.code, f"the message is not known to be stored: {error.args[0]}"))

    def _cancel(self, publication: Publication[Any]) -> bool:
        if publication.state != "sending" or publication._attempted:
            return False
        self._settle(publication, RoomlogError("cancelled", "the message was cancelled before it was sent"))
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
                if publication.state != "sending":
                    continue
                if not publication._attempted:
                    publication._attempted = True
                    reader = self._reader(room)
                    publication._after = reader.received if reader else None
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
                if not error.is_temporary:
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
        if not self._by_key.pop((publication.room, publication.key), None):
            return
        self._lanes[publication.room].items.remove(publication)
        publication._settle(outcome)
        self.kick(publication.room)
