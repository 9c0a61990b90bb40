"""Descriptors, threads, connections, memory, keys and files are where they were, however much has come and gone.

The default run does it often enough to notice one that stays each time; `--soak N` (any N above 0) as often as promised.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import cloudpool
from cloudpool.errors import ServerOutOfMemory
from cloudpool.host import session as sessions
from cloudpool.store.blobs import drop_spares

KINDS = {
    "Lock": lambda c, _: c.Lock(), "RLock": lambda c, _: c.RLock(), "Semaphore": lambda c, _: c.Semaphore(3),
    "BoundedSemaphore": lambda c, _: c.BoundedSemaphore(2), "Condition": lambda c, _: c.Condition(),
    "Event": lambda c, _: c.Event(), "Barrier": lambda c, _: c.Barrier(2), "Queue": lambda c, _: c.Queue(),
    "JoinableQueue": lambda c, _: c.JoinableQueue(2), "SimpleQueue": lambda c, _: c.SimpleQueue(),
    "Pipe": lambda c, _: c.Pipe(), "Value": lambda c, _: c.Value("i"), "Array": lambda c, _: c.Array("d", 1000),
    "SharedMemory": lambda *_: Unlinked(), "dict": lambda _, m: m.dict(a=1), "list": lambda _, m: m.list([1]),
    "Namespace": lambda _, m: m.Namespace(a=1), "manager's Array": lambda _, m: m.Array("i", [1]),
    "manager's Queue": lambda _, m: m.Queue(), "manager's Lock": lambda _, m: m.Lock(),
}  # fmt: skip


class Unlinked(cloudpool.shared_memory.SharedMemory):
    """A block that goes with its object."""

    def __init__(self):
        super().__init__(create=True, size=5000)

    def __del__(self):
        self.close()
        self.unlink()


@pytest.fixture
def fork(server):
    return cloudpool.get_context("fork")


@pytest.fixture
def manager(server):
    return cloudpool.Manager()


@pytest.fixture
def times(request):
    """times(promised, usual): how often to do what must leave nothing; as promised in a long run."""
    return lambda promised, usual: promised if request.config.getoption("--soak", default=0) else usual


# -- what there is ------------------------------------------------------------------------------------------------------


def agent_pid():
    folder = sessions.current().info.folder
    inode = os.stat(os.path.join(folder, "agent.lock")).st_ino
    with open("/proc/locks") as file:  # the agent's for as long as it lives
        return next(int(line.split()[4]) for line in file if line.split()[5].endswith(f":{inode}"))


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


@pytest.fixture
def census(settle, store):
    """census(): descriptors, threads, connections, keys and files; and census.memory(): KiB in use."""

    def pids():
        info = store.call("INFO", "server").decode()
        server = int(
            next(line for line in info.split("\r\n") if line.startswith("process_id")).partition(":")[2]
        )
        return {"root": os.getpid(), "agent": agent_pid(), "server": server}

    def census():
        settle()
        found = Counter({
            f"descriptors of the {who}": len(os.listdir(f"/proc/{pid}/fd")) for who, pid in pids().items()
        })  # fmt: skip
        found["threads"] = threading.active_count()
        found["connections"] = len(store.call("CLIENT", "LIST").splitlines())
        for key in store.call("KEYS", "*"):
            part = key.decode().rpartition("}:")[2].partition(":")[0]
            if (
                part == "ready"
            ):  # of payloads that other hosts asked for in tests before: gone within a minute, always
                continue
            found[f"keys: {part}"] += 1
            found["elements"] += size(store, key)
        folder = sessions.current().info.folder
        drop_spares(folder)  # a few files stay to be written over
        for name in os.listdir(folder):
            found[f"files: {name.partition('.')[0]}"] += 1
        return found

    def memory():
        settle()
        gc.collect()
        return {who: resident_kib(pid) for who, pid in pids().items()}

    census.memory = memory
    return census


def size(store, key):
    count = {b"hash": "HLEN", b"set": "SCARD", b"list": "LLEN", b"stream": "XLEN"}.get(
        store.call("TYPE", key)
    )
    return store.call(count, key) if count else 1


def grown(before, after, most_kib):
    return {who: after[who] - before[who] for who in before if after[who] - before[who] > most_kib}


# -- tests --------------------------------------------------------------------------------------------------------------


def use(lock, queue, names):
    own = cloudpool.Lock(), cloudpool.Queue(), cloudpool.Pipe(), cloudpool.Value("i")
    with lock, own[0]:
        queue.put(own[1])
        names.last = 1
    own[2][0].send(own[3])


def use_and_die(*shared):
    use(*shared)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("target", [use, use_and_die], ids=["ended", "killed"])
def test_processes_leave_nothing(target, fork, manager, times, census):
    lock, queue, names = fork.Lock(), fork.Queue(), manager.Namespace(last=0)

    def run(n):
        for _ in range(n):
            batch = [fork.Process(target=target, args=(lock, queue, names)) for _ in range(4)]
            for process in batch:
                process.start()
            for _ in range(4 if target is use else 0):
                queue.get()
            for process in batch:
                process.join()
            while not queue.empty():
                queue.get()

    run(10)
    before, memory = census(), census.memory()
    run(times(*(2000, 100) if target is use else (400, 40)) // 4)
    assert census() == before
    assert grown(memory, census.memory(), 6 << 10) == {}


def test_pools_leave_nothing(fork, times, census):
    def run(n):
        for _ in range(n):
            with fork.Pool(2) as pool:
                assert pool.map(abs, range(-3, 3)) == [3, 2, 1, 0, 1, 2]

    run(3)
    before, memory = census(), census.memory()
    run(times(200, 15))
    assert census() == before
    assert grown(memory, census.memory(), 6 << 10) == {}


def test_objects_of_each_kind_leave_nothing(fork, manager, times, census):
    def run(n):
        for _ in range(n):
            for make in KINDS.values():
                make(fork, manager)

    run(5)
    before, memory = census(), census.memory()
    run(times(5000, 500) // len(KINDS))
    after = census()
    blocks = after.pop("files: block", 0) - before.pop("files: block", 0)
    assert abs(blocks) <= 1  # an arena, begun in another place
    for found in before, after:
        for what in ("keys: objects", "elements"):
            found.pop(what)
    assert after == before
    assert grown(memory, census.memory(), 6 << 10) == {}


def test_threads_leave_no_parties_and_no_connections(fork, manager, times, census):
    lock, queue, condition, names = fork.Lock(), fork.JoinableQueue(), fork.Condition(), manager.dict()
    ours, theirs = fork.Pipe()

    def work():
        with lock, condition:
            queue.put(1)
            queue.get()
            queue.task_done()
            condition.notify()
            names["x"] = 1
            ours.send(1)
            theirs.recv()

    def run(n):
        for _ in range(n):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    run(5)
    before = census()
    run(times(10_000, 300))
    assert census() == before


def test_handles_in_messages_nobody_will_read_go_with_them(fork, census):
    queue = fork.Queue(1)
    queue.put("in")
    census()
    before = census()
    for _ in range(20):
        with pytest.raises(cloudpool.queues.Full):
            queue.put_nowait(fork.Event())
    inner = fork.Queue()
    inner.put([fork.Event(), b"x" * 100_000])
    middle, closed = fork.Queue(), fork.Pipe()
    middle.put(inner)
    closed[0].send(middle)
    del inner, middle
    assert census()["keys: items"] > before["keys: items"]
    reader = closed[1].recv().get()  # three deep, and good
    assert len(reader.get()[1]) == 100_000
    reader.put([fork.Event(), b"x" * 100_000])
    closed[0].send(reader)
    del reader
    for end in closed:
        end.close()
    del closed
    assert census() == before


def test_undone_items_of_a_queue_that_goes_leave_no_file(fork, census):
    before = census()
    queue = fork.JoinableQueue()
    for _ in range(2):
        queue.put(b"x" * 100_000)
    queue.get()
    del queue
    assert census() == before


IDLE = """
import os, sys, time
import cloudpool
from cloudpool.host import session as sessions

