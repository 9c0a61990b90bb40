"""Hosts that are containers of a real Docker Engine: the one that DOCKER_HOST, or the default socket, leads to.

The image (CLOUDPOOL_DOCKER_IMAGE, else cloudpool-python:3.x) has what cloudpool needs; cloudpool itself is mounted from here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from cloudpool.errors import CloudpoolError
from cloudpool.runners.docker import LABEL, connect

PACKAGE = Path(__file__).parents[2] / "cloudpool"
VERSION = "{}.{}".format(*sys.version_info[:2])
MOUNTS = f"{PACKAGE}:/usr/local/lib/python{VERSION}/site-packages/cloudpool:ro"
IMAGE = os.environ.get("CLOUDPOOL_DOCKER_IMAGE", f"cloudpool-python:{VERSION}")


@pytest.fixture(scope="module")
def engine(is_ci: bool) -> Iterator[Any]:
    """A client of an engine that has the image, and can mount this machine's folders."""
    missing = ""
    try:
        client = connect("tests/engines")
        client.images.get(IMAGE)
    except CloudpoolError as error:
        missing = str(error)
    except OSError as error:  # an image that is not there, too: its class is of requests
        missing = f"no image {IMAGE}: {error}"
    if missing:
        if is_ci:
            pytest.fail(missing)
        pytest.skip(missing)
    yield client
    client.close()


class Program:
    """A program whose processes are in containers, and those containers."""

    def __init__(self, engine: Any, path: Path, *arguments: str, **chosen: object) -> None:
        self._engine = engine
        self.session = ""  # once it has said which it is
        environment = {
            **os.environ, "PYTHONPATH": str(PACKAGE.parent), "CLOUDPOOL_START_METHOD": "docker",
            "CLOUDPOOL_DOCKER_IMAGE": IMAGE, "CLOUDPOOL_DOCKER_HOSTS": "2", "CLOUDPOOL_DOCKER_SLOTS": "2",
            "CLOUDPOOL_DOCKER_MOUNTS": MOUNTS,
            **{f"CLOUDPOOL_{name.upper()}": str(value) for name, value in chosen.items()},
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, path, *arguments], env=environment, start_new_session=True, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip("\n")
        assert line, self.process.communicate()[1]
        return line

    def containers(self) -> list[Any]:
        """Those of its session, which it says first."""
        if not self.session:
            self.session = self.line()
        return list(
            self._engine.containers.list(
                all=True, ignore_removed=True, filters={"label": f"{LABEL}={self.session}"}
            )
        )

    def end(self) -> tuple[int, str, str]:
        said, complained = self.process.communicate(timeout=100)
        return self.process.returncode, said, complained


