"""Whole programs whose processes are pods, on the session's own server in the cluster."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from cluster import until
from programs import PROGRAMS, command, end, run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.timeout(300)
def test_a_map_of_5000_is_exact_while_pods_are_deleted(environ, admin):
    program = command(environ, PROGRAMS / "long_map.py")
    assert program.stdout.readline() == "ready\n"
    seed = random.randrange(1000)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(4):
        pods = until(admin.running_hosts)
        admin.core.delete_namespaced_pod(
            rng.choice(pods), admin.namespace, grace_period_seconds=rng.choice([0, 5])
        )
        time.sleep(rng.uniform(1, 3))  # some time later
    stdout, stderr = end(program)
    assert stdout == "True\n"
    assert "its pod was deleted" in stderr or "its host was told to end" in stderr


@pytest.mark.timeout(300)
def test_a_task_that_uses_up_its_pods_memory_is_told_with_the_limit(environ):
    stdout, _ = run(
        {**environ, "CLOUDPOOL_RETRIES": "0", "CLOUDPOOL_KUBERNETES_HOSTS": "1"}, PROGRAMS / "memory.py"
    )
    assert stdout.startswith("WorkerLostError")
    assert stdout.endswith("\n3\n")


@pytest.mark.timeout(300)
def test_processes_here_and_in_pods_share_a_queue_and_a_lock(environ):
    stdout, _ = run(environ, PROGRAMS / "mixed.py")
    assert stdout == "['here', 'here', 'there', 'there'] 80 [0, 0, 0, 0]\n"


@pytest.mark.timeout(300)
def test_the_stock_forecast_has_the_numbers_that_it_has_at_home(environ, tmp_path):
    pytest.importorskip("numpy")
    pytest.importorskip("matplotlib")
    pytest.importorskip("vega_datasets")
    arguments = ("--paths", 400, "--seed", 3)
    at_home = {name: value for name, value in environ.items() if name != "CLOUDPOOL_START_METHOD"}
    for name, where in (("here", at_home), ("there", environ)):
        out = ("--out", tmp_path / f"{name}.png", "--csv", tmp_path / f"{name}.csv")
        run(where, EXAMPLES / "stock_forecast.py", *arguments, *out)
    here = (tmp_path / "here.csv").read_text()
    assert here == (tmp_path / "there.csv").read_text()
    assert len(here.splitlines()) > 5


@pytest.mark.timeout(300)
def test_a_root_that_is_killed_leaves_nothing(environ, admin):
    program = command({**environ, "CLOUDPOOL_LEASE_S": "3"}, PROGRAMS / "forever.py")
    assert program.stdout.readline() == "working\n"
    there = {p.metadata.name for p in admin.core.list_namespaced_pod(admin.namespace).items}
    assert there
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    program.stdout.close()
    program.stderr.close()
    began = time.monotonic()
    until(
        lambda: (
            not any(p.metadata.name in there for p in admin.core.list_namespaced_pod(admin.namespace).items)
        ),
        60,
    )
    print(f"all pods were gone {time.monotonic() - began:.1f} s after the root's death")


@pytest.mark.timeout(300)
def test_the_api_may_be_away_for_a_minute(environ, proxy):
    """Without a redis_url the way to the server is through it: work stands still, and goes on."""
    environ["KUBECONFIG"] = os.environ["KUBECONFIG"]
    program = command(environ, PROGRAMS / "long_map.py")
    assert program.stdout.readline() == "ready\n"
    proxy.refuse()
    time.sleep(60)
    proxy.accept()
    assert end(program)[0] == "True\n"
