"""Tests on engines as they are: a cluster that KUBECONFIG names, in a namespace of their own that enforces `restricted`.

The runner has the rights of docs/kubernetes/rbac.yaml and no other; what tests do to a cluster besides they do as its admin.
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).parent / "tools"))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults" / "tools"))

from cluster import Admin
from functions import Functions, Program, Server
from proxy import Proxy
from waiting import until

from cloudpool import settings
from cloudpool.settings import Settings

# Out of the environment: they are no settings, and programs that tests start would warn of them.
IMAGE = os.environ.pop("CLOUDPOOL_TEST_IMAGE", "")
IS_CI = os.environ.pop("CLOUDPOOL_CI_ENGINES", "") == "1"
has_cluster = bool(os.environ.get("KUBECONFIG") and IMAGE and find_spec("kubernetes"))
collect_ignore_glob: list[str] = []
if not find_spec("kubernetes"):
    collect_ignore_glob = ["test_kubernetes_*.py"]


@pytest.fixture(scope="session")
def is_ci() -> bool:
    """Whether a missing engine is a failure."""
    return IS_CI


@pytest.fixture(scope="session")
def admin() -> Iterator[Admin]:
    if not has_cluster:
        told = "no cluster: KUBECONFIG and CLOUDPOOL_TEST_IMAGE name one and its image, see tests/engines/README.md"
        if IS_CI:
            pytest.fail(told)
        pytest.skip(told)
    admin = Admin(f"cloudpool-test-{secrets.token_hex(4)}")
    admin.make_namespace()
    yield admin
    admin.close()


@pytest.fixture
def kubeconfig(admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The runner's rights, for this test and what it starts."""
    path = admin.kubeconfig(tmp_path / "kubeconfig", "cloudpool")
    monkeypatch.setenv("KUBECONFIG", path)
    return path


SMALL = {"cpu": "50m", "memory": "64Mi", "hosts": "20", "server_memory": "256Mi"}


@pytest.fixture
def chosen(kubeconfig: str) -> Callable[..., Settings]:
    """chosen(**kubernetes_settings): settings for small pods of the test's image."""

    def chosen(lease_s: str = "15", start_timeout_s: str = "60", **more: str) -> Settings:
        values = SMALL | {"image": IMAGE} | more
        environ = {f"CLOUDPOOL_KUBERNETES_{name.upper()}": value for name, value in values.items()}
        environ |= {"CLOUDPOOL_LEASE_S": lease_s, "CLOUDPOOL_START_TIMEOUT_S": start_timeout_s}
        return settings.read({}, environ, "/")

    return chosen


@pytest.fixture
def environ(chosen: Callable[..., Settings]) -> dict[str, str]:
    """Of a program on three pods with two slots each."""
    values = {
        "START_METHOD": "kubernetes", "KUBERNETES_IMAGE": chosen().kubernetes_image, "KUBERNETES_HOSTS": "3", "KUBERNETES_SLOTS": "2",
        "KUBERNETES_CPU": "200m", "KUBERNETES_MEMORY": "384Mi", "KUBERNETES_SERVER_MEMORY": "256Mi",
    }  # fmt: skip
    return {**os.environ, **{f"CLOUDPOOL_{name}": value for name, value in values.items()}}


@pytest.fixture
def session_id() -> str:
    return secrets.token_hex(6)


@pytest.fixture
def proxy(admin: Admin, kubeconfig: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The API by a way that can be cut, for this test and what it starts."""
    address = urlsplit(admin.client.configuration.host)
    if address.hostname not in ("127.0.0.1", "localhost"):
        pytest.skip("the API's certificate must hold for this machine's loopback")
    with Proxy(f"redis://127.0.0.1:{address.port or 443}") as proxy:
        path = admin.kubeconfig(
            tmp_path / "by-proxy", "cloudpool", f"https://{address.hostname}:{proxy.port}"
        )
        monkeypatch.setenv("KUBECONFIG", path)
        yield proxy


# -- functions ----------------------------------------------------------------------------------------------------------

# Out of the environment, as above: where functions reach servers of this machine. Set, it says that there must be AWS.
ADDRESS = os.environ.pop("TEST_LAMBDA", "")


@pytest.fixture(scope="session")
def functions() -> Iterator[Functions]:
    """Functions of this run on AWS Lambda: the account's, or what AWS_ENDPOINT_URL names."""
    if not ADDRESS:
        pytest.skip("TEST_LAMBDA says at which address functions reach servers of this machine")
    boto3 = pytest.importorskip("boto3") if not IS_CI else importlib.import_module("boto3")
    made = Functions(boto3.client("lambda"), boto3.client("iam"), f"core-{secrets.token_hex(4)}-", ADDRESS)
    yield made
    made.clear()


@pytest.fixture
def reached_server(functions: Functions, tmp_path: Path) -> Iterator[Server]:
    """One that functions reach."""
    server = Server(str(tmp_path), ADDRESS)
    yield server
    server.stop()


@pytest.fixture
def redis(reached_server: Server) -> Iterator[Server]:
    """The same. At a test's end no environment is connected to it, and nothing is in it."""
    yield reached_server
    until(lambda: not reached_server.left(), 30, reached_server.left)


@pytest.fixture
def program(functions: Functions, redis: Server, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """program(source, function, lease_s=3, AWS_ENDPOINT_URL=..., ...): with that function's environments for hosts."""
    programs: list[Program] = []

    def run(source: str, function: str, **chosen: object) -> Program:
        path = tmp_path / "main.py"
        path.write_text(source)
        programs.append(Program(path, redis.url, function, **chosen))
        return programs[-1]

    yield run
    for program in programs:
        program.close()
