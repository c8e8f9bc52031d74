"""A message on its way: an object at once, and its id when it is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Literal

from .errors import RoomlogError

PublicationState = Literal["sending", "sent", "failed", "cancelled"]


class Publication:
    """What `publish` returns. Awaiting it gives the message's id, once the server has confirmed that it is stored.

    Giving up waiting, as `asyncio.wait_for` does, does not take the message back: `cancel()` does.
    """

    key: str
    """The UUID by which the message is known everywhere: what comes back through the room has the same."""
    room: str
    type: str
    data: Any
    """The content, as it is sent."""

    def __init__(self, room: str, data: Any, type: str, key: str, cancel: Callable[[Publication], bool]) -> None:
        self.room, self.data, self.type, self.key = room, data, type, key
        self._cancel = cancel
        self._confirmed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        #: Whether it may have reached the server, and the position of the room before that, where it is known.
        self._attempted = False
        self._after: str | None = None

    @property
    def state(self) -> PublicationState:
        """`sending`: waits, or is under way. `sent`: stored. `failed`: refused, see `error`. `cancelled`: it never left."""
        if not self._confirmed.done():
            return "sending"
        if self.error is None:
            return "sent"
        return "cancelled" if self.error.code == "cancelled" else "failed"

    @property
    def id(self) -> str | None:
        """The message's id, once it is `sent`."""
        return self._confirmed.result() if self.state == "sent" else None

    @property
    def error(self) -> RoomlogError | None:
        """Why it `failed`."""
        error = self._confirmed.exception() if self._confirmed.done() else None
        assert error is None or isinstance(error, RoomlogError)
        return error

    def cancel(self) -> bool:
        """Takes it back, if it has not left yet. Otherwise returns False: it may be stored already."""
        return self._cancel(self)

    def __await__(self) -> Generator[Any, None, str]:
        return asyncio.shield(self._confirmed).__await__()

    def __repr__(self) -> str:
        return f"<Publication {self.key} to {self.room}: {self.state}>"

    def _settle(self, outcome: str | RoomlogError) -> None:
        if isinstance(outcome, RoomlogError):
            self._confirmed.set_exception(outcome)
            if outcome.code == "cancelled":
                self._confirmed.exception()  # Whoever cancelled it knows.
        else:
            self._confirmed.set_result(outcome)
