"""Every primitive's operations arrive at the server: a thin re-export of the stdlib would fail here. And how many do."""

import os
import signal
import sys
import threading

import pytest
from waiting import until

import cloudpool
from cloudpool import managers, shared_memory
from cloudpool.context import hand
from cloudpool.context.calls import FEW
from cloudpool.context.tasks import MOST_AT_ONCE
from cloudpool.host import session as sessions
from cloudpool.host.agent import REAPED
from cloudpool.store import scripts


def ident(thing):
    """The id under which the server knows an object."""
    for name in ("_id", "_items", "_semlock", "_block", "_wrapper", "_obj", "_shm"):
        inner = getattr(thing, name, None)
        if isinstance(inner, str):
            return inner.rpartition("/")[0] or inner
        if inner is not None and (found := ident(inner)):
            return found
    return ""


def with_lock(condition, call):
    with condition:
        call()


def passed(queue):
    queue.put(1)
    queue.get()
    queue.task_done()


# what makes it, and its operations; each must be seen at the server under the object's own name
SEEN = {
    "Lock": (cloudpool.Lock, [lambda x: x.acquire(), lambda x: x.release()]),
    "RLock": (cloudpool.RLock, [lambda x: x.acquire(), lambda x: x.release()]),
    "Semaphore": (
        lambda: cloudpool.Semaphore(2),
        [lambda x: x.acquire(), lambda x: x.release(), lambda x: x.get_value()],
    ),
    "BoundedSemaphore": (
        lambda: cloudpool.BoundedSemaphore(2),
        [lambda x: x.acquire(), lambda x: x.release()],
    ),
    "Condition": (
        cloudpool.Condition,
        [lambda x: with_lock(x, x.notify_all), lambda x: with_lock(x, lambda: x.wait(0.01))],
    ),
    "Event": (
        cloudpool.Event,
        [lambda x: x.set(), lambda x: x.is_set(), lambda x: x.wait(1), lambda x: x.clear()],
    ),
    "Barrier": (
        lambda: cloudpool.Barrier(1),
        [
            lambda x: x.wait(),
            lambda x: x.n_waiting,
            lambda x: x.broken,
            lambda x: x.abort(),
            lambda x: x.reset(),
        ],
    ),
    "Queue": (
        cloudpool.Queue,
        [lambda x: x.put(1), lambda x: x.qsize(), lambda x: x.empty(), lambda x: x.get()],
    ),
    "Queue of a size": (
        lambda: cloudpool.Queue(2),
        [lambda x: x.put(1), lambda x: x.full(), lambda x: x.get()],
    ),
    "SimpleQueue": (
        cloudpool.SimpleQueue,
        [lambda x: x.put(1), lambda x: x.empty(), lambda x: x.get()],
    ),
    "JoinableQueue": (cloudpool.JoinableQueue, [passed, lambda x: x.join()]),
    "dict": (
        lambda: cloudpool.Manager().dict(),
        [lambda x: x.update(a=1), lambda x: x["a"], lambda x: x.pop("a")],
    ),
    "list": (lambda: cloudpool.Manager().list(), [lambda x: x.append(1), lambda x: x[0], lambda x: x.pop()]),
}


@pytest.mark.parametrize("kind", SEEN)
def test_operations_arrive_under_the_objects_name(kind, monitor):
    make, operations = SEEN[kind]
    manager_made = make()
    name = ident(manager_made)
    assert name
    assert any(name in line for line in monitor.skip()), "its creation"
    for number, operate in enumerate(operations):
        operate(manager_made)
        assert any(name in line for line in monitor.skip()), f"operation {number}"


def test_messages_of_a_pipe_arrive(monitor):
    reader, writer = cloudpool.Pipe(False)
    name = reader._pipe
    assert any(name in line for line in monitor.skip())
    for operate in (lambda: writer.send(1), reader.poll, reader.recv, lambda: writer.send_bytes(b"x"),
                    reader.recv_bytes):  # fmt: skip
        operate()
        assert any(name in line for line in monitor.skip())


