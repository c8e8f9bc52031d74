"""One connection to the server, re-established whenever it breaks: back-off, liveness checks and the token. Its user sees when it is up,
sends requests, and gets answers and frames."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from .data import snapshot
from .errors import RoomlogError
from .protocol import Codec, Frame, Payload, frames_of
from .tokens import Tokens

logger = logging.getLogger("roomlog")

ConnectionState = Literal["idle", "connecting", "open", "waiting", "closed"]
"""The state of a client's connection: see `Roomlog.state`."""

Answer = Callable[[Frame | RoomlogError], None]

# Close codes after which a client must not connect again, and their error codes.
FINAL = range(4500, 5000)
FINAL_CODES = {4501: "unauthenticated", 4502: "token_revoked", 4503: "rate_limited"}

TOKEN_EXPIRED = 4001

# Time that a connection must last for the back-off to begin anew.
STEADY_S = 5.0

# Time for the closing handshake, in case the server does not answer.
CLOSE_S = 2.0

# Limit of frames that wait for the socket. Beyond it signals are dropped, since their delivery is not promised.
WAITING = 1000


@dataclass(frozen=True)
class Timing:
    """Times, in seconds. The defaults suit production."""

    backoff_min: float = 0.5
    """Range of the first pause before connecting again. Pauses are random from 0 to a range that doubles."""
    backoff_max: float = 20.0
    """Greatest range of a pause."""
    connect: float = 10.0
    """Longest time to connect."""
    ping: float = 20.0
    """Interval of pings, and the time for an answer to each."""


class Above(Protocol):
    """The user of a connection. It is called synchronously, in order with the frames."""

    def starting(self) -> None: ...
    def up(self) -> None: ...
    def down(self) -> None: ...
    def frame(self, frame: Frame) -> None: ...
    def closed(self, error: RoomlogError) -> None: ...


