"""The client: one connection, the rooms on it, and the outbox. Applications begin here."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from .address import socket_url
from .connection import ConnectionState, Timing
from .protocol import Encoding
from .room import Room
from .rooms import Rooms
from .store import SqliteOutbox
from .tokens import TokenSource


class Roomlog:
    """A client of one server, for one user. Connects when it is first needed, and again whenever the connection is lost.

    - `url`: the server's WebSocket, such as `wss://chat.example/v1/ws`; `https://chat.example` means the same.
    - `token`: a token, or a function that fetches one, plain or `async`: called at the start, before a token expires, and after the
      server refused one as expired.
    - `encoding`: "msgpack", or "json", which has no binary data.
    - `outbox`: keeps unconfirmed messages across restarts: a `SqliteOutbox`. Without one they are kept in memory.
    - `outbox_limit`: the number of messages that may wait to be confirmed.
    - `timing`: times that suit tests, or unusual networks.

    Problems that need no action are logged by the logger `roomlog`. All methods belong to the thread of the event loop.
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
        self._rooms = Rooms(socket_url(url), token, encoding, outbox, outbox_limit, timing or Timing())
        self._connection = self._rooms.connection

    @property
    def state(self) -> ConnectionState:
        """`idle`: not connected yet. `connecting`. `open`: connected. `waiting`: for the next attempt. `closed`: for good, by
        `close()` or by the server."""
        return self._connection.state

    @property
    def user(self) -> str | None:
        """The user whom the token names, once connected."""
        return self._connection.user

    def __repr__(self) -> str:
        return repr(self._rooms)

    def room(self, name: str) -> Room[Any]:
        """Returns a room, to publish to and to follow. Annotate it to have its content checked: `room: Room[ChatMessage] = …`."""
        return Room(self._rooms, name)

    async def connect(self) -> None:
        """Connects now, instead of when it is first needed, and waits until that is done. Raises `RoomlogError` if the server refuses
        this user. If the server is unreachable, the client keeps trying; bound that with `asyncio.wait_for`."""
        await self._connection.opened()

    async def close(self) -> None:
        """Ends the client, after its acknowledgements are sent. Messages that are not confirmed fail with the code `closed`:
        await those that must be stored, unless an `outbox` keeps them."""
        self._rooms.leave_all()
        await self._connection.close()

    async def __aenter__(self) -> Roomlog:
        """Begins to connect, without waiting for it."""
        self._connection.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