@pytest.mark.parametrize(
    "make",
    [
        lambda: cloudpool.Value("i"),
        lambda: cloudpool.Array("d", 10_000),
        lambda: cloudpool.RawValue("i"),
        lambda: cloudpool.RawArray("i", 10_000),
        lambda: shared_memory.SharedMemory(create=True, size=10_000),
        lambda: shared_memory.ShareableList([1, "a"]),
    ],
    ids=["Value", "Array", "RawValue", "RawArray", "SharedMemory", "ShareableList"],
)
def test_the_making_of_a_block_arrives(make, monitor):
    monitor.skip()
    made = make()
    assert any(
        '"HSET"' in line and "{session}:objects" in line and "block." in line for line in monitor.skip()
    )
    if hasattr(made, "unlink"):
        made.close()
        made.unlink()
    elif hasattr(made, "shm"):
        made.shm.close()
        made.shm.unlink()


def test_tasks_of_a_pool_arrive(monitor):
    with cloudpool.get_context("fork").Pool(1) as pool:
        monitor.skip()
        assert pool.map(abs, [-1]) == [1]
        assert any("{pool." in line for line in monitor.skip())
    pool.join()


# -- how many ---------------------------------------------------------------------------------------------------------

# An operation that nothing hinders, when its thread has used the object before:
#   commands  what the server gets for it on a server of one's own
#   expiring  what comes on top on a shared server, where keys have an expiry
#   trips     how often the caller waits for an answer
COUNTS = {
    # operation                 commands  expiring  trips
    "Lock.acquire":                  (1, 1, 1),
    "Lock.release":                  (1, 1, 1),
    "RLock.acquire again":           (0, 0, 0),
    "RLock.release but the last":    (0, 0, 0),
    "Semaphore.acquire":             (1, 1, 1),
    "Semaphore.release":             (1, 1, 1),
    "Semaphore.release as a signal": (1, 0, 1),
    "Semaphore.get_value":           (1, 0, 1),
    "Condition.notify":              (1, 0, 1),
    "Event.set":                     (1, 0, 1),
    "Event.is_set":                  (1, 0, 1),
    "Event.wait when set":           (1, 0, 1),
    "Event.clear":                   (1, 0, 1),
    "Barrier.wait of the last":      (1, 0, 1),
    "Queue.put":                     (1, 0, 0),
    "Queue.put, of a size":          (1, 0, 1),
    "Queue.get":                     (2, 1, 1),
    "Queue.empty":                   (1, 0, 1),
    "Connection.send":               (1, 0, 1),
    "Connection.recv":               (2, 1, 1),
    "Connection.poll":               (1, 0, 1),
    "Value.value = 1, no lock":      (0, 0, 0),
    "Value.value += 1 in its lock":  (2, 2, 2),
}  # fmt: skip


# The agent deals with the deaths of earlier tests' processes, and frees what they have dropped, when it comes to it: on a
# unix socket its commands look like anyone's.
AGENTS = (
    *('"EVAL"', '"HDEL"', '"HKEYS"', '"CLIENT"', '"SREM"', '"SCRIPT"'),
    *(scripts.digest(reaping) for reaping in set(REAPED.values())),
)


@pytest.fixture
def counted(server, monitor):
    """counted(call): the commands that the server got for it, those that put off expiries, and the waits for answers."""

    def counted(call):
        channel = sessions.current().channel()
        channel.settle()
        trips, sent = 0, False

        def watch(_frame, event, function):
            nonlocal trips, sent
            if event == "c_call" and getattr(function, "__name__", "") in ("sendall", "recv"):
                trips += function.__name__ == "recv" and sent
                sent = function.__name__ == "sendall"

        address = channel.call("CLIENT", "INFO").decode().split("addr=")[1].split()[0]
        monitor.skip()
        sys.setprofile(watch)
        try:
            call()
        finally:
            sys.setprofile(None)
        channel.settle()
        lines = [line for line in monitor.skip() if server == "embedded" or f" {address}]" in line]
        native = [line for line in lines if " lua]" not in line and not any(word in line for word in AGENTS)]
        expiring = [line for line in native if '"PEXPIRE"' in line]
        return len(native) - len(expiring), len(expiring), trips

    return counted


def add(value):
    with value.get_lock():
        value.value += 1


