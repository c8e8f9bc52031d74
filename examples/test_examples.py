"""Runs each example as its users do, against a real server that is stopped and restarted meanwhile."""

import asyncio
import json
import sys
from pathlib import Path

from harness import until

EXAMPLES = Path(__file__).parent


async def test_node_offline(server, run):
    await asyncio.to_thread(server.kill)
    app = await run("node", EXAMPLES / "node-offline/app.js", ROOMLOG_ROOM="offline")
    await until(
        "it waits for a network",
        lambda: "reopened" in app.lines or app.process.returncode is not None,
    )
    await asyncio.to_thread(server.start)
    assert (await app.finished())[2:] == [
        "dev: one",
        "dev: two",
        "dev: three",
        "closed: no messages waiting",
    ]
    assert server.data("offline") == [
        {"text": "one"},
        {"text": "two"},
        {"text": "three"},
    ]
    # A phone has no Node.js modules.
    assert "node:" not in (EXAMPLES / "node-offline/app.js").read_text()


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
