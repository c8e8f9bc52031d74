"""Apps of the frameworks that `roomlog.sync` is for, as their users run them: with processes that are forked."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import token, wait_until
from harness.server import free_port

APPS = Path(__file__).parent / "apps"


@contextlib.contextmanager
def running(*command, **environment):
    """Runs a program until the end of the block, and checks that it then ends without a signal."""
    env = {**os.environ, **environment}
    program = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)], cwd=APPS, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield program
        program.terminate()
        out, _ = program.communicate(timeout=30)
        assert program.returncode == 0 and b"Traceback" not in out, out.decode()
    finally:
        program.kill()
        program.communicate()


def test_flask_under_gunicorn_with_workers_and_threads(server, name):
    port = free_port()

    def post(number):
        data = json.dumps(number).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/rooms/{name}", data, {"content-type": "application/json"})
        with urllib.request.urlopen(asked) as response:
            return json.load(response)

    def answers():
        with contextlib.suppress(OSError):
            return post(-1)

    arguments = ["--preload", "--workers", 2, "--threads", 4, "--bind", f"127.0.0.1:{port}"]
    environment = {"ROOMLOG_URL": server.url, "ROOMLOG_TOKEN": token("app")}
    with running("gunicorn", *arguments, "flask_app:app", **environment), ThreadPoolExecutor(8) as threads:
        wait_until("it answers", answers, 30)
        posted = []
        wait_until(
            "both workers have answered", lambda: posted.extend(threads.map(post, range(20))) or len({one["worker"] for one in posted}) == 2
        )
    stored = {message["id"] for message in server.history(name) if message["data"] != -1}
    assert stored == {one["id"] for one in posted}


def test_celery_with_forked_workers(server, name, tmp_path):
    (tmp_path / "control").mkdir()
    environment = {"ROOMLOG_URL": server.url, "ROOMLOG_TOKEN": token("app"), "QUEUE": str(tmp_path)}
    send = f"import celery_app; [celery_app.publish.delay({name!r}, n) for n in range(40)]"
    subprocess.run([sys.executable, "-c", send], cwd=APPS, env={**os.environ, **environment}, check=True)
    options = ["--concurrency", 2, "--without-mingle", "--without-gossip"]
    with running("celery", "-A", "celery_app", "worker", *options, **environment) as parent:
        wait_until("all tasks have published", lambda: len(server.history(name)) >= 40, 30)
    assert sorted(data["number"] for data in server.data(name)) == list(range(40))
    assert parent.pid not in {data["worker"] for data in server.data(name)}