lock, full, queue, joinable = cloudpool.Lock(), cloudpool.Semaphore(0), cloudpool.Queue(), cloudpool.JoinableQueue()
held, event, unset, barrier = cloudpool.RLock(), cloudpool.Event(), cloudpool.Event(), cloudpool.Barrier(1)
condition, (ours, theirs), value = cloudpool.Condition(), cloudpool.Pipe(), cloudpool.Value("i", 7)
memory, manager = cloudpool.shared_memory.SharedMemory(create=True, size=10_000), cloudpool.Manager()
shared, listed, names, array = manager.dict(a=1), manager.list([1]), manager.Namespace(x=1), manager.Array("i", [1])
emptied, inner = manager.list([1]), cloudpool.Queue()
inner.put("deep")
held.acquire()
with lock:
    queue.put("large" * 100_000)
    queue.put(inner)
    joinable.put("undone")
    joinable.get()
event.set()
barrier.wait()
with condition:
    condition.wait(0.01)
ours.send("sent")
full.release()
full.acquire()
full.release()  # a list that became empty, and came back
emptied.pop()
del inner
pool = cloudpool.Pool(2)
pool.map(abs, [1, 2])
late = pool.apply_async(len, ("x" * 100_000,))

time.sleep(float(sys.argv[1]))

