"""The class of all errors, and which of them are temporary."""

from __future__ import annotations


class RoomlogError(Exception):
    """Every error of this package. `code` is one of the protocol, or of the client:

    - `disconnected`: the connection was lost before the answer came
    - `closed`: the client or the loop was closed
    - `forked`: another process has used this client of `roomlog.sync`
    - `outbox_full`: too many messages are unconfirmed
    - `outbox_locked`: another client uses the file of the outbox
    - `outbox_failed`: that file cannot be read or written
    - `cancelled`: the message was withdrawn before it was sent
    - `replaced`: a newer loop or connection follows the room
    - `application`: the token function failed; `__cause__` is why
    """

    code: str
    """The protocol's code, or one of the client's own."""
    retry_after_ms: int | None
    """The milliseconds after which to try again, where the server named a time."""

    def __init__(self, code: str, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_ms = retry_after_ms

    @property
    def retry_after(self) -> float | None:
        """The same in seconds."""
        return None if self.retry_after_ms is None else self.retry_after_ms / 1000

    def __str__(self) -> str:
        return f"{self.code}: {self.args[0]}"

    def copy(self) -> RoomlogError:
        """Returns the same error, to be raised in another place."""
        return RoomlogError(self.code, self.args[0], retry_after_ms=self.retry_after_ms)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later, with nothing changed."""
        return self.code in ("unavailable", "rate_limited", "disconnected")
