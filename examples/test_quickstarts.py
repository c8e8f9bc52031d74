"""Follows the quickstarts as a new user does, and looks for what they promise."""

import re
import signal

import pytest
from harness import until
from playwright.async_api import expect

# They build and install packages.
pytestmark = pytest.mark.timeout(300)


async def test_curl(read):
    reader = read("docs/quickstarts/curl.md")
    follower = await reader.follow("Start a server", "Follow a room")
    await follower.shows(": live")
    await reader.follow("Publish")
    await follower.end(signal.SIGINT)
    await reader.follow("Miss a message")
    [reader.values["LAST"]] = re.findall(r"^id: (.*)$", follower.text, re.M)
    await reader.follow("Catch up")


async def test_node(read):
    reader = read("docs/quickstarts/node.md")
    server = await reader.follow("Start a server")
    await reader.follow("Install the client", "Write the chat", "Run it")
    ann, bob = reader.programs[-2:]
    await ann.type("Hi Bob")
    await ann.shows("ann: Hi Bob")
    await bob.type("Hi Ann")
    await reader.follow("Write something")
    await ann.shows("ann: Hi Bob", "bob: Hi Ann")

    await server.end(signal.SIGINT)
    for person, name in (ann, "ann"), (bob, "bob"):
        await person.shows("(waiting)")
        await person.type(*(f"{name} {number}" for number in range(3)))
    await reader.start_server()

    def read_by(person):
        return [line for line in person.lines if ": " in line]

    await until("everything has arrived", lambda: len(read_by(ann)) == len(read_by(bob)) == 8)
    assert read_by(ann) == read_by(bob)
    for name in "ann", "bob":
        assert [line for line in read_by(ann) if line.startswith(name)][1:] == [f"{name}: {name} {number}" for number in range(3)]


async def test_python(read):
    reader = read("docs/quickstarts/python.md")
    bot = await reader.follow("Start a server", "Install the client", "Write the bot", "Ask something")
    await bot.shows("dev asks How long is this question?")
    await bot.end(signal.SIGINT)
    await reader.follow("Ask while the bot is off")
    asked, _ = reader.programs[-2:]
    assert await asked.finished() == ["17 characters"]


async def test_react(read, browser):
    reader = read("docs/quickstarts/react.md")
    server = await reader.follow("Start a server")
    vite = await reader.follow("Create the app", "Write the chat", "See it")
    await vite.shows("…Local: …")
    [address] = re.findall(r"Local: +(http\S+)", vite.text)

    async def window(user):
        page = await browser.new_page()
        page.on("pageerror", lambda error: pytest.fail(f"{user}: {error}"))
        await page.goto(f"{address}?user={user}")
        return page

    async def write(page, text):
        await page.get_by_role("textbox").fill(text)
        await page.get_by_role("textbox").press("Enter")

    ann, bob = await window("ann"), await window("bob")
    await write(ann, "Hi Bob")
    await expect(bob.locator("p")).to_have_text(["ann Hi Bob"])
    await write(bob, "Hi Ann")
    await expect(ann.locator("p")).to_have_text(["ann Hi Bob", "bob Hi Ann"])

    await server.end(signal.SIGINT)
    await write(ann, "Still there?")
    await expect(ann.locator("p").last).to_have_css("opacity", "0.5")
    await reader.start_server()
    await expect(ann.locator("p").last).to_have_css("opacity", "1")
    await expect(bob.locator("p")).to_have_text(["ann Hi Bob", "bob Hi Ann", "ann Still there?"])
