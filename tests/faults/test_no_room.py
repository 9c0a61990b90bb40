"""A file system that is full: what does not fit is refused, whole, with words that help, and the rest goes on."""

from __future__ import annotations

import subprocess

import pytest

from cloudpool.host import folder as folders


@pytest.fixture
def small():
    """small(place, size): what a command is put behind so that it, and nobody else, has a file system of that size there."""

    def small(place, size):
        mount = 'mount -t tmpfs -o size="$1" none "$0" && cd / && shift && exec "$@"'
        return ("unshare", "-rm", "sh", "-c", mount, str(place), size)

    try:
        subprocess.run([*small("/mnt", "1m"), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount anything here")
    return small


FULL_FOLDER = """
import os, pickle
import cloudpool as multiprocessing
from cloudpool.host import folder as folders, session as sessions

def main():
    with open(folders.MEMORY + "/filler", "xb") as filler:
        os.posix_fallocate(filler.fileno(), 0, folders.ROOMY - (8 << 20))
    context, manager = multiprocessing.get_context("fork"), multiprocessing.Manager()
    queue, simple, (ours, theirs), event = context.Queue(), context.SimpleQueue(), context.Pipe(), context.Event()
    shared, listed, pool = manager.dict(), manager.list(), context.Pool(1)
    large = os.urandom(20 << 20)
    ways = {
        "Queue": queue.put, "SimpleQueue": simple.put, "Pipe": ours.send, "dict": lambda x: shared.update(a=x),
        "list": listed.append, "Pool": lambda x: pool.apply(len, (x,)), "Pool, result": lambda x: pool.apply(os.urandom, (len(x),)),
        "Array": lambda x: context.RawArray("b", len(x)),
    }
    for name, put in ways.items():
        try:
            put(large)
        except OSError as error:
            print(name, "|", error.errno, str(error).replace("\\n", " "), flush=True)
        else:
            print(name, "| is in", flush=True)
    folder = sessions.current().info.folder
    assert not [name for name in os.listdir(folder) if name.startswith("blob.")]
    queue.put(1)
    ours.send(event)
    assert queue.get() == 1 and not theirs.recv().is_set() and pool.apply(len, ("abc",)) == 3 and not shared
    pool.close()
    pool.join()
    print("well", flush=True)

if __name__ == "__main__":
    main()
"""


def test_what_does_not_fit_into_the_sessions_folder_is_refused_and_the_rest_goes_on(launch, small):
    program = launch(FULL_FOLDER, within=small("/dev/shm", str(folders.ROOMY)))
    said = program.lines(9)
    assert said.pop() == "well"
    assert len(said) == 8
    for line in said:
        assert "| 28 [Errno 28] No room for" in line, line
        assert "are free in /dev/shm/cloudpool-" in line, line
    assert program.end() == (0, "")


LARGE = """
import cloudpool as multiprocessing

def main():
    queue, pool, large = multiprocessing.Queue(), multiprocessing.Pool(1), bytes(100_000_000)
    queue.put(large)
    assert queue.get() == pool.apply(bytes, (len(large),)) == large
    pool.close()
    pool.join()
    print("well", flush=True)

if __name__ == "__main__":
    main()
"""


def test_memory_as_small_as_a_containers_is_not_what_objects_must_fit_into(launch, small):
    program = launch(LARGE, within=small("/dev/shm", "64m"))
    assert program.line() == "well"
    assert program.end() == (0, "")


FULL_SERVER = """
import cloudpool as multiprocessing

def main():
    shared = multiprocessing.Manager().dict()
    try:
        while True:
            for n in range(100):
                shared[n] = "x" * 60_000
    except multiprocessing.errors.ServerError as error:
        print(str(error).replace("\\n", " "), flush=True)
    assert shared[0] == "x" * 60_000
    print("well", flush=True)

if __name__ == "__main__":
    main()
"""


def test_server_whose_append_only_file_has_no_room_says_so_and_is_read(launch, serve, small, tmp_path):
    options = ("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
    server = serve(*options, within=small(tmp_path / "server0", "4m"))
    program = launch(FULL_SERVER, redis_url=server.url)
    said = program.line()
    assert said.startswith("the server takes no writes, since it cannot save its data (MISCONF")
    assert "No space left on device" in said
    assert "Give its disk room" in said
    assert program.line() == "well"
    assert program.end()[0] == 0
