"""An engine that goes away in the middle: the start method's hosts cannot come, and that is said in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

import cloudpool
from cloudpool import settings
from cloudpool.errors import RunnerError
from cloudpool.runners.docker import DockerRunner
from cloudpool.runners.runner import Order

ROOT = Path(__file__).resolve().parents[2]


class Engine(ThreadingMixIn, UnixStreamServer):
    """It answers what is in `answers`, by the end of a request's path, and hangs up at all else."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Asked)
        self.answers: dict[str, object] = {"/version": {"ApiVersion": "1.44", "MinAPIVersion": "1.24"}}
        self.asked: list[str] = []


class Asked(BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline()
        is_asked = bool(self.raw_requestline) and self.parse_request()
        self.close_connection = True
        if not is_asked:
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path.partition('/containers')[2]}")
        for end, answer in self.server.answers.items():
            if path.endswith(end):
                said = json.dumps(answer).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(said)}\r\n\r\n"
                self.wfile.write(head.encode() + said)
                return


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    path = tmp_path / "engine"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    engine = Engine(path)
    thread = threading.Thread(target=engine.serve_forever, args=(0.01,))
    thread.start()
    yield engine
    engine.shutdown()
    thread.join()
    engine.server_close()


@pytest.fixture
def runner(engine: Engine) -> Iterator[DockerRunner]:
    runner = DockerRunner(Order("session", settings.current(), b"card\n", None))
    yield runner
    runner.close()


@pytest.mark.parametrize("host", ["unix:///proc/no-engine", "tcp://127.0.0.1:1", "127.0.0.1:1"])
def test_without_an_engine_no_process_and_no_pool_starts(server, host, monkeypatch, capfd):
    monkeypatch.setenv("DOCKER_HOST", host)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    docker = cloudpool.get_context("docker")
    for start in (docker.Process(target=print).start, docker.Pool):
        with pytest.raises(RunnerError, match=f"no Docker Engine answers at {host} "):
            start()
    assert capfd.readouterr().err == ""  # what is raised is not printed, too


def test_why_no_worker_of_a_pool_comes_is_said_once(engine, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import multiprocessing\nwith multiprocessing.Pool(1) as pool: pool.map(abs, [1])\n")
    environment = {name: value for name, value in os.environ.items() if name != "CLOUDPOOL_REDIS_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "cloudpool", "run", "--on", "docker", program],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    [why, place] = done.stderr.splitlines()
    assert why.startswith("cloudpool: the Docker Engine does not make a container: ")
    assert place == f'(File "{program}", line 2; run --debug shows the traceback.)'


def test_engine_that_hangs_up_instead_of_making_a_container(runner):
    with pytest.raises(RunnerError, match="the Docker Engine does not make a container: "):
        runner.start(range(1))


def test_engine_that_hangs_up_instead_of_starting_a_container_is_asked_to_remove_it(runner, engine):
    engine.answers |= {"/create": {"Id": "one", "Warnings": []}, "/one/json": {"Id": "one"}}
    with pytest.raises(RunnerError, match="the Docker Engine cannot start a container: "):
        runner.start(range(1))
    assert engine.asked[-2:] == ["POST /one/attach", "DELETE /one"]


def test_engine_that_hangs_up_when_it_is_asked_for_a_state_says_nothing_of_it(runner, engine):
    engine.answers |= {"/containers/json": [{"Id": "one", "State": "exited"}]}
    runner._containers[0] = runner._client.containers.prepare_model({"Id": "one"})
    assert runner.states() == {}
    assert engine.asked[-1] == "GET /one/json"
