"""What befalls pods, their node and the ways between them and the root, while a program runs: nothing hangs, is lost or left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cluster import Admin, until
from programs import PROGRAMS, command, end
from proxy import Proxy

from cloudpool.runners.kubernetes import KubernetesRunner
from cloudpool.runners.runner import Order
from cloudpool.settings import Settings

LEASE_S = 6
MARK = "HOME_OF_TEST"  # in the environment of a program, its agent and its fleet
# This project's own engine, of which the kubelet may be killed. It is nobody else's while tests run.
OWN_ENGINE = Path(__file__).resolve().parents[3] / "shared/engines/kubernetes/up"
OWN_STATE = Path("/tmp/cloudpool-kubernetes")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server_here(admin: Admin, tcp_server: Any, environ: dict[str, str]) -> Iterator[Proxy]:
    """A server of one's own for the test's programs, by a way that can be cut for each pod."""
    with Proxy(tcp_server.url, listens=admin.reaches_here_by()) as way:
        environ |= {
            "CLOUDPOOL_REDIS_URL": way.url,
            "CLOUDPOOL_ALLOW_PLAIN_TCP": "1",
            "CLOUDPOOL_LEASE_S": str(LEASE_S),
        }
        yield way


def hear(program: subprocess.Popen[str], words: str) -> None:
    """Wait until it has said that on stderr."""
    assert program.stderr is not None
    for line in program.stderr:
        if words in line:
            return
    raise AssertionError(f"it has ended and not said {words!r}")


def begin(environ: dict[str, str]) -> subprocess.Popen[str]:
    """A map that is under way on pods, for some ten seconds at least."""
    program = command(environ, PROGRAMS / "long_map.py", 2000)
    assert program.stdout.readline() == "ready\n", program.communicate()[1]
    return program


# -- the way between a pod and the server ----------------------------------------------------------------------------


def test_a_pod_that_is_cut_off_for_less_than_a_lease_goes_on(environ, admin, server_here):
    environ["CLOUDPOOL_LEASE_S"] = "15"  # a beat's delay and the cut are to be well within it
    program = begin(environ)
    pod = until(admin.hosts)[0]
    server_here.freeze(pod.status.pod_ip)
    time.sleep(4)  # the cut
    server_here.thaw(pod.status.pod_ip)
    stdout, stderr = end(program)
    assert stdout == "True\n", stderr
    assert "silent" not in stderr
    assert "its host" not in stderr


def test_a_pod_that_is_cut_off_for_more_than_a_lease_is_lost_and_nothing_else_is(environ, admin, server_here):
    program = begin(environ)
    pod = until(admin.hosts)[0]
    server_here.freeze(pod.status.pod_ip)
    hear(program, f"its host was silent for {LEASE_S} s")
    server_here.thaw(pod.status.pod_ip)
    assert end(program)[0] == "True\n"
    until(lambda: not admin.hosts())


# -- the API, the node -------------------------------------------------------------------------------------------------


def test_with_a_server_of_ones_own_work_goes_on_while_the_api_is_away(environ, server_here, proxy):
    environ["KUBECONFIG"] = os.environ["KUBECONFIG"]
    program = begin(environ)
    proxy.refuse()
    assert program.stdout.readline() == "True\n"
    proxy.accept()
    assert end(program)[0] == ""


@pytest.fixture
def kubelet() -> Iterator[Callable[[], None]]:
    """kubelet(): kill it. It is there again at the test's end."""
    pid_file = OWN_STATE / "pids" / "kubelet"
    if not (OWN_ENGINE.exists() and pid_file.exists()) or os.geteuid():
        pytest.skip("only the kubelet of this project's own engine is killed")
    yield lambda: os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    subprocess.run([OWN_ENGINE], check=True, capture_output=True)


def test_a_kubelet_that_is_killed_and_comes_back(environ, admin, kubelet):
    program = begin(environ)
    pod = until(admin.running_hosts)[0]
    kubelet()
    admin.core.delete_namespaced_pod(pod, admin.namespace, grace_period_seconds=5)
    time.sleep(5)  # it stays, and works on: nobody is there to end it
    subprocess.run([OWN_ENGINE], check=True, capture_output=True)
    stdout, stderr = end(program)
    assert stdout == "True\n", stderr


# -- the root ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def line(admin: Admin) -> Iterator[tuple[str, int, Callable[[], socket.socket]]]:
    """Where user code in a pod is heard: address, port, and how to take its call."""
    with closing(socket.create_server((admin.reaches_here_by(), 0))) as listener:
        listener.settimeout(120)

        def taken() -> socket.socket:
            connection, _ = listener.accept()
            connection.settimeout(60)
            assert connection.recv(1) == b"."
            return connection

        yield *listener.getsockname(), taken


def silence(connection: socket.socket) -> float:
    """When the user code at its other end has ended."""
    with connection, suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return time.monotonic()


def end_home(mark: str) -> None:
    """Everything of the program's on this machine at once, as when its power fails."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    assert len(found) >= 3  # the program, its agent, its fleet
    for signalnum in (signal.SIGSTOP, signal.SIGKILL):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signalnum)


def gc() -> str:
    """What sessions have left is removed; what that prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cloudpool", "gc", "--on", "kubernetes"], capture_output=True, text=True, cwd="/"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("what", ["the root", "all of its machine"])
