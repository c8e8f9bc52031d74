"""The stack of docker-compose.yml, run without Docker: two nodes behind nginx, Valkey, the exporter and Prometheus."""

import json
import os
import pathlib
import re
import stat
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator

import pytest
from stack import REPOSITORY, Stack, eventually, read

ROOMLOG = os.environ["ROOMLOG_BIN"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.up()
        yield stack
    finally:
        stack.end()
        print(stack.logs())


def gateway(stack: Stack) -> dict[str, str]:
    """The environment of a client outside the stack."""
    return {"ROOMLOG_URL": f"http://{stack.address['nginx']}:8080", "ROOMLOG_TOKEN": stack.chat_token(), "HOME": str(stack.root)}


def connections(stack: Stack) -> list[int]:
    """The number of WebSockets of each node."""
    counts = []
    for node in ("roomlog-1", "roomlog-2"):
        metrics = read(f"http://{stack.address[node]}:8080/metrics") or ""
        found = re.search(r'^roomlog_connections\{transport="websocket"\} (\d+)', metrics, re.MULTILINE)
        assert found
        counts.append(int(found[1]))
    return counts


def ask(stack: Stack, query: str) -> list[tuple[dict[str, str], float]]:
    """The series that Prometheus returns for a query."""
    answer = read(f"http://{stack.address['prometheus']}:9090/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    return [(series["metric"], float(series["value"][1])) for series in json.loads(answer or "")["data"]["result"]]


Follow = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def follow(stack: Stack) -> Iterator[Follow]:
    """Starts clients that follow a room through nginx, and ends them with the test."""
    clients: list[subprocess.Popen[str]] = []

    def start(room: str) -> subprocess.Popen[str]:
        client = subprocess.Popen([ROOMLOG, "tail", room, "--json"], env=gateway(stack), stdout=subprocess.PIPE, text=True)
        clients.append(client)
        eventually("it is connected", lambda: sum(connections(stack)) == len(clients))
        return client

    yield start
    for client in clients:
        client.kill()
        client.wait()
    eventually("they have left", lambda: sum(connections(stack)) == 0)


def publish(stack: Stack, room: str, text: str) -> None:
    subprocess.run([ROOMLOG, "publish", room, text], env=gateway(stack), check=True, timeout=60, capture_output=True)


def received(client: subprocess.Popen[str]) -> object:
    """The next message that a client prints."""
    assert client.stdout
    return json.loads(client.stdout.readline())["data"]


def test_a_message_reaches_clients_of_both_nodes_through_nginx(stack: Stack, follow: Follow) -> None:
    clients = [follow("lobby") for _ in range(4)]
    assert connections(stack) == [2, 2]
    publish(stack, "lobby", "hello")
    assert [received(client) for client in clients] == ["hello"] * 4


def test_a_node_that_returns_at_another_address_is_found_again(stack: Stack, follow: Follow) -> None:
    stack.stop("roomlog-2")
    stack.move("roomlog-2")
    stack.start("roomlog-2")
    eventually("it is ready", lambda: stack.healthy("roomlog-2"))
    clients = [follow("moved")]

    def found() -> bool:
        clients.append(follow("moved"))
        return connections(stack)[1] > 0

    eventually("a client is on it", found)
    publish(stack, "moved", "again")
    assert [received(client) for client in clients] == ["again"] * len(clients)


def test_metrics_are_for_prometheus_only(stack: Stack) -> None:
    assert read(f"http://{stack.address['nginx']}:8080/healthz")
    assert read(f"http://{stack.address['nginx']}:8080/metrics") is None


def test_prometheus_reads_nodes_and_redis_and_evaluates_the_rules(stack: Stack) -> None:
    eventually("a node and Redis are read", lambda: len(ask(stack, "roomlog_ready == 1")) > 0 and ask(stack, "redis_up") != [])
    assert [value for _, value in ask(stack, "redis_up")] == [1]
    answer = read(f"http://{stack.address['prometheus']}:9090/api/v1/rules")
    groups = json.loads(answer or "")["data"]["groups"]
    assert {group["name"] for group in groups} == {"roomlog", "roomlog-recording"}
    assert all(rule["health"] != "err" for group in groups for rule in group["rules"])


def test_redis_is_as_durable_as_the_nodes_ask(stack: Stack) -> None:
    answer = read(f"http://{stack.address['roomlog-1']}:8080/readyz")
    assert answer and "AOF fsync always, noeviction, memory limit 2048 MiB" in answer


def test_secrets_are_random_private_and_kept(tmp_path: pathlib.Path) -> None:
    def write(name: str) -> str:
        subprocess.run(["scripts/stack.sh", "env", tmp_path / name], cwd=REPOSITORY, check=True)
        return (tmp_path / name).read_text()

    first, second = write("first"), write("second")
    assert stat.S_IMODE((tmp_path / "first").stat().st_mode) == 0o600
    secrets = [line.split("=")[1] for text in (first, second) for line in text.splitlines() if "=" in line and "PORT" not in line]
    assert len(set(secrets)) == len(secrets) == 6
    assert all(len(secret) == 64 for secret in secrets)
    assert write("first") == first


def test_services_have_limits(stack: Stack) -> None:
    for name, service in stack.services.items():
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"]["max-size"], name
        assert "mem_limit" in service, name
        assert ":" in service["image"] and not service["image"].endswith(":latest"), name
        # Those of the nodes are in the Dockerfile.
        assert "healthcheck" in service or "build" in service, name
