"""The client: one connection, the loops over rooms, and the outbox. What applications begin with."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType

from .connection import Connection, ConnectionState, Timing
from .errors import RoomlogError
from .outbox import Outbox
from .protocol import Encoding, Frame, Signal, codec_of, signal_of
from .room import Room
from .subscription import Subscription
from .tokens import Tokens, TokenSource


class Roomlog:
    """A client of one server, for one user. Connects when it is first needed, and again whenever the connection is lost.

    url: the server's WebSocket, such as `wss://chat.example/v1/ws`; `https://chat.example` means the same.
    token: a token, or a function that fetches one, plain or `async`: asked at the start, before a token ends, and after the server
        refused one as expired.
    encoding: "msgpack", or "json", which has no binary data.
    outbox_limit: how many messages may wait to be confirmed.
    timing: times that suit tests, or unusual networks.

    What goes wrong and mends itself goes to the logger `roomlog`. All methods belong to the thread of the event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        token: TokenSource,
        encoding: Encoding = "msgpack",
        outbox_limit: int = 1000,
        timing: Timing | None = None,
    ) -> None:
        codec = codec_of(encoding)
        self._connection = Connection(_socket_url(url), codec, Tokens(token), timing or Timing(), self)
        self._subscriptions: dict[str, Subscription] = {}
        self._signals: dict[str, set[Callable[[Signal | None], None]]] = {}
        self._outbox = Outbox(outbox_limit, encoding == "msgpack", self._connection, self._subscriptions.get)

    @property
    def state(self) -> ConnectionState:
        """`idle`: not asked to connect yet. `connecting`. `open`: connected. `waiting`: for the next attempt. `closed`: for good, by
        `close()` or because the server said so."""
        return self._connection.state

    @property
    def user(self) -> str | None:
        """The user whom the token names, once connected."""
        return self._connection.user

    def room(self, name: str) -> Room:
        """A room, to publish to and to follow."""
        return Room(self, name)

    async def connect(self) -> None:
        """Connects now, instead of when it is first needed, and waits until that is done. Raises `RoomlogError` if the server refuses
        this user; a server that is away is tried again and again, which `asyncio.wait_for` bounds."""
        await self._connection.opened()

    async def close(self) -> None:
        """Ends the client, after its acknowledgements are sent. Messages that are not confirmed fail with the code `closed`:
        await those that must be stored."""
        for subscription in list(self._subscriptions.values()):
            subscription.leave()
        await self._connection.close()

    async def __aenter__(self) -> Roomlog:
        """Begins to connect, and does not wait for it."""
        self._connection.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    # What the connection tells.

    def up(self) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.up()
        self._outbox.kick()

    def down(self) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.down()

    def frame(self, frame: Frame) -> None:
        room = frame["room"]
        if frame["op"] == "message":
            # Also one that no loop is given says that it is stored.
            self._outbox.seen(room, frame["key"], frame["id"])
        if frame["op"] == "signal":
            for put in self._signals.get(room, ()):
                put(signal_of(frame))
        elif subscription := self._subscriptions.get(room):
            subscription.frame(frame)

    def closed(self, error: RoomlogError) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.end(error)
        self._outbox.close(error)
        for listeners in self._signals.values():
            for put in listeners:
                put(None)

    # What rooms ask.

    def _follow(self, subscription: Subscription) -> None:
        older = self._subscriptions.get(subscription.room)
        if older:
            older.end(RoomlogError("replaced", f"a newer loop of this client follows {subscription.room}"))
        self._subscriptions[subscription.room] = subscription
        if self._connection.failure:
            return subscription.end(self._connection.failure)
        self._connection.start()
        if self.state == "open":
            subscription.up()

    def _unfollow(self, subscription: Subscription, forget: bool = False) -> None:
        if self._subscriptions.get(subscription.room) is subscription:
            subscription.leave(forget)
            del self._subscriptions[subscription.room]

    async def _read(self, frame: Frame) -> Frame:
        """Asks until there is an answer: reading again changes nothing."""
        while True:
            await self._connection.opened()
            try:
                return await self._connection.request(frame)
            except RoomlogError as error:
                if error.code != "disconnected":
                    raise


def _socket_url(url: str) -> str:
    match = re.fullmatch(r"(?:ws|http)(s?)://([^/?#]+)(.*?)(?:/v1/ws)?/?", url)
    if not match:
        raise RoomlogError("bad_request", f"{url} is not an address such as wss://chat.example/v1/ws")
    secure, host, path = match.groups()
    return f"ws{secure}://{host}{path}/v1/ws"
