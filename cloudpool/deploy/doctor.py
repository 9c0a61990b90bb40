"""Walk every hop between a program here and a process on a host elsewhere, and say where it ends and what helps.

Each check is a line: ok, or what is wrong and the cure. What needs an earlier hop is not tried when that has failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cloudpool.deploy.checks import Check, compared, tried
from cloudpool.errors import CloudpoolError, MissingExtraError, RunnerError
from cloudpool.settings import Settings
from cloudpool.store.bucket import Bucket, Place, lifecycle

PROGRAM_S = 120.0  # beyond start_timeout_s
RIGHTS = (  # group, resource, subresource, verbs: what docs/kubernetes/rbac.yaml gives, and all that is used
    ("batch", "jobs", "", ("create", "get", "list", "delete", "deletecollection")),
    ("", "pods", "", ("create", "list", "watch", "deletecollection")),
    ("", "pods", "portforward", ("create", "get")),
    ("", "secrets", "", ("create",)),
    ("", "events", "", ("list",)),
)


def walk(method: str, chosen: Settings) -> Iterator[Check]:
    """The checks of an engine, as they are done; the one that fails and stands in the way of others is the last."""
    if chosen.blob_url:
        check = tried("storage (blob_url)", lambda: _storage(chosen))
        yield check
        if not check.is_ok:
            return
    yield from ENGINES[method](chosen)


def _storage(chosen: Settings) -> str:
    place = Place.of(chosen, "doctor")
    assert place is not None
    begin = time.perf_counter()
    try:
        Bucket(place).try_out()
    finally:
        place.remove_folder()
    took = f"{chosen.blob_url} takes, lists, gives and deletes in {1000 * (time.perf_counter() - begin):.0f} ms from here"
    return took if place.is_folder else f"{took}\n{lifecycle(chosen.blob_url or '')}"


def _kubernetes(chosen: Settings) -> Iterator[Check]:
    try:
        from cloudpool.runners.kubernetes_api import Cluster

        cluster = Cluster(chosen)
        from cloudpool.deploy.kubernetes_probe import Probe  # needs what the cluster's client brings
    except CloudpoolError as error:
        yield Check("configuration", False, str(error))
        return
    yield Check("configuration", True, cluster.place)
    check = tried("API", lambda: _reach(cluster))
    yield check
    if not check.is_ok:
        return
    rights = [tried(name, partial(_right, cluster, *right)) for name, right in _each_right()]
    yield from rights
    if not all(check.is_ok for check in rights):
        return
    yield from Probe(cluster, chosen).checks()
    yield from _programs("kubernetes", chosen)


def _reach(cluster: Any) -> str:
    begin = time.perf_counter()
    cluster.list("pods", limit=1)
    return f"answers in {1000 * (time.perf_counter() - begin):.0f} ms"


def _each_right() -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    for group, resource, subresource, verbs in RIGHTS:
        for verb in verbs:
            name = f"{resource}/{subresource}" if subresource else resource
            yield f"right to {verb} {name}", (verb, group, resource, subresource)


def _right(cluster: Any, verb: str, group: str, resource: str, subresource: str) -> str:
    from cloudpool.runners.kubernetes_api import RIGHTS as FILE

    if not cluster.may(verb, group, resource, subresource):
        raise RunnerError(
            f"missing. An administrator gives it by: kubectl -n {cluster.namespace} apply -f {FILE}"
        )
    return "there"


def _docker(chosen: Settings) -> Iterator[Check]:
    from cloudpool.runners.docker import connect

    try:
        client = connect("The start method docker")
    except MissingExtraError as error:
        yield Check("package", False, str(error))
        return
    except RunnerError as error:
        yield Check("engine", False, str(error))
        return
    import docker.errors

    yield Check("engine", True, f"Docker Engine {client.version()['Version']}")
    name = chosen.docker_image or "cloudpool:python{}.{}".format(*sys.version_info[:2])
    try:
        said = client.containers.run(
            name,
            ["python3", "-m", "cloudpool.deploy.probe"],
            remove=True,
            volumes=list(chosen.docker_mounts or ()),
        )
    except (docker.errors.DockerException, OSError) as error:
        yield Check("image", False, f"{name} cannot be run ({error}): python -m cloudpool image")
        return
    finally:
        client.close()
    yield compared("image", name, json.loads(said)["versions"])
    yield from _programs("docker", chosen)


def _lambda(chosen: Settings) -> Iterator[Check]:
    from cloudpool.deploy.lambda_probe import checks

    is_fine = True
    for check in checks(chosen):
        is_fine = is_fine and check.is_ok
        yield check
    if is_fine:
        yield from _programs("lambda", chosen)


ENGINES: dict[str, Callable[[Settings], Iterator[Check]]] = {
    "kubernetes": _kubernetes,
    "docker": _docker,
    "lambda": _lambda,
}


# -- programs, by the ordinary API --------------------------------------------------------------------------------------

# The settings are those of the folder that the doctor is in, not of the script's.
PROCESS = """
import os, cloudpool
from cloudpool import settings
def work(queue): queue.put(os.getpid())
if __name__ == "__main__":
    settings.reload(folder=os.getcwd())
    queue = cloudpool.Queue()
    process = cloudpool.Process(target=work, args=(queue,))
    process.start()
    process.join()
    assert process.exitcode == 0, f"it ended with exit code {process.exitcode}"
    assert queue.get() == process.pid
"""
POOL = """
import os, cloudpool
from cloudpool import settings
def square(x): return x * x
if __name__ == "__main__":
    settings.reload(folder=os.getcwd())
    with cloudpool.Pool(2) as pool:
        assert pool.map(square, range(100)) == [x * x for x in range(100)]
"""
PAYLOADS = """
import os, cloudpool
from cloudpool import settings
if __name__ == "__main__":
    settings.reload(folder=os.getcwd())
    with cloudpool.Pool(1) as pool:
        assert len(pool.apply(bytes.upper, (bytes(2 << 20),))) == 2 << 20
"""


def _programs(method: str, chosen: Settings) -> Iterator[Check]:
    timeout_s = chosen.start_timeout_s + PROGRAM_S
    programs = [("a Process", PROCESS), ("a Pool", POOL)]
    if chosen.blob_url:
        programs.append(("payloads by the storage, from a host", PAYLOADS))
    for what, program in programs:
        yield tried(what, partial(_run, program, method, timeout_s))


def _run(program: str, method: str, timeout_s: float) -> str:
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="cloudpool-doctor-") as folder:
        script = os.path.join(folder, "program.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(program)
        try:
            done = subprocess.run(
                [sys.executable, script],
                timeout=timeout_s,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "CLOUDPOOL_START_METHOD": method},
            )
        except subprocess.TimeoutExpired:
            raise RunnerError(f"no end after {timeout_s:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        own = [line.removeprefix("cloudpool: ") for line in said if line.startswith("cloudpool: ")]
        raise RunnerError("\n".join((own or said)[-3:]) or f"it ended with status {done.returncode}")
    return f"{time.perf_counter() - begin:.1f} s"