@pytest.fixture
def program(engine: Any, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """program(source, *arguments, docker_memory="64m", ...); no container is left at a test's end."""
    programs: list[Program] = []

    def run(source: str, *arguments: str, **chosen: object) -> Program:
        path = tmp_path / "main.py"
        path.write_text(source)
        programs.append(Program(engine, path, *arguments, **chosen))
        return programs[-1]

    yield run
    for program in programs:
        program.process.kill()
        program.process.wait()
        for stream in (program.process.stdin, program.process.stdout, program.process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
    until(lambda: not [p for p in programs if p.session and p.containers()], 40)


MAIN = """
import cloudpool as multiprocessing, importlib.metadata, os, signal, socket, sys

def work(queue, lock, value):
    with lock:
        value.value += 1
    queue.put((socket.gethostname(), os.getpid()))

def square(x):
    return x * x

def end(how):
    if how == "exit": sys.exit(3)
    os.kill(os.getpid(), signal.SIGKILL)

def main():
    queue, lock, value = multiprocessing.Queue(), multiprocessing.Lock(), multiprocessing.Value("i")
    far = [multiprocessing.Process(target=work, args=(queue, lock, value)) for _ in range(4)]
    here = [multiprocessing.get_context("fork").Process(target=work, args=(queue, lock, value))]
    for process in far + here: process.start()
    said = [queue.get() for _ in far + here]
    for process in far + here: process.join()
    print([process.exitcode for process in far + here], value.value)
    print(len({host for host, _ in said}), {pid for _, pid in said} == {p.pid for p in far + here})
    for how in ("exit", "kill"):
        process = multiprocessing.Process(target=end, args=(how,))
        process.start()
        process.join()
        print(process.exitcode)
    with multiprocessing.Pool(3) as pool:
        print(pool.map(square, range(50)) == [x * x for x in range(50)])
        print(pool.apply(len, (b"x" * 10_000_000,)))
        version = importlib.metadata.version("pytest")  # of which the image has nothing
        print(pool.apply(importlib.metadata.version, ("pytest",)) == version)
    with multiprocessing.Executor(2) as executor:
        print(list(executor.map(square, range(3))))

if __name__ == "__main__":
    main()
"""


def test_processes_pools_queues_and_exit_codes(program):
    code, said, complained = program(MAIN).end()
    assert code == 0, complained
    [told] = complained.splitlines()
    assert "the program itself names 'fork'" in told
    lines = said.splitlines()
    assert lines[0] == "[0, 0, 0, 0, 0] 5"
    assert lines[1] in {"3 True", "2 True"}  # containers, and this machine
    assert lines[2:] == ["3", str(-signal.SIGKILL), "True", "10000000", "True", "[0, 1, 4]"]


STORED = """
import cloudpool as multiprocessing, os, sys

def enlarge(data):
    return data * 2

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print([len(data) for data in pool.map(enlarge, [bytes(2 << 20)] * 3)])
        queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=queue.put, args=(bytes(3 << 20),))
        process.start()
        process.join()
        print(any("blob." in name for _, _, names in os.walk(sys.argv[1]) for name in names))
        print(len(queue.get()))
"""


def test_large_payloads_by_a_folder_of_this_machine_which_is_mounted_by_itself(program, tmp_path):
    storage = tmp_path / "storage"
    code, said, complained = program(STORED, str(storage), blob_url=f"file://{storage}").end()
    assert (code, complained) == (0, "")
    assert said.splitlines() == [f"[{4 << 20}, {4 << 20}, {4 << 20}]", "True", str(3 << 20)]
    assert not storage.exists()  # made for the session


UNDER_WAY = """
import cloudpool as multiprocessing, sys, time
from cloudpool.host import session

def slowly(x):
    time.sleep(0.05)
    return x * x

if __name__ == "__main__":
    with multiprocessing.Pool(4) as pool:
        results = pool.imap(slowly, range(200))
        next(results)
        print(session.current().info.id, flush=True)
        print(list(results) == [x * x for x in range(1, 200)])
"""


@pytest.mark.parametrize("how", ["kill", "remove", "pause"])
def test_container_that_goes_in_the_middle_of_a_map(program, how):
    """Its tasks run again elsewhere; one that is paused for longer than a lease is as good as gone."""
    running = program(UNDER_WAY, lease_s=3)
    containers = running.containers()
    assert containers
    if how == "remove":
        containers[0].remove(force=True)
    else:
        getattr(containers[0], how)()
    code, said, complained = running.end()
    assert (code, said) == (0, "True\n"), complained


HUNGRY = """
import cloudpool as multiprocessing

def eat():
    print("begins")
    eaten = [bytearray(b"x" * 2**20) for _ in range(1000)]

if __name__ == "__main__":
    process = multiprocessing.Process(target=eat)
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_memory_limit_is_in_the_error(program):
    code, said, complained = program(HUNGRY, docker_memory="100m").end()
    assert code == 0
    assert said.splitlines() == ["begins", str(-signal.SIGKILL)]
    assert complained == (
        "cloudpool: a process was killed for want of memory: its host has 100 MiB, and has used 100 (CLOUDPOOL_DOCKER_MEMORY).\n"
    )


HUNGRY_TASK = """
import cloudpool as multiprocessing, cloudpool.errors, socket

def eat(_):
    return len(bytearray(b"x") * 2**30)

if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        host = pool.apply(socket.gethostname)
        try:
            pool.apply(eat, (1,))
        except cloudpool.errors.WorkerLostError as error:
            print(error.host == host, error)
"""


def test_the_loss_of_a_task_names_its_container_and_what_it_used(program):
    code, said, complained = program(HUNGRY_TASK, docker_memory="100m", docker_hosts=1, retries=0).end()
    assert (code, said[:5]) == (0, "True "), complained
    assert (
        "died by SIGKILL (for want of memory: its host has 100 MiB, and has used 100 (CLOUDPOOL_DOCKER_MEMORY)) on "
        in said
    )


@pytest.mark.parametrize(
    ("chosen", "said_too"),
    [
        ({"docker_network": "cloudpool-nobody-has-this"}, "CLOUDPOOL_DOCKER_NETWORK"),
        ({"docker_memory": "1m"}, "CLOUDPOOL_DOCKER_MEMORY"),
        ({"docker_cpus": "10000"}, "CLOUDPOOL_DOCKER_CPUS"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_engine_refuses_is_said_once_with_the_setting_it_comes_from(program, chosen, said_too):
    code, said, complained = program(REFUSED, **chosen).end()
    assert (code, said) == (0, "[255, 255, 255]\n")
    assert complained.count("cloudpool: the Docker Engine ") == 1
    assert said_too in complained
    assert complained.count("\n") == 2


IDLE = """
import cloudpool as multiprocessing, sys
from cloudpool.host import session

if __name__ == "__main__":
    process = multiprocessing.Process(target=abs, args=(1,))
    process.start()
    process.join()
    print(session.current().info.id, flush=True)
    sys.stdin.read()
"""


def test_idle_container_is_removed_while_its_program_goes_on(program):
    running = program(IDLE, idle_s=1)
    assert running.containers()
    until(lambda: not running.containers(), 40)
    assert running.end()[0] == 0


REFUSED = """
import cloudpool as multiprocessing

if __name__ == "__main__":
    far = [multiprocessing.Process(target=abs, args=(1,)) for _ in range(3)]
    for process in far: process.start()
    for process in far: process.join()
    print([process.exitcode for process in far])
"""


def test_image_that_is_not_there(program):
    code, said, complained = program(HUNGRY, docker_image="cloudpool-nobody-has-this:1").end()
    assert (code, said) == (0, "255\n")
    assert complained == (
        "cloudpool: the Docker Engine has no image cloudpool-nobody-has-this:1.\n"
        "Build it: python -m cloudpool image; or name another: CLOUDPOOL_DOCKER_IMAGE.\n"
    )


def test_root_that_is_killed_leaves_no_container(program):
    running = program(UNDER_WAY, lease_s=3)
    assert running.containers()
    running.process.kill()
    until(lambda: not running.containers(), 40)


# -- the command line -----------------------------------------------------------------------------------------------


def command(*arguments: str, status: int = 0, **chosen: str) -> str:
    """What `python -m cloudpool ARGUMENT... --on docker` prints."""
    settings = {"DOCKER_IMAGE": IMAGE, "DOCKER_MOUNTS": MOUNTS} | chosen
    done = subprocess.run(
        [sys.executable, "-m", "cloudpool", *arguments, "--on", "docker"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **{f"CLOUDPOOL_{n}": v for n, v in settings.items()}},
        capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout


def test_the_doctor_walks_every_hop(engine):
    said = command("doctor").splitlines()
    assert [line.partition(":")[0] for line in said] == [
        f"ok      {what}" for what in ("engine", "image", "a Process", "a Pool")
    ]


def test_the_doctor_stops_at_an_image_that_is_not_there(engine):
    said = command("doctor", status=1, DOCKER_IMAGE="cloudpool-nobody-has-this:1").splitlines()
    assert said[1].startswith("FAILED  image: cloudpool-nobody-has-this:1 cannot be run")
    assert len(said) == 2


def test_gc_removes_what_has_ended_and_leaves_what_runs_until_it_is_named(engine):
    over, lives = (
        engine.containers.run(IMAGE, program, labels={LABEL: session}, detach=True)
        for program, session in ((["true"], "aaaaaaaaaaaa"), (["sleep", "100"], "bbbbbbbbbbbb"))
    )
    try:
        over.wait()
        said = command("gc")
        assert f"removed: container {over.name} of session aaaaaaaaaaaa, 0:00:" in said
        assert lives.name not in said
        assert lives.name in command("gc", "--session", "bbbbbbbbbbbb")
    finally:
        for container in (over, lives):
            with suppress(OSError):  # it is gone, as it should be
                container.remove(force=True)