@pytest.fixture
def operations():
    ctx = cloudpool
    lock, rlock, semaphore, signal = ctx.Lock(), ctx.RLock(), ctx.Semaphore(2), ctx.Semaphore(0)
    condition, event, barrier = ctx.Condition(), ctx.Event(), ctx.Barrier(1)
    queue, bounded, (reader, writer), value = ctx.Queue(), ctx.Queue(9), ctx.Pipe(False), ctx.Value("i")
    rlock.acquire()
    condition.acquire()
    return {
        "Lock.acquire": lock.acquire, "Lock.release": lock.release,
        "RLock.acquire again": rlock.acquire, "RLock.release but the last": rlock.release,
        "Semaphore.acquire": semaphore.acquire, "Semaphore.release": semaphore.release,
        "Semaphore.release as a signal": signal.release, "Semaphore.get_value": semaphore.get_value,
        "Condition.notify": condition.notify,
        "Event.set": event.set, "Event.is_set": event.is_set, "Event.wait when set": event.wait,
        "Event.clear": event.clear, "Barrier.wait of the last": barrier.wait,
        "Queue.put": lambda: queue.put(1), "Queue.put, of a size": lambda: bounded.put(1), "Queue.get": queue.get,
        "Queue.empty": queue.empty,
        "Connection.send": lambda: writer.send(1), "Connection.recv": reader.recv, "Connection.poll": reader.poll,
        "Value.value = 1, no lock": lambda: setattr(value.get_obj(), "value", 1),
        "Value.value += 1 in its lock": lambda: add(value),
    }  # fmt: skip


def test_operations_take_no_more_commands_and_trips_than_the_table_says(server, operations, counted):
    for operate in operations.values():  # once before: scripts are loaded, the thread is known to the object
        operate()
    found = {name: counted(operate) for name, operate in operations.items()}
    on_a_shared_server = server == "tcp"
    expected = {name: (c, e if on_a_shared_server else 0, t) for name, (c, e, t) in COUNTS.items()}
    assert found == expected


def commands_of(pool, monitor, tasks):
    monitor.skip()
    assert pool.map(abs, range(tasks), chunksize=1) == list(range(tasks))
    lines = monitor.skip()
    return sum(1 for line in lines if "{pool." in line and " lua]" not in line and '"PEXPIRE"' not in line)


def test_a_task_is_taken_done_and_collected_in_three_commands_at_most(monitor):
    """Fewer while tasks wait: how many depends on who is faster. Submission is many tasks a command."""
    with cloudpool.get_context("fork").Pool(1) as pool:
        pool.map(abs, range(10), chunksize=1)
        assert commands_of(pool, monitor, 2000) <= 3 * 2000
    pool.join()


def test_short_tasks_are_taken_and_done_many_at_once(monitor):
    with cloudpool.get_context("fork").Pool(1) as pool:
        pool.map(abs, range(10), chunksize=1)
        monitor.skip()
        os.kill(pool._pool[0].pid, signal.SIGSTOP)
        pending = pool.map_async(abs, range(400), chunksize=1)
        until(lambda: pool._inqueue.waiting() >= 399)
        os.kill(pool._pool[0].pid, signal.SIGCONT)
        assert pending.get() == list(range(400))
        done = f'"{scripts.digest("pool_done")}"'
        assert 400 / MOST_AT_ONCE <= sum(1 for line in monitor.skip() if done in line) <= 200
    pool.join()


def test_results_of_a_short_map_wait_for_each_other(monitor, monkeypatch):
    monkeypatch.setattr(hand, "HELD_S", 60.0)
    with cloudpool.get_context("fork").Pool(1) as pool:
        pool.map(abs, range(10), chunksize=1)
        os.kill(pool._pool[0].pid, signal.SIGSTOP)
        caller = threading.Thread(target=pool.map, args=(abs, range(FEW), 1))
        caller.start()
        until(lambda: pool._inqueue.waiting() >= FEW - 1)
        monitor.skip()
        os.kill(pool._pool[0].pid, signal.SIGCONT)
        caller.join()
        assert sum(1 for line in monitor.skip() if '"RPUSH"' in line and ":results" in line) == 1
    pool.join()


def test_tasks_of_a_large_map_go_in_few_commands_and_not_in_one(monitor):
    """Workers begin while the rest is pickled. Fewer when the server is slow to answer: what waits goes together."""
    with cloudpool.get_context("fork").Pool(1) as pool:
        pool.map(len, [b""])
        monitor.skip()
        assert pool.map(len, [bytes(40_000)] * 8, chunksize=1) == [40_000] * 8
        submit = f'"{scripts.digest("pool_submit")}"'
        assert 2 <= sum(1 for line in monitor.skip() if submit in line) <= 4
    pool.join()


def test_managers_dict_takes_one_command_an_operation(counted):
    shared = managers.SyncManager()
    shared.start()
    mapping = shared.dict(a=1)
    mapping["a"] = 1
    assert [counted(lambda: mapping["a"])[0], counted(lambda: mapping.update(a=2))[0]] == [1, 1]
