"""Fixtures: a server, programs, readers of pages, and a browser, all ended after their test."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from harness import Server, token
from harness.server import free_port, program
from pages import REPOSITORY, Reader
from playwright.async_api import BrowserContext, async_playwright, expect
from programs import Program


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.end)


@pytest_asyncio.fixture
async def run(server: Server) -> AsyncIterator[Callable[..., Awaitable[Program]]]:
    """Runs programs as the user `dev`."""
    async with contextlib.AsyncExitStack() as stack:

        async def run(*command: object, **environment: str) -> Program:
            variables = {**os.environ, "ROOMLOG_URL": server.url, "ROOMLOG_TOKEN": token("dev"), **environment}
            program = await Program.start(*command, env=variables)
            stack.push_async_callback(program.end)
            return program

        yield run


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of the clients and examples, `roomlog` in a folder of its own, where readers make their projects."""
    checkout = tmp_path_factory.mktemp("reader") / "roomlog"
    for folder in ("clients", "examples"):
        ignored = shutil.ignore_patterns("node_modules", "dist", ".venv", "*_cache", "__pycache__")
        shutil.copytree(REPOSITORY / folder, checkout / folder, ignore=ignored)
    # The packages contain the licences.
    for licence in REPOSITORY.glob("LICENSE*"):
        shutil.copy(licence, checkout)
    return checkout


@pytest.fixture(scope="session")
def checkout_with_client(checkout: Path) -> Path:
    """The checkout, with a built JavaScript client."""
    # The quickstarts build it too.
    if not (checkout / "clients/js/dist").exists():
        for command in ("npm ci --no-fund --no-audit", "npm run build"):
            subprocess.run(command.split(), cwd=checkout / "clients/js", check=True)
    return checkout


@pytest_asyncio.fixture
async def read(checkout: Path, tmp_path: Path) -> AsyncIterator[Callable[[str], Reader]]:
    """Opens a page for a reader. The server gets a free port, and is not built again."""
    address = f"127.0.0.1:{free_port()}"
    serve = f"{program()} serve --dev --listen {address} --data-dir {tmp_path}/data"
    replaced = {
        "make run": serve,
        "target/release/roomlog": str(program()),
        "127.0.0.1:8080": address,
        "5173": str(free_port()),
    }
    environment = {
        **os.environ,
        # The Python of the tests has the client.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        # As in a terminal.
        "PYTHONUNBUFFERED": "1",
    }
    readers: list[Reader] = []

    def read(page: str) -> Reader:
        readers.append(Reader(page, checkout.parent, tmp_path, environment, replaced))
        return readers[-1]

    yield read
    for reader in readers:
        await reader.end()
    for reader in readers:
        reader.assert_done()


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[BrowserContext]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    assert path, "there is no Chromium: run scripts/install-deps.sh chromium"
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        # A busy machine is slow.
        expect.set_options(timeout=60_000)
        chromium = await playwright.chromium.launch(executable_path=path, args=arguments)
        yield await chromium.new_context()
        await chromium.close()
