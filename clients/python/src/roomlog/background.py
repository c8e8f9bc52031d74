"""The thread behind a client of `roomlog.sync`. It runs the event loop, from the client's first use to its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .errors import RoomlogError

R = TypeVar("R")

Work = Callable[[], Coroutine[Any, Any, R]]

# Time that a program waits for the thread when it ends.
END_S = 5.0


class Background:
    """Runs coroutines of one client for other threads. Belongs to the process in which it was first used."""

    def __init__(self, at_end: Work[None]) -> None:
        """`at_end` ends the client."""
        self._at_end = at_end
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._ended = False

    def call(self, work: Work[R], timeout: float | None = None) -> R:
        """Runs a coroutine, and returns its result. Cancels it if that takes more than `timeout` seconds, or on Ctrl-C."""
        future = self._submit(work)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(f"there was no result within {timeout} s") from None
        finally:
            future.cancel()

    def _submit(self, work: Work[R]) -> concurrent.futures.Future[R]:
        if self._process not in (None, os.getpid()):
            raise RoomlogError(
                "forked",
                f"the process {self._process} used this client before it forked this process, which cannot share the connection: create a"
                " client in each process, or leave it unused until after the fork",
            )
        if self._thread is threading.current_thread():
            raise RoomlogError("bad_request", "the event loop of a client would wait for itself: use the client from another thread")
        with self._lock:
            if self._ended:
                raise RoomlogError("closed", "the client is closed: create a new one to connect again")
            loop = self._loop or self._start()
            return asyncio.run_coroutine_threadsafe(work(), loop)

    def end(self) -> None:
        """Ends the client and the thread. Waits for them, unless this thread is the one."""
        if self._process not in (None, os.getpid()):
            return
        with self._lock:
            self._ended = True
        if self._loop and self._ending and self._thread:
            with contextlib.suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(self._ending.set)
            if self._thread is not threading.current_thread():
                self._thread.join(END_S)

    def _start(self) -> asyncio.AbstractEventLoop:
        started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()

        async def main(loop: asyncio.AbstractEventLoop) -> None:
            self._ending = asyncio.Event()
            started.set_result(loop)
            await self._ending.wait()
            await self._at_end()
            # Callers that wait get their outcome.
            callers = asyncio.all_tasks() - {asyncio.current_task()}
            while callers:
                _, callers = await asyncio.wait(callers, timeout=END_S)
                for caller in callers:
                    caller.cancel()
            await loop.shutdown_asyncgens()

        def run() -> None:
            # `asyncio.run` would start one more thread at its end, which Python 3.12 refuses when the program ends.
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(main(loop))
            finally:
                loop.close()

        self._process = os.getpid()
        # A daemon, since others would keep the program from ending.
        self._thread = threading.Thread(target=run, name="roomlog", daemon=True)
        self._thread.start()
        self._loop = started.result()
        return self._loop
