"""A blob that was read by its only reader is written over by the next; none that anyone may still read is."""

from __future__ import annotations

import hashlib
import os
import platform
import random
import threading
from pathlib import Path

import numpy as np
import pytest

import cloudpool
from cloudpool.host import session as sessions
from cloudpool.store import blobs

EMBEDDED = pytest.mark.parametrize("server", ["embedded"], indirect=True)
SIZE = 1_000_000


@pytest.fixture
def fork(server):
    return cloudpool.get_context("fork")


@pytest.fixture
def folder(fork):
    """Where this test's session has its blobs, and it alone."""
    sessions.leave()
    return Path(sessions.current().info.folder)


@pytest.fixture
def chance(seed):
    return random.Random(seed)


def spares(folder):
    return {file.stat().st_ino for file in folder.glob("spare.*")}


def content(size):
    """Bytes of that size whose end is the digest of the rest."""
    begin = os.urandom(64) * (size // 64)
    return begin + hashlib.sha256(begin).digest()


def is_whole(data):
    return hashlib.sha256(data[:-32]).digest() == data[-32:]


def leave_spare(queue):
    """Of an item that is put and got."""
    queue.put(content(SIZE))
    queue.get()


@EMBEDDED
@pytest.mark.parametrize("size", [SIZE, SIZE // 2, 3 * SIZE])
def test_file_of_an_item_that_was_got_is_the_next_ones(fork, folder, size):
    queue, item = fork.Queue(), content(size)
    leave_spare(queue)
    [file] = spares(folder)
    queue.put(item)
    assert not spares(folder)
    [blob] = folder.glob("blob.*")
    assert (blob.stat().st_ino, blob.stat().st_nlink) == (file, 1)
    assert queue.get() == item
    assert spares(folder) == {file}


def through_queue(context):
    queue = context.Queue()
    return queue.put, queue.get


def through_simple_queue(context):
    queue = context.SimpleQueue()
    return queue.put, queue.get


def through_pipe(context):
    reader, writer = context.Pipe(False)
    return writer.send, reader.recv


def through_pipe_as_bytes(context):
    reader, writer = context.Pipe(False)
    return writer.send_bytes, reader.recv_bytes


@EMBEDDED
@pytest.mark.parametrize("way", [through_queue, through_simple_queue, through_pipe, through_pipe_as_bytes])
def test_what_was_got_stays_as_it_was(fork, folder, way):
    put, get = way(fork)
    got = []
    for _ in range(3 * blobs.SPARES):
        put(content(SIZE))
        got.append(get())
    assert all(map(is_whole, got))
    assert len({bytes(data) for data in got}) == len(got)
    assert len(spares(folder)) == 1


def test_bytes_received_into_a_buffer_stay_as_they_were(fork, server):
    reader, writer = fork.Pipe(False)
    into = [bytearray(2 * SIZE) for _ in range(5)]
    for buffer in into:
        writer.send_bytes(content(SIZE))
        buffer[:] = buffer[: reader.recv_bytes_into(buffer)]
    assert all(map(is_whole, into))


@EMBEDDED
def test_file_of_an_array_which_is_mapped_is_nobody_elses(fork, folder):
    queue = fork.Queue()
    arrays = []
    for n in range(5):
        queue.put(np.full(SIZE, n, "u1"))
        arrays.append(queue.get())
        leave_spare(queue)
    assert [int(array[SIZE // 2]) for array in arrays] == list(range(5))
    assert len(spares(folder)) == 1


def test_file_of_what_may_be_read_again_is_nobody_elses(fork, folder):
    joinable, listed = fork.JoinableQueue(), fork.Manager().list()
    joinable.put(content(SIZE))
    joinable.get()
    joinable.task_done()
    listed.append(content(SIZE))
    listed.pop()
    assert not spares(folder)


@EMBEDDED
def test_results_of_a_pool_arrive_whole(fork, folder):
    with fork.Pool(2) as pool:
        for _ in range(3):
            got = pool.map(content, [SIZE] * 20, chunksize=2)
            assert all(map(is_whole, got))
    assert 0 < len(spares(folder)) <= blobs.SPARES


@EMBEDDED
def test_there_are_few_of_them_and_none_is_large(fork, folder):
    queue, most = fork.Queue(), blobs.MOST_SPARE
    for size in [SIZE] * (3 * blobs.SPARES) + [2 * most]:
        queue.put(content(size))
    for _ in range(3 * blobs.SPARES + 1):
        assert is_whole(queue.get())
    assert len(spares(folder)) == blobs.SPARES
    assert all(file.stat().st_size <= most for file in folder.glob("spare.*"))
    assert not list(folder.glob("taken.*"))


@pytest.mark.parametrize("server", ["tcp"], indirect=True)
def test_what_is_sealed_says_not_what_is_in_it_and_leaves_none(fork, folder):
    queue = fork.Queue()
    queue.put(content(SIZE))
    assert is_whole(queue.get())
    assert not spares(folder)


def test_where_room_is_scarce_there_are_none(fork, folder, monkeypatch):
    monkeypatch.setattr(blobs, "ROOMY", 1 << 60)
    queue = fork.Queue()
    queue.put(content(SIZE))
    assert is_whole(queue.get())
    assert not spares(folder)


@EMBEDDED
def test_they_go_when_there_is_no_room_for_something_else(fork, folder, monkeypatch):
    queue, allocate, write = fork.Queue(), os.posix_fallocate, os.write

    def full(real):
        def attempt(*arguments):
            if spares(folder):
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return attempt

    for fill in (lambda: fork.RawArray("b", 100), lambda: queue.put(content(2 * blobs.MOST_SPARE))):
        leave_spare(queue)
        assert spares(folder)
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full(allocate))
            patch.setattr(os, "write", full(write))
            fill()
        assert not spares(folder)
    assert is_whole(queue.get())


@EMBEDDED
def test_one_that_grows_beyond_the_room_is_given_up(fork, folder, monkeypatch):
    queue, write = fork.Queue(), os.write
    leave_spare(queue)

    def full(fd, data):
        if list(folder.glob("taken.*")):
            raise OSError(28, "No space left on device")
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        queue.put(content(2 * SIZE))
    assert not list(folder.glob("taken.*"))
    assert is_whole(queue.get())


def take_and_die(queue):
    write = os.write

    def dies(fd, data):
        write(fd, data[:1000])
        os.kill(os.getpid(), 9)

    os.write = dies
    queue.put(content(SIZE))


@EMBEDDED
def test_one_that_a_killed_process_was_writing_over_goes(fork, start, folder, settle):
    queue = fork.Queue()
    leave_spare(queue)
    assert spares(folder)
    process = start(take_and_die, queue, by=fork)
    process.join()
    assert process.exitcode == -9
    settle()
    assert not spares(folder)
    assert not list(folder.glob("taken.*"))
    assert queue.empty()


def leave_in_the_middle(queue):
    write = os.write

    def stays(fd, data):
        if threading.current_thread() is threading.main_thread():
            return write(fd, data)
        is_in.set()
        return threading.Event().wait()

    is_in, os.write = threading.Event(), stays
    threading.Thread(target=queue.put, args=(content(SIZE),), daemon=True).start()
    is_in.wait()


@EMBEDDED
def test_one_that_a_process_was_writing_over_when_it_ended_goes(fork, start, finish, folder, settle):
    queue = fork.Queue()
    leave_spare(queue)
    finish(start(leave_in_the_middle, queue, by=fork))
    settle()
    assert not spares(folder)
    assert not list(folder.glob("taken.*"))


@EMBEDDED
def test_one_whose_writing_was_interrupted_goes(fork, folder, monkeypatch):
    queue = fork.Queue()
    leave_spare(queue)

    def interrupted(_fd, _data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            queue.put(content(SIZE))
    assert (
        sorted(file.name for pattern in ("blob", "taken", "spare") for file in folder.glob(f"{pattern}.*"))
        == []
    )
    assert queue.empty()


def exchange(seed, incoming, outgoing, count):
    """Send what has come, and new ones, of sizes on either side of what is kept."""
    chance = random.Random(seed)
    for _ in range(count):
        outgoing.put(content(chance.choice([70_000, SIZE, 3 * SIZE, 5 * SIZE])))
        if not is_whole(incoming.get(timeout=60)):
            os._exit(7)


@EMBEDDED
def test_many_who_write_and_read_at_the_same_time_get_what_was_put(fork, start, finish, chance, folder):
    queues = [fork.Queue() for _ in range(3)]
    around = list(zip(queues, queues[1:] + queues[:1], strict=True))
    processes = [start(exchange, chance.random(), *pair, 60, by=fork) for pair in around]
    threads = [threading.Thread(target=exchange, args=(chance.random(), *pair, 60)) for pair in around]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finish(*processes)
    assert all(queue.empty() for queue in queues)
    assert not list(folder.glob("blob.*"))
    assert len(spares(folder)) <= blobs.SPARES


FAULTS = """
import resource
import cloudpool as multiprocessing

def main():
    queue = multiprocessing.Queue()
    faults = []
    for n in range(40):
        queue.put(bytes([n]) * 1_000_000)
        assert queue.get() == bytes([n]) * 1_000_000
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    print((faults[-1] - faults[-21]) // 20, flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_memory_of_large_items_is_not_made_anew_for_each(launch):
    """Three objects of a MB are 732 pages; the file's are mapped sixteen at a time."""
    program = launch(FAULTS)
    assert int(program.line()) < 100
    assert program.end() == (0, "")


SCARCE = """
import resource
import cloudpool as multiprocessing

def main():
    queue = multiprocessing.Queue()
    queue.put(bytes(1))
    queue.get()
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (8 << 20),) * 2)
    queue.put(bytes(200_000))
    print(len(queue.get()), flush=True)

if __name__ == "__main__":
    main()
"""


def test_process_that_may_have_little_memory_gets_what_fits(launch):
    program = launch(SCARCE)
    assert program.line() == "200000"
    assert program.end() == (0, "")
