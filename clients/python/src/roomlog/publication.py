"""An unconfirmed message: an object to show, and the message's id when it is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, Literal

from .errors import RoomlogError
from .types import T

PublicationState = Literal["sending", "sent", "failed", "cancelled"]
"""The state of a published message: see `Publication.state`."""


class Publication(Generic[T]):
    """A published message. Awaiting it gives the message's id, once the server has confirmed that it is stored.

    A time-out of the wait, as by `asyncio.wait_for`, does not withdraw the message: `cancel()` does.
    """

    key: str
    """The message's UUID. The message that comes back through the room has the same."""
    room: str
    """The room's name."""
    type: str
    """The message's type."""
    data: T
    """The content, as it was when it was published."""

    def __init__(self, room: str, data: T, type: str, key: str, cancel: Callable[[Publication[Any]], bool]) -> None:
        self.room, self.data, self.type, self.key = room, data, type, key
        self._cancel = cancel
        self._confirmed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        #: Whether it may have reached the server, and the room's position before that, if it is known.
        self._attempted = False
        self._after: str | None = None

    @property
    def state(self) -> PublicationState:
        """`sending`: waits, or is being sent. `sent`: stored. `failed`: refused, see `error`. `cancelled`: withdrawn before it was sent."""
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
        """Withdraws the message, if it has not been sent. Otherwise returns False: it may be stored already."""
        return self._cancel(self)

    def __await__(self) -> Generator[Any, None, str]:
        return asyncio.shield(self._confirmed).__await__()

    def __repr__(self) -> str:
        outcome = self.id or self.error or ""
        return f"<Publication {self.key} to {self.room}: {self.state}{outcome and f' ({outcome})'}>"

    def _settle(self, outcome: str | RoomlogError) -> None:
        if isinstance(outcome, RoomlogError):
            self._confirmed.set_exception(outcome)
            if outcome.code == "cancelled":
                self._confirmed.exception()  # Retrieved, so that asyncio does not report it as unhandled.
        else:
            self._confirmed.set_result(outcome)
