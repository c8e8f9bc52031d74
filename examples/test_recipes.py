"""Follows the recipes, with servers that stop, programs that are killed, and people who come back later."""

import signal
import time

import pytest
from harness import until
from playwright.async_api import expect

# They install packages.
pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("checkout_with_client")]


async def is_done(reader, name):
    """Tells whether the durable subscription to a room has acknowledged everything."""
    [subscription] = await reader.ask(f"/v1/rooms/{name}/subscriptions")
    return subscription["lag"] == 0


async def test_notifications(read):
    reader = read("docs/recipes/notifications.md")
    server = await reader.start_server()
    inbox = await reader.follow("Set up", "Notify", "Read", "Try it")
    await inbox.end(signal.SIGINT)
    inbox = await reader.start("node inbox.mjs ann")
    await inbox.shows("2 unread", "- Your order is paid", "- Your order is on its way")
    await reader.run("node notify.mjs ann order-18-paid 'Another one'")
    await inbox.shows("3 unread", "- Another one")
    # A lost connection changes nothing.
    await server.end(signal.SIGINT)
    await reader.start_server()
    await inbox.shows("3 unread", "- Another one", "3 unread", "- Another one")
    await inbox.type("")
    await inbox.shows("3 unread", "0 unread")
    await until("the server knows that", lambda: is_done(reader, "@ann"))
    await inbox.end(signal.SIGINT)
    inbox = await reader.start("node inbox.mjs ann")
    await inbox.shows("0 unread")
    assert inbox.lines == ["0 unread"]
    await reader.follow("What is unread, seen from the server")


async def test_dashboard(read, browser):
    reader = read("docs/recipes/dashboard.md")
    server = await reader.start_server()
    web = await reader.follow("Set up", "Measure", "Show", "Try it")
    page = await browser.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    await web.shows("Serving HTTP …")
    await page.goto(reader.replace("http://127.0.0.1:5173"))

    async def shown():
        points = await page.locator("polyline").get_attribute("points") or ""
        return [float(point.split(",")[1]) for point in points.split()]

    async def at_least(count):
        await until(f"{count} samples are shown", lambda: enough(count), 60)

    async def enough(count):
        return len(await shown()) >= count

    await at_least(3)
    await expect(page.locator("output")).to_contain_text("%")
    await server.end(signal.SIGINT)
    await expect(page.locator("p")).to_have_text("waiting")
    await reader.start_server()
    await expect(page.locator("p")).to_have_text("open")
    await at_least(len(await shown()) + 3)
    points = await shown()
    stored = [20 - 20 * sample["data"]["memory"] for sample in await reader.messages("metrics.machine")]
    # The newest stored ones may not be shown yet.
    assert any(points == pytest.approx(stored[: len(points) + late][-60:]) for late in (-1, 0)), (points, stored)
    await reader.follow("In production")


async def test_collaborative_document(read):
    reader = read("docs/recipes/collaborative-document.md")
    server = await reader.start_server()
    await reader.follow("Set up", "Connect a document", "Edit", "Try it")
    ann, bob = reader.programs[-2:]
    for editor in ann, bob:
        await editor.shows("(open)")
    await ann.type("0 Hello")
    await ann.shows("Hello")
    await bob.shows("Hello")

    await server.end(signal.SIGINT)
    for editor in ann, bob:
        await editor.shows("(waiting)")
    await ann.type("5 , world")
    await ann.shows("Hello, world")
    await bob.type("0 >> ")
    await bob.shows(">> Hello")
    await reader.start_server()
    for editor in ann, bob:
        await editor.shows(">> Hello, world")

    # Enough changes for a snapshot, from which an editor that comes later starts.
    await ann.type(*["0 x"] * 110)
    await until("there is a snapshot", lambda: reader.messages("doc.notes.snapshots"))
    # It would miss this one if it read from the beginning.
    [_, second, *_] = await reader.messages("doc.notes")
    await reader.ask(f"/v1/rooms/doc.notes/messages/{second['id']}", "DELETE")
    carol = await reader.start("node editor.mjs carol")
    await carol.shows("x" * 110 + ">> Hello, world")
    await carol.type("0 !")
    for editor in ann, bob, carol:
        await editor.shows("!" + "x" * 110 + ">> Hello, world")
    assert not carol.errors


async def test_job_queue(read):
    reader = read("docs/recipes/job-queue.md")
    await reader.start_server()
    worker = await reader.follow("Set up", "Add jobs", "Do them", "Try it")
    [failed] = await reader.messages("jobs.print.failed")
    assert failed["data"] == {"job": "", "error": "there is nothing to print"}
    await until("everything is acknowledged", lambda: is_done(reader, "jobs.print"))
    await reader.follow("Watch the queue")

    await reader.run("python enqueue.py 'five six seven eight nine ten eleven twelve'")
    await worker.shows("begin five six …", "six")
    await worker.kill()
    worker = await reader.start("python worker.py")
    await worker.shows("done five six …")
    assert worker.lines[0].startswith("begin five six")

    newer = await reader.start("python worker.py")
    reader.look_at(worker)
    await reader.follow("A second worker")
    assert (await worker.finished())[-1] == "another worker has taken over"
    await reader.run("python enqueue.py thirteen")
    await newer.shows("done thirteen")


async def test_llm_answers(read, browser):
    reader = read("docs/recipes/llm-answers.md")
    await reader.start_server()
    await reader.follow("Set up", "The model", "The writer", "The page", "Try it")
    writer, web = reader.programs[-2:]
    page = await browser.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    await web.shows("Serving HTTP …")
    await page.goto(reader.replace("http://127.0.0.1:5173"))
    [whole] = await reader.run('python -c "import model; print(model.ANSWER)"')

    async def write(text):
        await page.get_by_role("textbox").fill(text)
        await page.get_by_role("textbox").press("Enter")

    # The page is reloaded in the middle of an answer.
    await write("What is a room?")
    answer = page.locator("p").nth(1)
    await expect(answer).to_contain_text("A room is a durable")
    await page.reload()
    await expect(answer).to_contain_text("A room is a durable log")
    await expect(answer).to_have_text(whole)

    # The writer is killed in the middle of an answer, and the page is reloaded before it is back.
    await write("And who reads it?")
    answer = page.locator("p").nth(3)
    await expect(answer).to_contain_text("A room is a durable")
    await writer.kill()
    await page.reload()
    await expect(answer).to_contain_text("A room is a durable")
    assert await answer.text_content() != whole
    await reader.start("python writer.py")
    await expect(answer).to_have_text(whole)
    questions = [message for message in await reader.messages("chat.assistant") if message["type"] == "question"]
    for question in questions:
        pieces = await reader.messages(f"answer.{question['key']}")
        assert "".join(piece["data"] for piece in pieces).split() == whole.split()
    await expect(page.locator("p")).to_have_text(["What is a room?", whole, "And who reads it?", whole])
    await reader.follow("In production")


async def test_iot(read):
    reader = read("docs/recipes/iot.md")
    await reader.start_server()
    await reader.follow("Set up", "The device", "The control room", "Send commands")
    first, second = reader.programs[-2:]
    _, late = await reader.messages("commands.boiler")
    await until("the second command is too late", lambda: time.time() > late["data"]["until"])
    await reader.follow("Start the device")
    assert (await first.finished())[-1] == "the boiler heats to 21.0"
    assert second.process.returncode is None
    await reader.follow("The last value")
