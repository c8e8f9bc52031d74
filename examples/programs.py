"""Programs that a test runs in the background, with their output so far."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Iterable

from harness import until

# Colours and the like, which some programs write even into a pipe.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Program:
    """A running program, with the processes that it starts."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            asyncio.create_task(self._read(stream, into))
            for stream, into in ((process.stdout, self.lines), (process.stderr, self.errors))
            if stream
        ]

    @classmethod
    async def start(cls, *command: object, **options: object) -> "Program":
        pipe = asyncio.subprocess.PIPE
        words = [str(word) for word in command]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
            # Ctrl-C ends a program in a terminal, but not one that a shell has started in the background, as these tests may be.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        )
        return cls(process)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def type(self, *lines: str) -> None:
        """Types lines into the program."""
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        await self.process.stdin.drain()

    async def shows(self, *lines: str, within: float = 60) -> None:
        """Waits until the program has printed these lines, one after the other; other lines may come between them."""

        def shown() -> bool:
            assert self.process.returncode in (None, 0), f"it ended with {self.process.returncode}:\n{self}"
            return contains(self.lines, lines)

        try:
            await until(f"it prints {lines}", shown, within)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self}") from None

    async def finished(self, within: float = 60) -> list[str]:
        """Waits for the end of the program, which must succeed, and returns its output."""
        try:
            code = await asyncio.wait_for(self.process.wait(), within)
        except asyncio.TimeoutError:
            raise AssertionError(f"it does not end:\n{self}") from None
        await asyncio.gather(*self._readers)
        assert code == 0, f"it ended with {code}:\n{self}"
        return self.lines

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends the program and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        await asyncio.wait_for(self.process.wait(), 30)
        await asyncio.gather(*self._readers)

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)

    def __str__(self) -> str:
        return "\n".join([*self.lines[-40:], "--- standard error:", *self.errors[-40:]])

    async def _read(self, stream: asyncio.StreamReader, into: list[str]) -> None:
        async for line in stream:
            into.append(ESCAPES.sub("", line.decode()).rstrip("\r\n"))


def contains(lines: Iterable[str], expected: Iterable[str]) -> bool:
    """Tells whether the expected lines are among these, in their order. `…` stands for any text."""
    rest = iter(lines)
    return all(any(matches(pattern, line) for line in rest) for pattern in expected)


def matches(pattern: str, line: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.strip().split("…")), line.strip()) is not None
