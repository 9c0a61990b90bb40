"""One connection is cut once, before a chosen byte of what an operation sends or receives: the operation has its effect once.

By default every few bytes are tried, from a random one on; a soak tries them all, one run after the other.
"""

import multiprocessing
import os
import threading
from contextlib import closing
from functools import partial
from queue import Empty

import pytest

import cloudpool
from cloudpool.host import session as sessions
from cloudpool.store.wire import open_url

ctx = cloudpool.get_context("fork")


@pytest.fixture
def each_byte(proxy, seed, capfd, count):
    """each_byte(operate, check, step): operate once for every `step`th byte of either direction, and check each time."""

    def each_byte(operate, check, step=9, port=None, prepare=lambda: None, most=10_000):
        sessions.current().channel().call("PING")  # there is a connection
        total = 0
        for direction in ("request", "reply"):
            for byte in range(seed % step, most, step):
                prepare()
                channel = sessions.current().channel()
                channel.settle()
                armed = channel._connection._sock.getsockname()[1] if port is None else port
                proxy.arm(direction, byte, armed)
                result = operate()
                sessions.current().channel().settle()
                was_cut = not proxy.counts()["armed"]
                proxy.disarm()
                check(result)
                if not was_cut:  # it has no more bytes than that
                    break
                total += 1
        assert total
        count(operations=total)
        assert capfd.readouterr().err == ""

    return each_byte


def length(base, part):
    return sessions.current().channel().call("LLEN", base + part)


def queue_put(maxsize):
    q, n = ctx.Queue(maxsize), iter(range(10_000))

    def check(_):
        assert isinstance(q.get_nowait(), int)
        assert q.empty()

    return lambda: q.put(next(n)), check, lambda: None


def queue_get():
    q, n = ctx.JoinableQueue(), iter(range(10_000))
    last = []

    def prepare():
        last.append(next(n))
        q.put(last[-1])
        q.put("other")

    def check(item):
        assert item == last[-1]
        assert q.get_nowait() == "other"
        assert q.empty()
        q.task_done()
        q.task_done()
        with pytest.raises(ValueError, match="too many"):
            q.task_done()

    return q.get, check, prepare


def queue_get_when_empty():
    q = ctx.Queue()

    def get():
        with pytest.raises(Empty):
            q.get(timeout=0.01)

    return get, lambda _: None, lambda: None


def task_done():
    q, folder = ctx.JoinableQueue(), sessions.current().info.folder

    def prepare():
        for item in (b"large" * 20_000, 2):
            q.put(item)
            assert q.get() == item

    def check(_):
        assert not [name for name in os.listdir(folder) if name.startswith("blob.")]
        q.task_done()
        with pytest.raises(ValueError, match="too many"):
            q.task_done()

    return q.task_done, check, prepare


def acquire(make, timeout):
    lock = make()
    base = lock._semlock._base
    before = length(base, "avail")

    def check(taken):
        assert taken
        assert length(base, "avail") == before - 1
        lock.release()
        assert length(base, "avail") == before

    return lambda: lock.acquire(True, timeout), check, lambda: None


def release(make):
    lock = make()
    base = lock._semlock._base
    before = length(base, "avail")

    def check(_):
        assert length(base, "avail") == before

    return lock.release, check, lock.acquire


def signal():
    semaphore, n = ctx.Semaphore(0), iter(range(1, 10_000))

    def check(_):
        assert semaphore.get_value() == next(n)

    return semaphore.release, check, lambda: None


def event_changes():
    event = ctx.Event()

    def operate():
        event.set()
        assert event.is_set()
        event.clear()
        return event.is_set()

    def check(is_set):
        assert not is_set

    return operate, check, lambda: None


def condition():
    it = ctx.Condition()

    def operate():
        with it:
            it.notify()
            assert not it.wait(0.01)

    def check(_):
        assert it.acquire(False)
        it.release()
        assert length(it._base, "line") == 0

    return operate, check, lambda: None


def barrier():
    it, n = ctx.Barrier(1), iter(range(2, 10_000))

    def check(index):
        assert index == 0
        assert int(sessions.current().channel().call("HGET", it._base + "state", "phase")) == next(n)

    return it.wait, check, lambda: None


