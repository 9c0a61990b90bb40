"""What processes on the hosts of an engine cost beside those of this machine, and beside what the engine itself takes.

    python benchmarks/far.py docker|kubernetes|lambda [--rounds 5] [--blob-url URL]

Settings are the environment's, with an image (CLOUDPOOL_DOCKER_IMAGE, CLOUDPOOL_KUBERNETES_IMAGE) or a function that is deployed
(CLOUDPOOL_LAMBDA_FUNCTION). Things that are compared are done in turns; the figure to read is the ratio of the medians. Each
Pool(8), of functions Pool(32), is a session's first, on as many hosts of one slot. With --blob-url a large argument
goes to 16 workers by the server and by that storage.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))  # cloudpool of this checkout

import cloudpool
from cloudpool import settings

HOSTS = {"docker": 8, "kubernetes": 8, "lambda": 32}
RECEIVERS, ARGUMENT = 16, 30_000_000  # workers, bytes


def nothing(x: Any = None) -> Any:
    return x


def take(barrier: Any) -> None:
    global the_barrier
    the_barrier = barrier


def meet(x: int) -> int:
    the_barrier.wait(300)
    return x


def meet_with(argument: bytes, x: int) -> int:
    return len(argument) + meet(x)


def seconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def start_and_join(context: Any) -> None:
    process = context.Process(target=nothing)
    process.start()
    process.join()
    assert process.exitcode == 0


def in_turns(rounds: int, **acts: Callable[[], Any]) -> dict[str, float]:
    """The median of the seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            taken[name].append(seconds(act))
    return {name: statistics.median(found) for name, found in taken.items()}


def docker_containers(count: int) -> None:
    """So many containers of the image that do nothing, until all have ended."""
    import docker

    image, client = settings.current().docker_image, docker.from_env()
    with ThreadPoolExecutor(count) as threads:
        list(
            threads.map(
                lambda _: client.containers.run(image, ["true"], remove=True, entrypoint=""), range(count)
            )
        )


def kubernetes_pods(count: int) -> None:
    """A Job of so many pods of the image that do nothing, until all have ended."""
    import kubernetes

    kubernetes.config.load_config()
    chosen, api = settings.current(), kubernetes.client.BatchV1Api()
    name, namespace = f"bare-{uuid.uuid4().hex[:8]}", chosen.kubernetes_namespace or "default"
    container = {"name": "bare", "image": chosen.kubernetes_image, "command": ["true"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    api.create_namespaced_job(namespace, {
        "metadata": {"name": name},
        "spec": {"completions": count, "parallelism": count, "completionMode": "Indexed", "template": {"spec": pod}},
    })  # fmt: skip
    try:
        while api.read_namespaced_job_status(name, namespace).status.succeeded != count:
            time.sleep(0.05)  # until it has
    finally:
        api.delete_namespaced_job(name, namespace, propagation_policy="Background")


def functions(count: int) -> None:
    """So many invocations at once of a function that does nothing, until all have answered."""
    client, name = bare_function()
    with ThreadPoolExecutor(count) as threads:
        answers = list(threads.map(lambda _: client.invoke(FunctionName=name, Payload=b"{}"), range(count)))
    assert not [answer for answer in answers if "FunctionError" in answer]


@cache
def bare_function() -> tuple[Any, str]:
    """Made anew, like cloudpool's, and left for whoever wants to look at it."""
    from cloudpool.runners.aws_lambda import connect

    chosen, name = settings.current(), "cloudpool-benchmark-bare"
    client: Any = connect(chosen, "The benchmark")
    like = client.get_function_configuration(FunctionName=chosen.lambda_function)
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("bare.py", "def handle(event, context):\n    return 1\n")
    alike = {key: like[key] for key in ("Role", "MemorySize", "Timeout")}
    runtime = "python{}.{}".format(*sys.version_info[:2])
    with suppress(client.exceptions.ResourceNotFoundException):
        client.delete_function(FunctionName=name)
    client.create_function(
        FunctionName=name, Handler="bare.handle", Runtime=runtime, Code={"ZipFile": code.getvalue()}, **alike
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return client, name


def make_cold() -> None:
    """The next invocations of the bare function have environments that are made for them."""
    client, name = bare_function()
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"MADE": uuid.uuid4().hex}}
    )
    client.get_waiter("function_updated_v2").wait(FunctionName=name)


BARE = {"docker": docker_containers, "kubernetes": kubernetes_pods, "lambda": functions}


