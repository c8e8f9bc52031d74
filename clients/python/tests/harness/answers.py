"""An HTTP server with answers that the real one does not give on demand."""

import asyncio
import contextlib
from collections.abc import Callable


class Answers:
    """Answers each request by a function of its path and body, with a status, a body and further headers."""

    def __init__(self, answer: Callable[[str, bytes], tuple[int, bytes, str]]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> "Answers":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        assert self._server
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                    _, _, length = head.partition("content-length: ")
                    body = await reader.readexactly(int(length.split()[0]) if length else 0)
                    status, content, headers = self._answer(head.split()[1], body)
                    writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n{headers}\r\n".encode() + content)
        finally:
            writer.close()
