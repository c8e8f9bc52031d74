"""The network between a client and the server. It can be cut, even in the middle of a frame, and be offline."""

import asyncio
import contextlib


class Proxy:
    """Forwards bytes between clients and the server."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Bytes of either direction that may still pass before all connections are cut.
        self._budget: int | None = None
        self.online = True
        self.connections = 0

    async def start(self) -> "Proxy":
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        """The address for clients."""
        assert self._listener
        return f"ws://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/v1/ws"

    def cut(self) -> None:
        """Ends all connections abruptly."""
        self._budget = None
        for writer in self._writers:
            writer.transport.abort()

    def cut_after(self, count: int) -> None:
        """Ends all connections after `count` more bytes, wherever in a frame that is."""
        self._budget = count

    def go_offline(self) -> None:
        self.online = False
        self.cut()

    def go_online(self) -> None:
        self.online = True

    async def close(self) -> None:
        self.go_offline()
        assert self._listener
        self._listener.close()
        await asyncio.gather(*self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.online:
            return writer.transport.abort()
        self.connections += 1
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return writer.transport.abort()
        self._writers |= {writer, upstream_writer}
        for source, sink in ((reader, upstream_writer), (upstream_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65536):
                if self._budget is not None:
                    chunk, self._budget = chunk[: self._budget], self._budget - len(chunk)
                sink.write(chunk)
                await sink.drain()
                if self._budget is not None and self._budget <= 0:
                    # The bytes before still arrive: the end is sent behind them.
                    self._budget = None
                    for writer in self._writers:
                        writer.close()
        sink.close()
        self._writers.discard(sink)
