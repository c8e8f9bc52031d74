"""The source of tokens: a text, or a function that is called again before the last token expires."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import math
import time
from collections.abc import Awaitable, Callable
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
        if self._current is not None and time.time() < self.renew_at:
            return self._current
        return await self.renew()

    async def renew(self) -> str:
        """Fetches a new token."""
        assert not isinstance(self._source, str), "a text is never renewed"
        try:
            if inspect.iscoroutinefunction(self._source):
                token = await self._source()
            else:
                token = await asyncio.to_thread(self._source)
                if inspect.isawaitable(token):
                    token = await token
        except Exception as error:
            raise RoomlogError("application", f"the token function failed: {error}") from error
        if not isinstance(token, str) or not token:
            raise RoomlogError("application", f"the token function must return a token, a str that is not empty, and returned {token!r}")
        self._current = token
        self.renew_at = time.time() + lead_of(token)
        return token

    def spent(self) -> None:
        """Discards the token, since the server refused it as expired. Raises if there can be no other."""
        if isinstance(self._source, str):
            raise RoomlogError("token_expired", "the token has expired: pass a function as `token`, so that the client can fetch a new one")
        self._current = None


def claims_of(token: str) -> dict[str, Any]:
    """Returns the claims of a token, unverified: verifying is the server's part."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


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
