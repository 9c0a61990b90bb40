"""A session's own server in a real cluster, and the way to it from here, which is cut and mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Admin, until
from proxy import Proxy

from cloudpool.runners import kubernetes_server
from cloudpool.runners.kubernetes import KubernetesRunner
from cloudpool.runners.runner import Order
from cloudpool.settings import Settings
from cloudpool.store.keys import Keys
from cloudpool.store.wire import Connection, ReplyError, open_unix

PASSWORD = "pass/word"  # a URL has to quote it
PROGRAM = "from cloudpool.runners.kubernetes_server import main; main()"
WRITES = """
import sys
from cloudpool.store.wire import open_url
open_url(open(sys.argv[2]).read()).call("SET", "cp:x", "from a pod")
"""


class Running:
    """The program, as a session starts it."""

    def __init__(self, session_id: str, chosen: Settings, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.folder = folder
        self._lines: list[Connection] = []
        assert self.process.stdin is not None
        self.process.stdin.write(kubernetes_server.request(session_id, chosen, PASSWORD, str(folder)))
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Its next line that is not about waiting."""
        assert self.process.stdout is not None
        while "waiting" in (line := json.loads(self.process.stdout.readline())):
            pass
        return line

    def dial(self) -> Connection:
        line = open_unix(str(self.folder / "forward.sock"))
        line._sock.settimeout(60)
        self._lines.append(line)
        return line

    def connect(self) -> Connection:
        line = self.dial()
        line.call("AUTH", "cloudpool", PASSWORD)
        return line

    def end(self) -> int:
        """Close its stdin, as the end of whoever started it does; its exit status."""
        assert self.process.stdin is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.stderr is None or self.process.stderr.closed:
            return
        self.process.kill()
        self.process.wait()
        for line in self._lines:
            line.close()
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        assert said == b""


Serve = Callable[..., Running]


@pytest.fixture
def serve(admin: Admin, chosen: Callable[..., Settings], session_id: str, tmp_path: Path) -> Iterator[Serve]:
    """serve(**settings): a server in the cluster. It is ended at the end, and leaves nothing."""
    made: list[Running] = []

    def serve(**more: str) -> Running:
        made.append(Running(session_id, chosen(**more), tmp_path))
        return made[-1]

    yield serve
    for running in made:
        running.end()
        running.close()
    until(lambda: not admin.left(session_id))


def test_it_serves_this_machine_and_pods_and_nobody_without_the_password(serve, chosen, session_id):
    server = serve()
    ready = server.hear()
    assert ready["local_url"] == f"unix://cloudpool:pass%2Fword@{server.folder}/forward.sock"
    runner = KubernetesRunner(Order(session_id, chosen(), ready["pod_url"].encode(), None))
    runner.command = ("python3", "-c", WRITES)
    runner.start(range(1))
    assert until(runner.states) == {0: "it ended with status 0"}
    runner.close()
    assert server.connect().call("GET", "cp:x") == b"from a pod"
    with pytest.raises(ReplyError, match="NOAUTH"):
        server.dial().call("GET", "cp:x")
    with pytest.raises(ReplyError, match="NOPERM"):
        server.connect().call("CONFIG", "GET", "*")


def test_much_passes_both_ways_at_once(serve):
    server = serve(server_memory="512Mi")
    server.hear()
    lines = [server.connect() for _ in range(8)]
    big = os.urandom(8 << 20)
    for n, line in enumerate(lines):
        line.post("SET", f"cp:{n}", big)
        line.post("GET", f"cp:{n}")
    replies = [line.call_many([("GET", f"cp:{n}"), ("STRLEN", f"cp:{n}")]) for n, line in enumerate(lines)]
    assert replies == [[big, len(big)]] * 8


def test_what_is_more_than_its_memory_is_refused_and_it_goes_on(serve):
    server = serve(server_memory="128Mi")
    server.hear()
    line = server.connect()
    with pytest.raises(ReplyError, match="OOM"):
        for n in range(30):
            line.call("SET", f"cp:{n}", b"x" * (8 << 20))
    assert line.call("GET", "cp:0")


def test_a_cut_of_the_way_is_mended_and_what_was_asked_meanwhile_is_held(proxy: Proxy, serve: Serve) -> None:
    server = serve()
    server.hear()
    line = server.connect()
    line.call("SET", "cp:x", "before")
    proxy.refuse()
    proxy.cut_all()
    with pytest.raises(OSError):
        line.call("GET", "cp:x")
    held = server.dial()  # taken on, and not answered yet
    held.post("AUTH", "cloudpool", PASSWORD)
    held.post("GET", "cp:x")
    assert not held.readable()
    proxy.accept()
    assert held.call("GET", "cp:x") == b"before"


def test_a_way_that_stays_cut_is_given_up_and_told_of(
    proxy: Proxy, serve: Serve, admin: Admin, session_id: str
) -> None:
    server = serve(forward_grace_s="2")
    server.hear()
    proxy.refuse()
    proxy.cut_all()
    held = server.dial()
    assert "could not be reached for 2 s" in server.hear()["lost"]
    with pytest.raises(OSError):
        held.call("PING")
    assert server.process.wait(30) == 1
    proxy.accept()
    remove(admin, session_id)


def remove(admin: Admin, session_id: str) -> None:
    """What the program could not remove, as gc does it."""
    done = subprocess.run(
        [sys.executable, "-m", "cloudpool", "gc", "--on", "kubernetes", "--session", session_id],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"removed: Job cloudpool-{session_id}-server of session {session_id}, ")
    until(lambda: not admin.left(session_id))


def test_it_goes_when_whoever_started_it_has_ended(serve, admin, session_id):
    server = serve()
    server.hear()
    begin = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - begin < 10
    until(lambda: not admin.left(session_id))


def test_the_pod_ends_by_itself_when_the_session_gives_no_sign_of_life(serve, admin, session_id):
    server = serve(forward_grace_s="4", lease_s="2")
    server.hear()
    line, beat = server.connect(), Keys(session_id).beat
    for _ in range(80):  # for longer than it would wait
        line.call("INCR", beat)
        time.sleep(0.1)
    assert phase(admin, session_id) == "Running"
    server.close()  # by SIGKILL
    until(lambda: phase(admin, session_id) == "Succeeded")
    remove(admin, session_id)


def phase(admin: Admin, session_id: str) -> str:
    selector = f"cloudpool.dev/session={session_id}"
    (pod,) = admin.core.list_namespaced_pod(admin.namespace, label_selector=selector).items
    return str(pod.status.phase)


def test_a_pod_that_is_deleted_is_told_of(serve, admin, session_id):
    server = serve()
    server.hear()
    selector = f"cloudpool.dev/session={session_id}"
    admin.core.delete_collection_namespaced_pod(admin.namespace, label_selector=selector)
    assert f"the session's server, pod cloudpool-{session_id}-server-" in (lost := server.hear()["lost"])
    assert "is gone: its pod was deleted" in lost
    assert server.process.wait(30) == 1


def test_a_server_that_does_not_come_says_why(serve):
    server = serve(server_memory="1000Gi", start_timeout_s="5")
    assert server.process.stdout is not None
    assert "no node has room" in json.loads(server.process.stdout.readline())["waiting"]
    assert "no node has room" in server.hear()["error"]
    assert server.process.wait(30) == 1
