"""The content of messages. It is checked and copied on publishing: data that cannot be sent is refused at once, with the path to it, and
later changes by the application do not change the message."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from .errors import RoomlogError

# The server's limits.
MAX_DEPTH = 32
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1


def snapshot(value: Any, binary: bool, path: str = "data", depth: int = 0) -> Any:
    """Copies plain data. `binary`: whether the encoding has binary values."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, path)
    if isinstance(value, int):
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            _refuse(path, f"{value} is outside the range -2^63 to 2^64-1; send it as text")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(path, f"{value} is not a finite number")
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        if not binary:
            _refuse(path, 'binary data needs a client with the encoding "msgpack"')
        return bytes(value)
    if not isinstance(value, (dict, list, tuple)):
        hint = "; send the result of `isoformat()`" if hasattr(value, "isoformat") else ""
        _refuse(path, f"an instance of {type(value).__name__} is not plain data{hint}")
    if depth == MAX_DEPTH:
        _refuse(path, f"it is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(value, dict):
        return [snapshot(item, binary, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    copy = {}
    for key, item in value.items():
        if not isinstance(key, str):
            _refuse(path, f"the key {key!r} is not a str")
        copy[text(key, path)] = snapshot(item, binary, f"{path}.{key}", depth + 1)
    return copy


def text(value: object, path: str) -> str:
    """Copies text. Raises for anything that is not text, or that cannot be encoded."""
    if not isinstance(value, str):
        _refuse(path, f"{value!r} is not a str")
    # Half a surrogate pair is not valid UTF-8, and would cost the connection.
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(path, f"{value!r} contains half a surrogate pair")
    return str(value)


def _refuse(path: str, why: str) -> NoReturn:
    raise RoomlogError("bad_request", f"{path} cannot be sent: {why}")
