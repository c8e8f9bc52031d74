"""Runs each example as its users do, against a real server that is stopped and restarted meanwhile."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from harness import until

EXAMPLES = Path(__file__).parent


@pytest.mark.timeout(180)
async def test_node_offline(read):
    reader = read("examples/node-offline/README.md")
    await reader.run("cd roomlog")
    server = await reader.follow("Set up")
    await server.end(signal.SIGINT)
    app = await reader.follow("Write offline")
    server = await reader.start_server()
    reader.look_at(app)
    await reader.follow("Go online")
    await app.finished()

    # The second time, the room has the messages of the first.
    await server.end(signal.SIGINT)
    app = await reader.start("node examples/node-offline/app.js")
    await app.shows("reopened")
    await reader.start_server()
    assert (await app.finished())[2:] == ["dev: one", "dev: two", "dev: three", "closed: no messages waiting"]
    # A phone has no Node.js modules.
    assert "node:" not in (EXAMPLES / "node-offline/app.js").read_text()


@pytest.mark.timeout(180)
async def test_python_bot_is_started(read):
    reader = read("examples/python-bot/README.md")
    await reader.start_server()
    await reader.run("cd roomlog")
    await reader.follow("Start it", "Send it a command")

    async def answers():
        return [message["data"]["text"] for message in await reader.messages("chat.general") if message["type"] == "answer"]

    async def has_answered():
        return await answers() == ["hello"]

    await until("it answers", has_answered)


async def test_python_bot(server, run):
    def ask(text):
        server.request("POST", "/v1/rooms/bot/messages", {"data": {"text": text}})

    def answers():
        return [message["data"]["text"] for message in server.history("bot") if message["type"] == "answer"]

    command = (sys.executable, EXAMPLES / "python-bot/bot.py")
    bot = await run(*command, ROOMLOG_ROOM="bot")
    await until("it is ready", lambda: bot.lines or bot.process.returncode is not None)
    ask("!echo one")
    ask("not a command")
    await until("it answers", lambda: answers() == ["one"])
    await bot.end()
    # It misses nothing while it or the server is down.
    ask("!echo two")
    ask("!echo !echo three")
    await asyncio.to_thread(server.kill)
    bot = await run(*command, ROOMLOG_ROOM="bot")
    await asyncio.to_thread(server.start)
    await until("it has answered everything", lambda: answers() == ["one", "two", "!echo three"])
    ask("!dance")
    await until("it answers", lambda: len(answers()) >= 4)
    assert answers()[3:] == ["I know !echo and !when, but not !dance"]
    assert bot.process.returncode is None, bot.errors


async def test_curl_sse(server, run, tmp_path):
    script, position = EXAMPLES / "curl-sse/room.sh", tmp_path / "position"

    async def publish(text):
        [id] = await (await run(script, "publish", "shell", json.dumps({"text": text}))).finished()
        return id

    async def saved(id):
        """Waits until the position is saved: a message printed before that would be printed again."""
        await until("the position is saved", lambda: position.read_text().strip() == id)

    def texts(follower):
        return [json.loads(line)["data"]["text"] for line in follower.lines]

    await publish("before")
    follower = await run(script, "follow", "shell", position)
    await until("it has a position", position.exists)
    await publish("one")
    await until("it follows", lambda: texts(follower) == ["one"])
    # The server is killed and restarted, and then the follower.
    await asyncio.to_thread(server.kill)
    publishing = asyncio.create_task(publish("two"))
    await asyncio.to_thread(server.start)
    two = await publishing
    await until("it has reconnected", lambda: texts(follower) == ["one", "two"])
    await saved(two)
    await follower.end()
    await publish("three")
    follower = await run(script, "follow", "shell", position)
    four = await publish("four")
    await until("it resumes", lambda: texts(follower) == ["three", "four"])
    await saved(four)
    # A gap goes to standard error.
    await follower.end()
    five, _ = await publish("five"), await publish("six")
    server.request("DELETE", f"/v1/rooms/shell/messages/{five}", rooms={"*": ["manage"]})
    follower = await run(script, "follow", "shell", position)
    await until("it resumes", lambda: texts(follower) == ["six"])
    await until(
        "it reports the gap",
        lambda: any(line.startswith("gap: ") for line in follower.errors),
    )
    assert server.data("shell") == [{"text": text} for text in ("before", "one", "two", "three", "four", "six")]
