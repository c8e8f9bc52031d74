"""The source of tokens: a text, or a function that is called again before the last token expires."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from .errors import RoomlogError

TokenSource = str | Callable[[], str | Awaitable[str]]
"""A token, or a function that fetches one, plain or `async`. A plain one is called in a thread, since it may take its time."""


class Tokens:
    """Provides tokens that are valid for a while yet."""

    renew_at: float
    """When to fetch a new token, in Unix seconds by this machine's clock."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._current: str | None = source if isinstance(source, str) else None
        self.renew_at = math.inf

    async def get(self) -> str:
        """Returns a token that is valid for a while yet."""
        return self.usable() or await self.renew()

    async def renew(self) -> str:
        """Fetches a new token."""
        assert not isinstance(self._source, str), "a text is never renewed"
        with _explained():
            if inspect.iscoroutinefunction(self._source):
                token = await self._source()
            else:
                token = await asyncio.to_thread(self._source)
                if inspect.isawaitable(token):
                    token = await token
        return self._accept(token)

    def get_in_thread(self) -> str:
        """As `get`, for a thread without an event loop and a plain function."""
        if token := self.usable():
            return token
        assert not isinstance(self._source, str), "a text is never renewed"
        with _explained():
            fetched = self._source()
        return self._accept(fetched)

    def usable(self) -> str | None:
        """Returns the current token, if it is valid for a while yet."""
        return self._current if time.time() < self.renew_at else None

    def spent(self) -> None:
        """Discards the token, since the server refused it as expired. Raises if there can be no other."""
        if isinstance(self._source, str):
            raise RoomlogError(
                "token_expired",
                f"the token expired{_when(self._source)}: instead of a text, pass a function as `token`, and the client calls it in time"
                " for a new one",
            )
        self._current = None

    def _accept(self, token: object) -> str:
        if not isinstance(token, str) or not token:
            raise RoomlogError("application", f"the token function must return a token, a str that is not empty, and returned {token!r}")
        self._current = token
        self.renew_at = time.time() + lead_of(token)
        return token


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RoomlogError("application", f"the token function failed: {error}") from error


def claims_of(token: str) -> dict[str, Any]:
    """Returns the claims of a token, unverified: verifying is the server's part."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _when(token: str) -> str:
    expires = claims_of(token).get("exp")
    return f" on {datetime.fromtimestamp(expires, timezone.utc):%Y-%m-%d at %H:%M:%S UTC}" if isinstance(expires, (int, float)) else ""


def lead_of(token: str) -> float:
    """Returns the seconds to use a new token for: two thirds of its remaining life, or until a minute before its end. Where this
    machine's clock cannot be right, the token counts as new."""
    claims = claims_of(token)
    issued, expires = claims.get("iat", 0), claims.get("exp")
    if expires is None:
        return math.inf
    now = time.time()
    life = expires - (now if issued - 60 < now < expires else issued)
    return float(max(1.0, life - min(60.0, life / 3)))
