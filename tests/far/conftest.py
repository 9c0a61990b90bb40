"""Far hosts without an engine: the runner in `plugin` brings hosts that are processes of this machine, each with a folder.

`far` is a context whose processes are there, on two hosts of two slots, in the session that the other tests use; `session`
begins one of a test's own, with settings; `script` runs a program. Nothing of them is left at a test's end.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from far_hosts import Hosts, Script
from waiting import until

import cloudpool
from cloudpool import methods, settings
from cloudpool.host import session as sessions

PLUGIN = str(Path(__file__).parent / "plugin")
ROOT = str(Path(__file__).parents[2])
MARK = "HOSTS_OF_TESTS"  # in the environment of all that belongs to these tests

sys.path.insert(0, PLUGIN)
methods._others.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    """Programs and the fleet find the runner; what belongs to a file's tests, and to no others, is known by a mark."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", MARK)}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (PLUGIN, ROOT, before["PYTHONPATH"])))
    os.environ[MARK] = str(uuid.uuid4())
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="module")
def hosts(plugin: None) -> Hosts:
    return Hosts(f"{MARK}={os.environ[MARK]}")


@pytest.fixture(scope="module")
def shared_session(plugin: None, server: str) -> Iterator[str]:
    """One session for a file's tests, so that its hosts are warm; left again with all that it has, which no other test expects."""
    sessions.leave()
    yield server
    sessions.leave()


@pytest.fixture
def far(shared_session: str) -> Any:
    """The session may be over, by a test that had one of its own: then another begins, and both its hosts are brought."""
    far = cloudpool.get_context("subprocess")
    if sessions.existing() is None:
        barrier = far.Barrier(5)
        processes = [far.Process(target=barrier.wait) for _ in range(4)]
        for process in processes:
            process.start()
        barrier.wait(60)  # more of them than one host has slots
        for process in processes:
            process.join(60)
    return far


@pytest.fixture
def ctx(far: Any) -> Any:
    """What `start` starts by."""
    return far


@pytest.fixture
def fork(shared_session: str) -> Any:
    return cloudpool.get_context("fork")


@pytest.fixture
def session(plugin: None, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """session(lease_s=2, ...): a session of the test's own on an embedded server. The context of far processes."""
    sessions.leave()
    monkeypatch.delenv("CLOUDPOOL_REDIS_URL", raising=False)  # of the other tests' session

    def begin(**chosen: object) -> Any:
        for name, value in chosen.items():
            monkeypatch.setenv(name if name.isupper() else f"CLOUDPOOL_{name.upper()}", str(value))
        settings.reload()
        return cloudpool.get_context("subprocess")

    yield begin
    sessions.leave()
    monkeypatch.undo()
    settings.reload()
    until(lambda: not hosts.all())


@pytest.fixture
def script(plugin: None, tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """script(source, *arguments, lease_s=2, ...): a program from a file in the test's folder; `launch` is how it is run."""
    scripts: list[Script] = []

    def run(source: str, *arguments: str, launch: tuple[str, ...] = ("main.py",), **chosen: object) -> Script:
        (tmp_path / "main.py").write_text(source)
        environment = {**os.environ, "CLOUDPOOL_START_METHOD": "subprocess"}
        environment |= {f"CLOUDPOOL_{k.upper()}" if k.islower() else k: str(v) for k, v in chosen.items()}
        scripts.append(Script([sys.executable, *launch, *arguments], tmp_path, environment))
        return scripts[-1]

    yield run
    try:
        for program in scripts:
            if program.process.returncode is not None:
                until(lambda program=program: not program.hosts.all())  # type: ignore[misc]
                assert not [folder for folder in program.hosts.folders if os.path.exists(folder)]
    finally:
        for program in scripts:
            program.clear()
