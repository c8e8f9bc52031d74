"""A program that publishes numbers through a SqliteOutbox until it is killed: `publisher.py URL FILE ROOM FIRST [STEP]`. It prints each
number when `publish` has returned. With a step such as `before _attempt 2`, it kills itself before the second call of that method."""

import asyncio
import os
import signal
import sys

from harness import token
from roomlog import Roomlog, SqliteOutbox, Timing


def kill_at(when: str, method: str, call: str) -> None:
    original = getattr(SqliteOutbox, method)
    calls = 0

    def killing(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if when == "before" and calls == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if when == "after" and calls == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(SqliteOutbox, method, killing)


async def main(url: str, file: str, name: str, first: str, *step: str) -> None:
    if step:
        kill_at(*step)
    timing = Timing(backoff_min=0.02, backoff_max=0.2)
    async with Roomlog(url, token=lambda: token("ann"), outbox=SqliteOutbox(file), timing=timing) as client:
        room = client.room(name)
        number = int(first)
        while True:
            publications = []
            for _ in range(3):
                publications.append(room.publish(number))
                os.write(1, f"{number}\n".encode())
                number += 1
            await asyncio.gather(*publications)


asyncio.run(main(*sys.argv[1:]))
