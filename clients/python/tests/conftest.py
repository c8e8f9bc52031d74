"""Fixtures: servers, networks and clients, closed after their test."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from harness import FAST, Proxy, Relay, Server, token

from roomlog import Roomlog

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of all tests that leave it running. It forgets keys after a second or two."""
    server = Server(RETENTION__DEDUPLICATION_WINDOW="1s")
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture
def name() -> str:
    """The name of a room that no other test uses."""
    return f"test.{next(_numbers)}"


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest_asyncio.fixture
async def client(server: Server, stack: contextlib.AsyncExitStack) -> Callable[..., Roomlog]:
    """Makes clients, of the common server by default."""

    def make(url: str | None = None, **options: Any) -> Roomlog:
        made = Roomlog(url or server.url, **{"token": lambda: token("ann"), "timing": FAST, **options})
        stack.push_async_callback(made.close)
        return made

    return make


@pytest_asyncio.fixture
async def relay(server: Server, stack: contextlib.AsyncExitStack) -> Relay:
    relay = await Relay(server.url).start()
    stack.push_async_callback(relay.close)
    return relay


@pytest_asyncio.fixture
async def proxy(server: Server, stack: contextlib.AsyncExitStack) -> Proxy:
    proxy = await Proxy(server.port).start()
    stack.push_async_callback(proxy.close)
    return proxy