def first_pool(method: str, hosts: int) -> None:
    """In a program of its own: seconds from Pool() to its first result, and until each host has answered."""
    context = cloudpool.get_context(method)
    began = time.perf_counter()
    with context.Pool(hosts, take, (context.Barrier(hosts),)) as pool:
        pool.apply(nothing)
        first = time.perf_counter() - began
        assert pool.map(meet, range(hosts), chunksize=1) == list(range(hosts))
        print(first, time.perf_counter() - began)


def large_argument(method: str) -> None:
    """In a program of its own: seconds for an argument to reach each of the workers."""
    context = cloudpool.get_context(method)
    with context.Pool(RECEIVERS, take, (context.Barrier(RECEIVERS),)) as pool:
        assert pool.map(meet, range(RECEIVERS), chunksize=1) == list(range(RECEIVERS))  # all are there
        call = partial(meet_with, os.urandom(ARGUMENT))
        print(seconds(lambda: pool.map(call, range(RECEIVERS), chunksize=1)))


def alone(method: str, what: str, **environment: str) -> list[float]:
    """What a program of its own prints."""
    command = [sys.executable, __file__, method, what]
    ours = {name: value for name, value in os.environ.items() if name != "CLOUDPOOL_BLOB_URL"}
    said = subprocess.run(
        command, env={**ours, **environment}, stdout=subprocess.PIPE, text=True, check=True, timeout=600
    ).stdout
    return [float(word) for word in said.split()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", choices=BARE)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blob-url")
    for alone_in_a_program in ("--first-pool", "--large-argument"):
        parser.add_argument(alone_in_a_program, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    hosts, bare = HOSTS[options.method], BARE[options.method]
    # From the beginning: its hosts must reach the session's server.
    cloudpool.set_start_method(options.method)
    if options.first_pool:
        first_pool(options.method, hosts)
        return
    if options.large_argument:
        large_argument(options.method)
        return
    far, here = cloudpool.get_context(options.method), multiprocessing.get_context("fork")
    start_and_join(far)  # now a host is warm
    found = in_turns(20 * options.rounds, far=lambda: start_and_join(far), fork=lambda: start_and_join(here))
    container_s = statistics.median(seconds(lambda: bare(1)) for _ in range(options.rounds))
    print(f"warm Process start+join   {1e3 * found['far']:.1f} ms; x fork {found['far'] / found['fork']:.2f}; "
          f"x a bare container {found['far'] / container_s:.4f} ({container_s:.2f} s)", flush=True)  # fmt: skip

    with far.Pool(2) as far_pool, here.Pool(2) as here_pool:

        def call(pool: Any) -> None:
            assert pool.map(nothing, range(100)) == list(range(100))

        call(far_pool)
        found = in_turns(20 * options.rounds, far=lambda: call(far_pool), fork=lambda: call(here_pool))
    print(
        f"map of 100, warm          {1e3 * found['far']:.2f} ms; x fork {found['far'] / found['fork']:.2f}",
        flush=True,
    )

    prefix = f"CLOUDPOOL_{options.method.upper()}_"
    one_each = {f"{prefix}HOSTS": str(hosts), f"{prefix}SLOTS": "1"}
    pools, engines = [], []
    for _ in range(options.rounds):
        pools.append(alone(options.method, "--first-pool", **one_each))
        if options.method == "lambda":
            make_cold()
        engines.append(seconds(lambda: bare(hosts)))
    first, last = (statistics.median(column) for column in zip(*pools, strict=True))
    engine = statistics.median(engines)
    print(f"Pool({hosts}), first result {first:.2f} s, x the engine's own {first / engine:.2f}; of every host {last:.2f} s, "
          f"x {last / engine:.2f} (the engine: {engine:.2f} s for {hosts} that do nothing)", flush=True)  # fmt: skip
    if options.blob_url:
        one_each[f"{prefix}HOSTS"] = str(RECEIVERS)
        by_server, by_storage = [], []
        for _ in range(options.rounds):
            by_server += alone(options.method, "--large-argument", **one_each)
            by_storage += alone(
                options.method, "--large-argument", CLOUDPOOL_BLOB_URL=options.blob_url, **one_each
            )
        server_s, storage_s = statistics.median(by_server), statistics.median(by_storage)
        print(f"{ARGUMENT / 1e6:.0f} MB to {RECEIVERS} workers  {server_s:.2f} s by the server, {storage_s:.2f} s by the storage, "
              f"x {storage_s / server_s:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