class Connection:
    """Stays connected from the first `start` until `close`, or until the server refuses this user."""

    def __init__(self, url: str, codec: Codec, tokens: Tokens, timing: Timing, above: Above) -> None:
        self.state: ConnectionState = "idle"
        #: The user that the token names.
        self.user: str | None = None
        self.url, self._codec, self._tokens, self._timing, self._above = url, codec, tokens, timing, above
        self._task: asyncio.Task[None] | None = None
        #: The reason why it is closed for good.
        self.failure: RoomlogError | None = None
        self._closing = False
        #: Set while it is open or closed.
        self._settled = asyncio.Event()
        self._outgoing: asyncio.Queue[Payload | None] = asyncio.Queue()
        self._answers: dict[int, Answer] = {}
        self._reference = 0
        self._limit: int | None = None
        self._attempts = 0
        self._opened_at = 0.0
        self._retry_after_ms: int | None = None
        #: Why the server ends this connection: its answer to `connect`, or else its goodbye.
        self._reason: RoomlogError | None = None

    def start(self) -> None:
        """Connects, unless it has begun to. Raises if its user cannot start."""
        if self.state == "idle":
            self._above.starting()
            self.state = "connecting"
            self._task = asyncio.create_task(self._run(), name="roomlog connection")

    async def opened(self) -> None:
        """Waits until there is a connection. Raises once there will be none."""
        self.start()
        while self.state != "open":
            if self.failure:
                raise self.failure.copy()
            await self._settled.wait()

    async def close(self) -> None:
        """Ends the connection for good, after the frames that were sent before."""
        self._closing = True
        if self._task:
            if self.state == "open":
                self._outgoing.put_nowait(None)
                await asyncio.wait({self._task}, timeout=CLOSE_S)
            while not self._task.done():
                # Repeated, since `asyncio` can lose a cancellation that coincides with the awaited result.
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=2 * CLOSE_S)
        self._finish(RoomlogError("closed", "the client is closed: create a new one to connect again"))

    def ask(self, frame: Frame, answer: Answer) -> None:
        """Sends a request. Calls back with its answer exactly once, in order with the frames around it."""
        if self.state == "open":
            self._put(frame, answer)
        else:
            answer(RoomlogError("disconnected", "there is no connection to the server"))

    async def request(self, frame: Frame) -> Frame:
        """Sends a request, and returns its answer."""
        answered: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

        def answer(ok: Frame | RoomlogError) -> None:
            if answered.done():  # Nobody waits any more.
                return
            if isinstance(ok, RoomlogError):
                answered.set_exception(ok)
            else:
                answered.set_result(ok)

        self.ask(frame, answer)
        return await answered

    async def read(self, frame: Frame) -> Frame:
        """Sends a request as soon as there is a connection, and repeats it until it is answered: for requests that change nothing."""
        while True:
            await self.opened()
            try:
                return await self.request(frame)
            except RoomlogError as error:
                if error.code != "disconnected":
                    raise

    def snapshot(self, data: Any) -> Any:
        """Copies data for this connection's encoding. Raises `bad_request` for data that cannot be sent in it."""
        return snapshot(data, self._codec.encoding == "msgpack")

    def tell(self, frame: Frame) -> None:
        """Sends a request without awaiting an answer. Does nothing if there is no connection."""
        if self.state == "open":
            self._outgoing.put_nowait(self._encode(frame))

    def tell_if_free(self, frame: Frame) -> None:
        """As `tell`, but drops the request if many frames wait for the socket."""
        if self._outgoing.qsize() < WAITING:
            self.tell(frame)

    def _encode(self, frame: Frame) -> Payload:
        try:
            payload = self._codec.encode(frame)
        except (TypeError, ValueError) as error:
            raise RoomlogError("bad_request", f"the request could not be sent: {error}") from error
        size = len(payload.encode() if isinstance(payload, str) else payload)
        if self._limit is not None and size > self._limit:
            raise RoomlogError("too_large", f"the request has {size} bytes, and the server accepts at most {self._limit}")
        return payload

    def _put(self, frame: Frame, answer: Answer) -> None:
        self._reference += 1
        try:
            payload = self._encode({**frame, "ref": self._reference})
        except RoomlogError as error:
            return answer(error)
        self._answers[self._reference] = answer
        self._outgoing.put_nowait(payload)

    async def _run(self) -> None:
        """Connects again and again, until the connection is closed for good."""
        try:
            while True:
                self.state = "connecting"
                self._retry_after_ms = self._reason = None
                why = await self._attempt()
                self._drop(why)
                if self._closing:
                    return
                pause = self._pause()
                self.state = "waiting"
                logger.info("the connection to %s failed: %s; trying again in %.1f s", self.url, why, pause)
                await asyncio.sleep(pause)
        except RoomlogError as error:
            logger.error("the connection to %s has ended: %s", self.url, error)
            self._finish(error)
        except Exception:
            # A bug of this client. Callers must not wait for ever.
            logger.exception("the connection to %s has failed", self.url)
            self._finish(RoomlogError("internal", "the connection has failed by an error of this client: see the log of `roomlog`"))

    def _pause(self) -> float:
        if self._retry_after_ms is not None:
            return self._retry_after_ms / 1000
        widest = min(self._timing.backoff_max, self._timing.backoff_min * 2 ** min(self._attempts, 30))
        self._attempts += 1
        return random.uniform(0, widest)

    async def _attempt(self) -> str:
        """Makes one connection, and returns the reason of its end. Raises if there must be no other."""
        try:
            token = await self._tokens.get()
        except RoomlogError as error:
            logger.warning("%s", error)
            return str(error)
        try:
            async with connect(
                self.url,
                subprotocols=[Subprotocol(f"roomlog.v1.{self._codec.encoding}")],
                open_timeout=self._timing.connect,
                close_timeout=CLOSE_S,
                ping_interval=self._timing.ping,
                ping_timeout=self._timing.ping,
                compression=None,
                # The server has limits of its own.
                max_size=None,
            ) as socket:
                return await self._converse(socket, token)
        except ConnectionClosed as closed:
            return self._ended(closed)
        except InvalidStatus as refused:
            return self._refused(refused.response)
        except (TimeoutError, asyncio.TimeoutError):
            return "the server did not answer in time"
        except (OSError, EOFError, WebSocketException) as error:
            return str(error) or type(error).__name__

    async def _converse(self, socket: ClientConnection, token: str) -> str:
        self._outgoing = asyncio.Queue()
        self._limit = None
        # Until the first answer. From then on, pings detect a dead connection.
        impatience = asyncio.get_running_loop().call_later(self._timing.connect, socket.transport.abort)
        helpers: list[asyncio.Task[None] | asyncio.TimerHandle] = [
            impatience,
            asyncio.create_task(self._write(socket, self._outgoing)),
        ]

        def introduced(ok: Frame | RoomlogError) -> None:
            if isinstance(ok, RoomlogError):
                # The close that follows decides what to do.
                self._reason = ok
                if ok.code != "disconnected":
                    logger.warning("the server refused the connection: %s", ok)
                return
            impatience.cancel()
            helpers.append(asyncio.create_task(self._renew()))
            self._introduced(ok)

        try:
            self._put({"op": "connect", "token": token}, introduced)
            while True:
                payload = await socket.recv()
                try:
                    frames = frames_of(self._codec.decode(payload))
                except (ValueError, RoomlogError) as error:
                    return f"the server sent a message that cannot be decoded: {error}"
                for frame in frames:
                    self._received(frame)
        finally:
            for helper in helpers:
                helper.cancel()

    async def _write(self, socket: ClientConnection, outgoing: asyncio.Queue[Payload | None]) -> None:
        try:
            while (payload := await outgoing.get()) is not None:
                await socket.send(payload)
            await socket.close()
        except ConnectionClosed:
            pass  # The reader sees it too, and says what is to be done.

    def _introduced(self, ok: Frame) -> None:
        self.user = ok["user"]
        self._limit = ok["max_message"] * 16
        self._opened_at = time.monotonic()
        self.state = "open"
        self._settled.set()
        self._above.up()

    def _received(self, frame: Frame) -> None:
        op = frame["op"]
        if op in ("ok", "error"):
            answer = self._answers.pop(frame.get("ref", 0), None)
            if op == "ok":
                return answer(frame) if answer else None
            error = RoomlogError(frame["code"], frame["message"], retry_after_ms=frame.get("retry_after_ms"))
            if answer:
                return answer(error)
            logger.warning("the server refused a request: %s", error)
        elif op == "goodbye":
            self._retry_after_ms = frame.get("retry_after_ms")
            # It only refers to the answer to `connect`, if that was an error.
            self._reason = self._reason or RoomlogError(frame["code"], frame["message"])
        elif op != "pong":
            self._above.frame(frame)

    def _ended(self, closed: ConnectionClosed) -> str:
        """Returns the server's reason for a close. Raises if there must be no other connection."""
        if closed.rcvd is None:
            return str(self._reason or "the connection to the server was lost")
        code = closed.rcvd.code
        reason = self._reason or RoomlogError(FINAL_CODES.get(code, "closed"), f"the server closed the connection with code {code}")
        if code in FINAL:
            raise reason
        if code == TOKEN_EXPIRED:
            self._tokens.spent()
        return str(reason)

    def _refused(self, response: Response) -> str:
        """Returns the reason for which a server, or a proxy before it, did not open a WebSocket."""
        try:
            problem = json.loads(response.body)
            self._retry_after_ms = problem.get("retry_after_ms")
            return f"{problem['code']}: {problem['detail']}"
        except (ValueError, KeyError, AttributeError, TypeError):
            return f"the answer was not a WebSocket, but the HTTP status {response.status_code}: check the address"

    async def _renew(self) -> None:
        """Renews the token of this connection in time. Repeats a failed renewal after a growing pause."""
        pause = 0.0
        while self._tokens.renew_at < float("inf"):
            had = self._tokens.renew_at
            await asyncio.sleep(max(had - time.time(), pause))
            try:
                token = await self._tokens.renew()
                await self.request({"op": "auth", "token": token})
                if self._tokens.renew_at <= had:
                    raise RoomlogError("application", "the token function returned a token that does not expire later than the last one")
                pause = 0.0
            except RoomlogError as error:
                logger.warning("the token could not be renewed: %s", error)
                pause = min(max(1.0, pause * 2), 30.0)

    def _drop(self, why: str) -> None:
        """Ends a connection or an attempt. Requests without an answer fail with `disconnected`."""
        was_open = self.state == "open"
        if was_open and time.monotonic() - self._opened_at >= STEADY_S:
            self._attempts = 0
        self.state = "waiting"
        self._settled.clear()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer(RoomlogError("disconnected", why))
        if was_open:
            self._above.down()

    def _finish(self, error: RoomlogError) -> None:
        if self.failure:
            return
        self.failure = error
        self._drop(error.args[0])
        self.state = "closed"
        self._settled.set()
        self._above.closed(error)