def pipe():
    here, there = ctx.Pipe()
    n = iter(range(10_000))

    def operate():
        number = next(n)
        here.send(number)
        here.send(-1)
        return number, there.recv()

    def check(numbers):
        assert numbers[0] == numbers[1]
        assert there.recv() == -1
        assert not there.poll()
        sessions.current().channel().settle()
        assert sessions.current().channel().call("HGET", here._base + "state", "bytes b") == b"0"

    return operate, check, lambda: None


def value_add():
    value, n = ctx.Value("q", 0), iter(range(1, 10_000))

    def add():
        with value.get_lock():
            value.value += 1

    def check(_):
        assert value.value == next(n)

    return add, check, lambda: None


def dict_changes(manager):
    d = manager.dict(a=1)

    def operate():
        d["b"] = 2
        d.update(c=3)
        assert d.setdefault("d", 4) == 4
        assert d.pop("a") == 1
        return d.popitem()

    def check(last):
        assert last == ("d", 4)
        assert list(d.items()) == [("b", 2), ("c", 3)]
        d.clear()
        d["a"] = 1

    return operate, check, lambda: None


def list_changes(manager):
    li = manager.list([1, 2, 3])

    def operate():
        li.append(4)
        li.insert(0, 0)
        li[1] = 10
        del li[2]
        return li.pop(0), li.pop()

    def check(popped):
        assert popped == (0, 4)
        assert li[:] == [10, 3]
        li[:] = [1, 2, 3]

    return operate, check, lambda: None


def other_containers(manager):
    namespace, array, value = manager.Namespace(), manager.Array("i", [0]), manager.Value("i", 0)
    n = iter(range(10_000))

    def operate():
        number = next(n)
        namespace.x, array[0], value.value = number, number, number
        return number

    def check(number):
        assert (namespace.x, array[0], value.value) == (number, number, number)

    return operate, check, lambda: None


def creation():
    def operate():
        with ctx.Manager() as manager:
            d, li = manager.dict(a=1), manager.list([1, 2])
            assert (d.copy(), li[:]) == ({"a": 1}, [1, 2])
        return ctx.Lock(), ctx.Semaphore(2), ctx.Queue(), ctx.Event(), ctx.Barrier(1), ctx.Pipe()

    def check(made):
        lock, semaphore, queue, event, barrier, (here, there) = made
        assert [lock.acquire(False) for _ in range(2)] == [True, False]
        assert [semaphore.acquire(False) for _ in range(3)] == [True, True, False]
        assert queue.empty()
        assert not event.is_set()
        assert barrier.wait() == 0
        here.send(1)
        assert there.recv() == 1

    return operate, check, lambda: None


CASES = {
    "Queue.put": (partial(queue_put, 0), 9),
    "Queue.put to a bounded one": (partial(queue_put, 5), 9),
    "Queue.get": (queue_get, 11),
    "Queue.get when empty": (queue_get_when_empty, 13),
    "JoinableQueue.task_done": (task_done, 11),
    "Lock.acquire": (partial(acquire, ctx.Lock, None), 9),
    "Semaphore.acquire with a timeout": (partial(acquire, partial(ctx.Semaphore, 3), 5), 9),
    "Lock.acquire, not blocking": (partial(acquire, ctx.Lock, 0), 13),
    "Lock.release": (partial(release, ctx.Lock), 9),
    "BoundedSemaphore.release": (partial(release, partial(ctx.BoundedSemaphore, 3)), 13),
    "Semaphore.release as a signal": (signal, 9),
    "Event": (event_changes, 29),
    "Condition": (condition, 61),
    "Barrier.wait": (barrier, 11),
    "Pipe": (pipe, 37),
    "Value": (value_add, 19),
}
MANAGED = {
    "dict": (dict_changes, 61),
    "list": (list_changes, 61),
    "Namespace, Array, Value": (other_containers, 41),
}