assert lock.acquire(False) and held.acquire(False) and full.acquire(False) and not full.acquire(False)
assert event.is_set() and not unset.is_set() and barrier.wait() == 0 and not barrier.broken
assert len(queue.get(timeout=5)) == 500_000 and queue.get(timeout=5).get(timeout=5) == "deep"
joinable.task_done()
joinable.join()
with condition:
    assert not condition.wait(0.01)
assert theirs.recv() == "sent" and value.value == 7 and value.acquire(False)
assert (shared["a"], listed[0], names.x, array[0], len(emptied)) == (1, 1, 1, 1, 0)
emptied.append(2)
assert late.get(5) == 100_000 and pool.map(abs, [-1]) == [1]
memory.unlink()
session = sessions.current()
assert session.channel().call("EXISTS", session.keys.objects, session.keys.live, session.keys.hosts) == 3
print("all there")
"""


def test_idle_objects_outlive_their_keys_expiry(tcp_server, tmp_path):
    """The expiry is a constant: the program runs a copy of the package in which it is short."""
    package = tmp_path / "copy"
    shutil.copytree(Path(cloudpool.__file__).parent, package / "cloudpool")
    keys = package / "cloudpool/store/keys.py"
    text = keys.read_text()
    assert "SHARED_TTL_MS = 600_000" in text
    keys.write_text(text.replace("SHARED_TTL_MS = 600_000", "SHARED_TTL_MS = 2_000"))
    program = subprocess.run(
        [sys.executable, "-c", IDLE, "7"], capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(package), "CLOUDPOOL_REDIS_URL": tcp_server.url},
    )  # fmt: skip
    assert program.stdout == "all there\n", program.stderr
    with closing(tcp_server.connect()) as store:
        assert store.call("DBSIZE") == 0


@pytest.mark.parametrize("kind", ["pipe", "bounded queue"])
def test_what_a_server_without_memory_refuses_leaves_no_file(kind, proxy, tcp_server):
    ctx = cloudpool.get_context("fork")
    queue, (reader, writer) = ctx.Queue(5), ctx.Pipe(False)
    put, get = (writer.send, reader.recv) if kind == "pipe" else (queue.put, queue.get)
    put(0)
    assert get() == 0
    with closing(tcp_server.connect()) as store:
        store.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(ServerOutOfMemory):
            put(bytes(10**6))
        assert list(Path(sessions.current().info.folder).glob("blob.*")) == []
        store.call("CONFIG", "SET", "maxmemory", "0")
    put(1)
    assert get() == 1
