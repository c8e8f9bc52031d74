"""A real server, with the real Redis that it starts itself. It can be killed, and started again on the same data."""

import base64
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SECRET = "a secret for tests, of at least 32 bytes"

REPOSITORY = Path(__file__).resolve().parents[4]


def program() -> Path:
    """Returns the path of the program under test: `ROOMLOG_BIN`, or the one that the checkout has built."""
    target = REPOSITORY / os.environ.get("CARGO_TARGET_DIR", "target")
    path = Path(os.environ.get("ROOMLOG_BIN") or target / "debug/roomlog")
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run `cargo build`, or set ROOMLOG_BIN")
    return path


def token(user: str, ttl: float = 3600, rooms: dict[str, list[str]] | None = None, **claims: Any) -> str:
    """Signs a token for a user, as an application's own server would."""

    def part(value: object) -> str:
        return _base64url(json.dumps(value).encode())

    now = int(time.time())
    payload = {"sub": user, "iat": now, "exp": now + ttl, "rooms": rooms or {"*": ["read", "write"]}, **claims}
    body = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(payload)}"
    return f"{body}.{_base64url(hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).digest())}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Server:
    """A server, from `start` to `end`. Its methods block: in an event loop, call them in a thread."""

    def __init__(self, **settings: str) -> None:
        """Settings are such as `RETENTION__DEDUPLICATION_WINDOW="1s"`."""
        self.port = free_port()
        self._dir = tempfile.mkdtemp(prefix="roomlog-py-")
        self._log = Path(self._dir, "log")
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Server":
        env = {
            **os.environ,
            "ROOMLOG_AUTH__HS256_SECRET": SECRET,
            "ROOMLOG_LOG__LEVEL": "warn",
            "ROOMLOG_SERVER__SHUTDOWN_GRACE": "2s",
            **{f"ROOMLOG_{key}": value for key, value in self._settings.items()},
        }
        arguments = ["serve", "--listen", f"127.0.0.1:{self.port}", "--data-dir", f"{self._dir}/data"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([program(), *arguments], env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server does not start:\n{self._log.read_text()}")
            time.sleep(0.01)
        return self

    def kill(self) -> None:
        """Kills the server. Returns when the port is free."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Terminates the server, which sends a goodbye."""
        assert self._process
        self._process.terminate()
        self._process.wait()

    def end(self) -> None:
        if self._process and self._process.poll() is None:
            self.terminate()
        shutil.rmtree(self._dir)

    def request(self, method: str, path: str, body: object = None, rooms: dict[str, list[str]] | None = None) -> Any:
        """Makes an HTTP request, without the client under test."""
        headers = {"authorization": f"Bearer {token('checker', rooms=rooms)}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(asked) as response:
            text = response.read()
        return json.loads(text) if text else None

    def history(self, room: str) -> list[dict[str, Any]]:
        """Reads the whole log of a room."""
        log: list[dict[str, Any]] = []
        while True:
            after = log[-1]["id"] if log else "0"
            page = self.request("GET", f"/v1/rooms/{room}/messages?after={after}&limit=1000")
            log += page["messages"]
            if not page["more"]:
                return log

    def data(self, room: str) -> list[Any]:
        return [message["data"] for message in self.history(room)]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz") as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