@pytest.fixture
def stride(request):
    """In a soak the bytes lie closer, and begin at another one each time."""
    return (lambda step: max(1, step // 8)) if request.config.getoption("soak", 0.0) else (lambda step: step)


@pytest.mark.parametrize("name", CASES)
def test_operation_of_a_primitive(name, each_byte, stride):
    make, step = CASES[name]
    operate, check, prepare = make()
    each_byte(operate, check, stride(step), prepare=prepare)


@pytest.mark.parametrize("name", MANAGED)
def test_operation_of_a_container(name, each_byte, stride):
    make, step = MANAGED[name]
    with ctx.Manager() as manager:
        operate, check, _ = make(manager)
        each_byte(operate, check, stride(step))


def test_making_objects(each_byte, stride):
    operate, check, _ = creation()
    each_byte(operate, check, stride(251))


def test_admission_of_a_thread(each_byte, stride):
    q, n = ctx.Queue(), iter(range(10_000))

    def operate():
        number = next(n)
        thread = threading.Thread(target=q.put, args=(number,))
        thread.start()
        thread.join()
        return number

    def check(number):
        assert q.get(timeout=10) == number
        assert q.empty()

    each_byte(operate, check, stride(401), port=0)


def test_task_of_a_pool(each_byte, stride):
    ran = ctx.Value("q", 0)
    with ctx.Pool(1) as pool:
        assert pool.apply(add_one, (ran,)) == 1
        n = iter(range(2, 10_000))
        each_byte(
            lambda: pool.map(add_one, [ran] * 3, chunksize=1),
            lambda results: results == [next(n) for _ in range(3)] or pytest.fail(str(results)),
            stride(61),
            port=-1,
        )
        pool.close()
        pool.join()


def add_one(value):
    with value.get_lock():
        value.value += 1
        return value.value


def test_life_of_a_pool(each_byte, stride):
    def operate():
        with ctx.Pool(2) as pool:
            results = pool.map(abs, [-1, -2])
            pool.close()
            pool.join()
        return results

    def check(results):
        assert results == [1, 2]

    each_byte(operate, check, stride(701), port=-1, most=3000)


def hold_and_die(lock):
    lock.acquire()
    os._exit(1)


@pytest.mark.filterwarnings("ignore:Process .* died while it held:RuntimeWarning")
def test_death_of_a_process_that_holds_a_lock(each_byte, stride):
    lock = ctx.Lock()

    def operate():
        child = ctx.Process(target=hold_and_die, args=(lock,))
        child.start()
        child.join()
        return lock.acquire(timeout=20)

    def check(taken):
        assert taken
        assert not lock.acquire(False)
        lock.release()

    each_byte(operate, check, stride(83), port=-1, most=1000)


def hold_when_told(lock, here):
    channel = sessions.current().channel()
    channel.call("PING")
    here.send(channel._connection._sock.getsockname()[1])
    here.recv()
    lock.acquire()
    os._exit(1)


@pytest.mark.filterwarnings("ignore:Process .* died while it held:RuntimeWarning")
def test_death_after_the_first_use_of_a_lock_was_cut(proxy, seed, stride, count):
    """That a process may hold it is written down with its first use, in a command whose reply nobody waits for."""
    total = 0
    for direction, step in (("request", stride(23)), ("reply", 3)):
        for byte in range(seed % step, 10_000, step):
            lock, (here, there) = ctx.Lock(), multiprocessing.Pipe()
            child = ctx.Process(target=hold_when_told, args=(lock, there))
            child.start()
            proxy.arm(direction, byte, here.recv())
            here.send("go")
            child.join()
            was_cut = not proxy.counts()["armed"]
            proxy.disarm()
            assert lock.acquire(timeout=20)
            here.close()
            there.close()
            if not was_cut:
                break
            total += 1
    assert total
    count(operations=total)


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_end_of_a_session_leaves_no_key(direction, proxy, tcp_server, capfd):
    for byte in (0, 30, 100, 170):
        q, lock = ctx.Queue(), ctx.Lock()
        q.put(1)
        lock.acquire()
        proxy.arm(direction, byte, -1)
        sessions.leave()
        proxy.disarm()
        del q, lock
        with closing(open_url(tcp_server.url)) as store:
            assert store.call("KEYS", "*") == []
    assert capfd.readouterr().err == ""


def test_start_of_a_session_is_tried_again(proxy, capfd):
    for byte in (0, 10, 40, 100, 300):
        sessions.leave()
        proxy.arm("request", byte)
        assert ctx.Lock().acquire(False)
        proxy.disarm()
    assert capfd.readouterr().err == ""
