"""The one class of errors, and which of them are worth another try."""

from __future__ import annotations


class RoomlogError(Exception):
    """Every error of this package.

    `code` is one of the protocol, or of the client: `disconnected` (the connection was lost before the answer came), `closed`
    (the client or the loop was closed), `outbox_full` (as many messages wait as the outbox takes), `cancelled` (the message was
    taken back before it was sent), `replaced` (a newer loop or connection follows), `application` (the token function
    failed; `__cause__` is why).
    """

    code: str
    """The protocol's code, or one of the client's own."""
    retry_after_ms: int | None
    """After how many milliseconds another try makes sense, where the server said so."""

    def __init__(self, code: str, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return f"{self.code}: {self.args[0]}"

    def copy(self) -> RoomlogError:
        """The same, to be raised in another place."""
        return RoomlogError(self.code, self.args[0], retry_after_ms=self.retry_after_ms)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may go well the next time, with nothing changed."""
        return self.code in ("unavailable", "rate_limited", "disconnected")
