"""Starts each app that signs tokens, logs users in, and uses their tokens with a server."""

import asyncio
import itertools
import os
import sys
from pathlib import Path

import httpx
import pytest
from harness import until
from harness.server import SECRET, free_port
from pages import REPOSITORY
from programs import Program

# They install packages, and compile.
pytestmark = pytest.mark.timeout(240)

# The commands that install and start each app, in its folder.
APPS = {
    "express": ["npm install", "node server.js"],
    "next": ["npm install", "npx next dev --hostname 127.0.0.1 --port $PORT"],
    "fastapi": ["python -m uvicorn main:app --port $PORT"],
    "django": ["python app.py 127.0.0.1:$PORT"],
    "go": ["go build -o tokens .", "./tokens"],
    "php": ["php -S 127.0.0.1:$PORT"],
    "rails": ["puma --bind tcp://127.0.0.1:$PORT"],
}


async def token(app: str, suffix: str, user: str) -> str:
    """Logs a user in, and fetches a token, as a browser does."""
    async with httpx.AsyncClient(base_url=app, timeout=60) as browser:
        refused = await browser.get(f"/roomlog-token{suffix}")
        assert refused.status_code == 401, refused.text
        login = await browser.post(f"/login{suffix}", params={"user": user})
        assert login.status_code == 204, login.text
        answer = await browser.get(f"/roomlog-token{suffix}")
        assert answer.status_code == 200, answer.text
        assert "no-store" in answer.headers["cache-control"]
        return answer.json()["token"]


async def allowed(server, token: str, method: str, room: str) -> bool:
    """Asks the server to read a room, or to publish to it."""
    async with httpx.AsyncClient(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
        body = {"data": "hello"} if method == "POST" else None
        answer = await client.request(method, f"/v1/rooms/{room}/messages", json=body)
        assert answer.status_code in (200, 201, 403), answer.text
        return answer.status_code != 403


@pytest.mark.parametrize("name", APPS)
async def test_tokens(name, server, request: pytest.FixtureRequest):
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORT": str(port),
        "SESSION_SECRET": "a secret for sessions, of at least 32 bytes",
        "ROOMLOG_AUTH__HS256_SECRET": SECRET,
        "NEXT_TELEMETRY_DISABLED": "1",
    }
    checkout = request.getfixturevalue("checkout_with_client" if name in ("express", "next") else "checkout")
    folder = checkout / "examples/tokens" / name
    *prepare, start = APPS[name]
    for command in prepare:
        await (await Program.start("sh", "-c", command, cwd=folder, env=environment)).finished(within=180)
    app = await Program.start("sh", "-c", f"exec {start}", cwd=folder, env=environment)
    try:
        await until("the app listens", lambda: listens(app, port), within=120)
        suffix = ".php" if name == "php" else ""
        ann = await token(f"http://127.0.0.1:{port}", suffix, "ann")
        assert await allowed(server, ann, "POST", "chat.general")
        assert await allowed(server, ann, "GET", "chat.general")
        assert await allowed(server, ann, "GET", "user.ann.orders")
        assert await allowed(server, ann, "GET", "@ann")
        assert not await allowed(server, ann, "POST", "user.ann.orders")
        assert not await allowed(server, ann, "GET", "user.bob.orders")
        assert not await allowed(server, ann, "GET", "@bob")
        assert not await allowed(server, ann, "GET", "secret")
        bob = await token(f"http://127.0.0.1:{port}", suffix, "bob")
        assert await allowed(server, bob, "GET", "user.bob.orders")
        assert not await allowed(server, bob, "GET", "user.ann.orders")
        [published] = server.history("chat.general")
        assert published["from"] == "ann"
    except AssertionError as error:
        raise AssertionError(f"{error}\n{app}") from error
    finally:
        await app.end()


async def listens(app: Program, port: int) -> bool:
    assert app.process.returncode is None, str(app)
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_page(read):
    await read("docs/tokens.md").follow("Express", "Next.js", "FastAPI", "Django", "Go", "PHP", "Rails")
    page = (REPOSITORY / "docs/tokens.md").read_text()
    for command in itertools.chain(*APPS.values()):
        assert f"`{command}`" in page
