"""gc and doctor on a real cluster, and the image that the command line describes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from cluster import Admin, until

from cloudpool.deploy.kubernetes_probe import Probe
from cloudpool.runners.kubernetes import KubernetesRunner
from cloudpool.runners.kubernetes_api import Cluster
from cloudpool.runners.runner import Order
from cloudpool.settings import Settings

WAITS = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"


def command(*arguments: str, status: int = 0, cwd: str = "/") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cloudpool", *arguments, "--on", "kubernetes"],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") <= (3 if status else 0)
    return done.stdout


@pytest.fixture
def left(admin: Admin, chosen: Callable[..., Settings]) -> Callable[[str, str], str]:
    """left(session, program): a host of a session that nobody closes; its Job's name."""

    def left(session_id: str, program: str) -> str:
        runner = KubernetesRunner(Order(session_id, chosen(), b"the card", None))
        runner.command = ("python3", "-c", program)  # type: ignore[assignment]
        runner.start(range(1))
        if program == WAITS:
            until(lambda: any(pod.address for pod in runner._watch.pods()))
        else:
            until(runner.states)
        runner._watch.close()
        runner._cluster.close()
        return f"cloudpool-{session_id}-0"

    return left


def test_gc_removes_what_is_over_and_leaves_what_runs_until_it_is_named(admin, left):
    over, lives = left("aaaaaaaaaaaa", "exit(1)"), left("bbbbbbbbbbbb", WAITS)
    assert command("gc").startswith(f"removed: Job {over} of session aaaaaaaaaaaa, 0:00:")
    until(lambda: not admin.left("aaaaaaaaaaaa"))
    assert command("gc") == ""
    assert command("gc", "--session", "cccccccccccc", status=1) == ""
    assert lives in admin.left("bbbbbbbbbbbb")
    assert lives in command("gc", "--session", "bbbbbbbbbbbb")
    until(lambda: not admin.left("bbbbbbbbbbbb"))


def test_gc_takes_what_is_old_and_everything_when_it_is_told_to(admin, left):
    assert left("dddddddddddd", WAITS) in command("gc", "--older-than", "0")
    assert left("eeeeeeeeeeee", WAITS) in command("gc", "--all")
    until(lambda: not admin.left("dddddddddddd") + admin.left("eeeeeeeeeeee"))


def test_the_probe_finds_image_server_and_clocks_in_order_and_leaves_nothing(admin, chosen):
    cluster = Cluster(chosen())
    probe = Probe(cluster, chosen())
    checks = {check.what: check for check in probe.checks()}
    assert list(checks) == ["server from here", "image", "clocks", "server from a pod"]
    assert all(check.is_ok for check in checks.values()), checks
    assert "cloudpickle" in checks["image"].words
    until(lambda: not admin.left(probe._id))
    cluster.close()


def test_the_probe_says_that_a_server_that_pods_cannot_reach_cannot_be_reached(
    admin, chosen, tcp_server, monkeypatch
):
    monkeypatch.setenv("CLOUDPOOL_REDIS_URL", tcp_server.url)
    cluster = Cluster(chosen())
    from cloudpool import settings

    url_too = settings.Settings(chosen().values() | {"redis_url": settings.ServerUrl(tcp_server.url)}, {})
    probe = Probe(cluster, url_too)
    *others, last = probe.checks()
    assert [check.is_ok for check in others] == [True] * 3
    assert (last.what, last.is_ok) == ("server from a pod", False)
    assert "cannot reach a server" in last.words
    until(lambda: not admin.left(probe._id))
    cluster.close()


def test_the_doctor_walks_every_hop_by_the_settings_of_its_folder_and_leaves_nothing(admin, chosen, tmp_path):
    image = chosen().kubernetes_image
    lines = f"image = '{image}'\ncpu = '50m'\nmemory = '256Mi'\nhosts = 1\nserver_memory = '256Mi'\n"
    (tmp_path / "cloudpool.toml").write_text(f"[kubernetes]\n{lines}")
    said = command("doctor", cwd=str(tmp_path)).splitlines()
    assert [line[:3] for line in said] == ["ok "] * len(said)
    assert [line.partition(":")[0] for line in said[-2:]] == ["ok      a Process", "ok      a Pool"]
    until(lambda: not admin.batch.list_namespaced_job(admin.namespace).items)


def test_the_doctor_stops_at_what_is_missing_and_names_the_cure(admin, kubeconfig, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", admin.kubeconfig(tmp_path / "none", "default"))
    said = command("doctor", status=1)
    assert said.splitlines()[0].startswith("ok      configuration: the namespace cloudpool-test-")
    assert "FAILED  API: this user may not list pods" in said
    monkeypatch.setenv("KUBECONFIG", os.devnull + "/none")
    assert command("doctor", status=1).startswith("FAILED  configuration: there is no configuration")
