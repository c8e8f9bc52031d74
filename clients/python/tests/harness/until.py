"""Waiting for conditions: tests wait for nothing else."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

WITHIN_S = 15.0


async def until(what: str, holds: Callable[[], T | Awaitable[T]], within: float = WITHIN_S) -> T:
    """Waits until a condition holds. Fails with its name if that takes far too long."""
    deadline = time.monotonic() + within
    while True:
        value = holds()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out waiting until {what}")
        await asyncio.sleep(0.005)


def wait_until(what: str, holds: Callable[[], object], within: float = WITHIN_S) -> None:
    """As `until`, in a test without an event loop."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out waiting until {what}")
        time.sleep(0.005)
