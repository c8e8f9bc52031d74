"""Scripts of random faults, from seeds: connections cut within a frame, networks that are offline, servers that are killed, programs that
restart with an outbox on disk. After each, every message is in the log once and in order, and each reader has handled the whole log once
and in order.

ROOMLOG_SEED=17 runs one script alone.
"""

import asyncio
import os
import random
from http.client import HTTPException

import pytest
from harness import FAST, Proxy, Server, token, until

from roomlog import Gap, Roomlog, RoomlogError, SqliteOutbox

SCRIPTS = 40

# Number of scripts that share a server and its faults.
TOGETHER = 10

STEPS = 40

SEEDS = [int(os.environ["ROOMLOG_SEED"])] if "ROOMLOG_SEED" in os.environ else range(SCRIPTS)


class Stage:
    """A server that several scripts kill, one at a time."""

    def __init__(self, server):
        self.server = server
        self._fault = None

    def kill(self):
        if self._fault is None or self._fault.done():
            self._fault = asyncio.create_task(self._restart())

    async def calm(self):
        if self._fault:
            await self._fault

    async def history(self, room):
        """Reads the whole log, as soon as the server runs for long enough."""
        while True:
            await self.calm()
            try:
                return await asyncio.to_thread(self.server.history, room)
            except (OSError, HTTPException):
                pass

    async def _restart(self):
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)


class Device:
    """A client behind a network of its own, with a record of its user's messages."""

    def __init__(self, user, room, encoding, proxy, file, **options):
        self.proxy, self.options = proxy, options
        self._room, self._file = room, file
        self._client = {"url": proxy.url, "token": lambda: token(user), "encoding": encoding, "timing": FAST}
        self.handled = []
        self.written = []
        self.slow = 0.0
        self._begin()

    def _begin(self):
        self.client = Roomlog(**self._client, outbox=SqliteOutbox(self._file))
        self.room = self.client.room(self._room)
        self.messages = None
        self.reading = asyncio.create_task(self.read())

    async def read(self):
        while True:
            self.messages = self.room.messages(**self.options)
            try:
                async for message in self.messages:
                    assert not isinstance(message, Gap), message
                    await asyncio.sleep(self.slow)
                    self.handled.append(message.id)
            except RoomlogError as error:
                # The other device took the subscription over. This one takes it back after a while.
                assert error.code == "replaced", error
                await asyncio.sleep(random.uniform(0, 0.2))

    async def restart(self):
        """Ends the client and begins with another, as a program does that restarts and has stored what it has handled."""
        self.reading.cancel()
        await asyncio.wait({self.reading})
        await self.client.close()
        if self.handled:
            self.options["since"] = self.handled[-1]
        self._begin()

    async def end(self):
        self.reading.cancel()
        await self.client.close()
        await self.proxy.close()


async def script(seed, stage, directory):
    chance = random.Random(seed)
    room = f"faults.{seed}"
    devices = []

    async def start(user, **options):
        proxy = await Proxy(stage.server.port).start()
        file = directory / f"{seed}.{len(devices)}.db"
        devices.append(Device(user, room, chance.choice(["json", "msgpack"]), proxy, file, **options))
        return devices[-1]

    writers = [await start("ann", since="0"), await start("bob", since="0")]
    durable = [await start("dora", durable="phone", auto_ack=True, last=0)]
    try:
        await until("all follow the room", lambda: all(device.messages and device.messages.position for device in devices))
        durable.append(await start("dora", durable="phone", auto_ack=True, last=0))
        number = 0
        for _ in range(STEPS):
            device, writer = chance.choice(devices), chance.choice(writers)
            faults = {"write": 8, "cut": 2, "mid frame": 4, "offline": 2, "online": 3, "slow": 1, "restart": 1, "kill": 0.15}
            match chance.choices(list(faults), list(faults.values()))[0]:
                case "write":
                    for _ in range(chance.randint(1, 5)):
                        writer.written.append(writer.room.publish(f"{number}{'.' * chance.randint(0, 2000)}"))
                        number += 1
                case "cut":
                    device.proxy.cut()
                case "mid frame":
                    device.proxy.cut_after(chance.randint(1, 3000))
                case "offline":
                    device.proxy.go_offline()
                case "online":
                    for one in devices:
                        one.proxy.go_online()
                case "slow":
                    device.slow = 0 if device.slow else chance.uniform(0, 0.02)
                case "restart":
                    await writer.restart()
                case "kill":
                    # Not awaited: the script continues while the fault lasts.
                    stage.kill()
            await asyncio.sleep(chance.uniform(0, 0.06))
        for device in devices:
            device.proxy.go_online()
            device.slow = 0
        for writer in writers:
            await until("all messages are confirmed", lambda writer=writer: writer.client.state == "open" and not writer.room.pending, 30)
        log = await stage.history(room)
        ids = [message["id"] for message in log]
        await until("all have read the whole log", lambda: all(not ids or writer.handled[-1:] == ids[-1:] for writer in writers))
        await until(
            "the holders of the durable subscription have read the log together",
            lambda: {id for one in durable for id in one.handled} >= set(ids),
        )
        for writer in writers:
            assert writer.handled == ids, "each message once and in order"
            own = [message for message in log if message["key"] in {publication.key for publication in writer.written}]
            assert [(m["key"], m["data"]) for m in own] == [(p.key, p.data) for p in writer.written]
            # A publication of a client that has ended may not know its id.
            assert all(p.id in (m["id"], None) for m, p in zip(own, writer.written, strict=True))
        assert len(log) == number
    finally:
        for device in devices:
            await device.end()


@pytest.mark.parametrize("seeds", [SEEDS[i : i + TOGETHER] for i in range(0, len(SEEDS), TOGETHER)], ids=lambda seeds: f"seeds {seeds}")
async def test_random_faults_lose_repeat_and_reorder_nothing(seeds, tmp_path):
    server = Server()
    try:
        stage = Stage(await asyncio.to_thread(server.start))
        results = await asyncio.gather(*(script(seed, stage, tmp_path) for seed in seeds), return_exceptions=True)
    finally:
        server.end()
    failures = {seed: result for seed, result in zip(seeds, results, strict=True) if result is not None}
    assert not failures, failures