def test_user_code_stops_within_a_lease_and_five_seconds_of_its_roots_death(
    environ, admin, server_here, line, session_id, what
):
    host, port, taken = line
    environ[MARK] = session_id
    before = admin.sessions()
    program = command(environ, PROGRAMS / "beating.py", host, port)
    connection = taken()
    (session,) = admin.sessions() - before
    if what == "the root":
        program.kill()
    else:
        end_home(session_id)
    died = time.monotonic()
    program.communicate()
    assert silence(connection) - died < LEASE_S + 5
    until(lambda: not admin.hosts())
    if what == "the root":
        until(lambda: not admin.left(session))
    else:  # nobody is there to remove its Job, but the cluster in two minutes; that it is over, the cluster says a while after
        until(lambda: f"removed: Job cloudpool-{session}-0 of session {session}" in gc())
    until(lambda: not admin.left(session))


def test_a_root_whose_way_to_the_cluster_is_cut_leaves_nothing_that_runs(environ, admin, proxy, kubeconfig):
    """The server is a pod, which ends by itself; so do the hosts. The Jobs go by `gc`, or by the cluster."""
    environ |= {"KUBECONFIG": os.environ["KUBECONFIG"], "CLOUDPOOL_KUBERNETES_FORWARD_GRACE_S": "5", "CLOUDPOOL_LEASE_S": "3"}  # fmt: skip
    before = admin.sessions()
    program = begin(environ)
    (session,) = admin.sessions() - before
    proxy.refuse()
    _, stderr = program.communicate(timeout=120)
    assert program.returncode, stderr
    assert "SessionLostError" in stderr
    assert "could not be reached for 5 s" in stderr
    until(lambda: not admin.hosts())
    proxy.accept()
    until(lambda: "cloudpool" in gc() or not admin.left(session))
    until(lambda: not admin.left(session))


# -- others with more right to a node ------------------------------------------------------------------------------------

THING = "example.com/thing"  # a resource of which the node has one, so that nobody else's pods are in this


@pytest.fixture
def thing(admin: Admin, session_id: str) -> Iterator[str]:
    """A priority below everybody's, and one thing to be had."""
    from kubernetes import client

    node = admin.core.list_node().items[0].metadata.name
    name = f"cloudpool-test-{session_id}"
    scheduling = client.SchedulingV1Api(admin.client)
    scheduling.create_priority_class({"metadata": {"name": name}, "value": -10, "globalDefault": False})
    admin.core.patch_node_status(node, {"status": {"capacity": {THING: "1"}, "allocatable": {THING: "1"}}})
    yield name
    scheduling.delete_priority_class(name)
    admin.core.patch_node_status(node, {"status": {"capacity": {THING: None}, "allocatable": {THING: None}}})


def test_a_preempted_host_is_told_of_and_so_is_what_its_successor_waits_for(
    admin: Admin, chosen: Callable[..., Settings], session_id: str, thing: str
) -> None:
    wants = f'{{"containers": [{{"name": "cloudpool", "resources": {{"requests": {{"{THING}": "1"}}, "limits": {{"{THING}": "1"}}}}}}]}}'
    runner = KubernetesRunner(Order(session_id, chosen(priority_class=thing, pod_patch=wants), b"x", None))
    runner.command = ("python3", "-c", "import signal; signal.pause()")  # type: ignore[assignment]
    try:
        runner.start(range(1))
        until(lambda: any(pod.address for pod in runner._watch.pods()))
        stronger = admin.core.list_namespaced_pod(admin.namespace).items[0].spec.to_dict()
        one = {"name": "stronger", "image": stronger["containers"][0]["image"], "command": ["sleep", "60"]}
        one["resources"] = {"requests": {THING: "1"}, "limits": {THING: "1"}}
        one["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        own = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
        admin.core.create_namespaced_pod(
            admin.namespace,
            {
                "metadata": {"name": "stronger"},
                "spec": {"containers": [one], "securityContext": own, "restartPolicy": "Never"},
            },
        )
        states = until(runner.states)
        assert states[0].startswith("it was preempted, for a pod of higher priority")
        runner.start(range(1, 2))
        words = until(runner.waiting, 20)
        assert "no node has room for it" in words
        assert f"Insufficient {THING}" in words
    finally:
        admin.core.delete_namespaced_pod("stronger", admin.namespace, grace_period_seconds=0)
        runner.close()
    until(lambda: not admin.left(session_id))


def test_a_node_that_takes_no_pods_is_told_with_the_setting(
    admin: Admin, chosen: Callable[..., Settings], session_id: str
) -> None:
    runner = KubernetesRunner(Order(session_id, chosen(node_selector='{"no-such": "label"}'), b"x", None))
    try:
        runner.start(range(1))
        words = until(runner.waiting, 20)
        assert "no node takes it: " in words
        assert "(kubernetes_node_selector; a host asks for cpu" in words
    finally:
        runner.close()
    until(lambda: not admin.left(session_id))
