"""The address of a server, in each form that applications write it in."""

from __future__ import annotations

import re

from .errors import RoomlogError


def socket_url(url: str) -> str:
    """Returns the address of the server's WebSocket."""
    return f"ws{_rest(url)}/v1/ws"


def http_url(url: str) -> str:
    """Returns the address of the server, without a slash at the end."""
    return f"http{_rest(url)}"


def _rest(url: str) -> str:
    match = re.fullmatch(r"(?:ws|http)(s?://[^/?#]+.*?)(?:/v1/ws)?/?", url)
    if not match:
        raise RoomlogError("bad_request", f"{url} is not the address of a server: use one such as wss://chat.example/v1/ws")
    return match[1]
