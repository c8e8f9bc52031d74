"""Follows a page of the documentation as its reader would: types its commands, saves its files, and compares what it shows.

The word after the language of a fenced block says what the reader does with it:

- `run`: types the commands, which must succeed.
- `start`: types them into a terminal of its own, where the last one keeps running.
- `paste`: types lines like `export NAME=…`, with the values that were on the screen.
- `file=NAME`: saves the block as this file.
- `prints`: compares it with the output of the `run` before. `shows` waits until the newest program started shows it.
- `config`: saves it as a configuration file, and has the server check it.
- `excerpt=PATH`: nothing, but the block must be a part of this file of the repository.

A block without such a word fails the test, so a page has no command that no test runs.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from harness import until
from harness.server import program as server_program
from programs import Program, matches

REPOSITORY = Path(__file__).resolve().parents[1]

FENCE = re.compile(r"^( *)```(\S*) *(.*)$")


@dataclass(frozen=True)
class Block:
    section: str
    verb: str
    argument: str
    text: str
    where: str


def blocks_of(path: Path) -> list[Block]:
    """Returns the fenced blocks of a page, each with the heading that it is under."""
    blocks: list[Block] = []
    section, opened, lines = "", None, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if opened:
            if fence and not fence[2]:
                indent, what, where = opened
                verb, _, argument = what.partition("=")
                text = "".join(f"{line.removeprefix(indent)}\n" for line in lines)
                blocks.append(Block(section, verb, argument, text, where))
                opened, lines = None, []
            else:
                lines.append(line)
        elif fence:
            opened = fence[1], fence[3].strip(), f"{path.name}:{number}"
        elif line.startswith("#"):
            section = line.lstrip("#").strip()
    return blocks


class Reader:
    """Somebody who follows a page, in a folder that contains the checkout."""

    def __init__(self, page: str, folder: Path, notes: Path, environment: dict[str, str], replaced: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        #: Text of the page that is different in a test: the command that builds the server, and addresses.
        self._replaced = replaced
        #: Values that the reader copies from the screen.
        self.values: dict[str, str] = {}
        self.programs: list[Program] = []
        self._blocks = blocks_of(REPOSITORY / page)
        self._notes = notes
        #: The variables and the folder that the next terminal begins with.
        self._state = notes / "state"
        self._state.write_text(f"cd {shlex.quote(str(folder))}\n")
        self._printed: list[str] = []

    async def follow(self, *sections: str) -> Program | None:
        """Does what these sections say. Returns the program that was started last."""
        for section in sections:
            blocks = [block for block in self._blocks if block.section == section]
            assert blocks, f"there is no section {section!r} with blocks"
            for block in blocks:
                await self._do(block)
            self._blocks = [block for block in self._blocks if block.section != section]
        return self.programs[-1] if self.programs else None

    async def start(self, command: str) -> Program:
        """Types commands into another terminal, in the current folder. The last one keeps running."""
        *before, last = joined(self.replace(command))
        program = await self._bash("\n".join(["set -e", *before, f"exec {last}"]))
        self.programs.append(program)
        return program

    async def start_server(self) -> Program:
        """Starts the server again, as the pages say, and waits until it runs."""
        server = await self.start("make run")
        await server.shows("Roomlog runs on …")
        return server

    async def run(self, commands: str) -> list[str]:
        """Types commands, and returns their output."""
        program = await self._bash(f"set -e\n{commands}\n{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} >{shlex.quote(str(self._state))}")
        try:
            return await program.finished(within=240)
        finally:
            await program.end()

    async def ask(self, path: str, method: str = "GET") -> Any:
        """Asks the server, with the token that it has printed."""
        url, token = (await self.copied("ROOMLOG_URL", "ROOMLOG_TOKEN")).values()
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
            answer = (await client.request(method, path)).raise_for_status()
            return answer.json() if answer.content else None

    async def messages(self, room: str) -> list[dict[str, Any]]:
        """Returns the messages of a room."""
        return (await self.ask(f"/v1/rooms/{room}/messages?limit=1000"))["messages"]

    def look_at(self, program: Program) -> None:
        """Turns to another terminal: the next `shows` is about it."""
        self.programs.remove(program)
        self.programs.append(program)

    async def copied(self, *names: str) -> dict[str, str]:
        """Returns the values of variables, which the server prints or the test has set."""

        def found() -> dict[str, str]:
            printed = "\n".join(program.text for program in self.programs)
            return {**dict(re.findall(r"^ *export (\w+)=(\S+)$", printed, re.M)), **self.values}

        await until(f"there are values for {names}", lambda: set(names) <= set(found()))
        return {name: found()[name] for name in names}

    def replace(self, text: str) -> str:
        """Returns text of the page as it is in this test."""
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        return text

    async def end(self) -> None:
        for program in self.programs:
            await program.end()

    def assert_done(self) -> None:
        """Fails if the test has skipped a part of the page."""
        assert not self._blocks, f"not followed: {[block.where for block in self._blocks]}"

    async def _do(self, block: Block) -> None:
        text = self.replace(block.text)
        try:
            match block.verb:
                case "run":
                    self._printed = await self.run(text)
                case "start":
                    await self.start(block.text)
                case "paste":
                    values = await self.copied(*re.findall(r"^export (\w+)=", text, re.M))
                    await self.run("\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items()))
                case "file":
                    path = self._folder / (await self.run("pwd"))[-1] / block.argument
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
                case "prints":
                    self._compare(text.splitlines())
                case "shows":
                    await self.programs[-1].shows(*text.splitlines())
                case "config":
                    (self._notes / "roomlog.toml").write_text(text)
                    await self.run(f"{server_program()} config --effective --config {self._notes}/roomlog.toml")
                case "excerpt":
                    assert block.text in (REPOSITORY / block.argument).read_text(), f"this is not in {block.argument}"
                case verb:
                    raise AssertionError(f"{verb!r} is not an instruction: see examples/pages.py")
        except AssertionError as error:
            raise AssertionError(f"{block.where}: {error}") from error

    def _compare(self, expected: list[str]) -> None:
        same = len(expected) == len(self._printed) and all(map(matches, expected, self._printed))
        assert same, "the page says\n" + "\n".join(expected) + "\nbut the output is\n" + "\n".join(self._printed)

    async def _bash(self, script: str) -> Program:
        return await Program.start("bash", "-c", f". {shlex.quote(str(self._state))}\n{script}", env=self._environment, cwd=self._folder)


def joined(text: str) -> list[str]:
    """Returns the commands of a block. A line that ends in a backslash continues."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
