"""A relay of frames between a client and the real server, which loses frames as no network does."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

Frame = dict[str, Any]

JSON = Subprotocol("roomlog.v1.json")


class Relay:
    """For clients that speak JSON."""

    def __init__(self, url: str) -> None:
        self._target = f"{url.replace('http', 'ws')}/v1/ws"
        self._server: Server | None = None
        #: Changes a frame of the server, or loses it with None.
        self.from_server: Callable[[Frame], Frame | None] = lambda frame: frame
        #: Whether nothing gets through, while the connections stay open.
        self.silent = False
        #: Every frame that clients sent.
        self.sent: list[Frame] = []
        self.connections = 0

    async def start(self) -> "Relay":
        self._server = await serve(self._accept, "127.0.0.1", 0, subprotocols=[JSON], ping_interval=None)
        return self

    @property
    def url(self) -> str:
        assert self._server
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}/v1/ws"

    def ops(self, op: str) -> list[Frame]:
        return [frame for frame in self.sent if frame["op"] == op]

    def cut(self) -> None:
        """Ends all connections without a goodbye."""
        assert self._server
        for client in self._server.connections:
            client.transport.abort()

    async def close(self) -> None:
        assert self._server
        self._server.close()
        await self._server.wait_closed()

    async def _accept(self, client: ServerConnection) -> None:
        self.connections += 1
        # A pump that no longer reads would not see the other side close, either.
        async with connect(self._target, subprotocols=[JSON], ping_interval=None, close_timeout=0.1) as upstream:
            pumps = [asyncio.create_task(self._up(client, upstream)), asyncio.create_task(self._down(client, upstream))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _up(self, client: ServerConnection, upstream: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in client:
                self.sent.append(json.loads(text))
                if not self.silent:
                    await upstream.send(text)

    async def _down(self, client: ServerConnection, upstream: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in upstream:
                frames = json.loads(text)
                kept = [self.from_server(frame) for frame in (frames if isinstance(frames, list) else [frames])]
                kept = [frame for frame in kept if frame is not None]
                if kept and not self.silent:
                    await client.send(json.dumps(kept))
        if upstream.close_code in (None, 1006):
            client.transport.abort()
        else:
            await client.close(upstream.close_code, upstream.close_reason or "")
