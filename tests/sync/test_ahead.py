"""The only reader of a queue reads ahead: nobody else can tell, but by the trips that it saves."""

import gc
import os
import queue as stdlib_queue
import random
import signal
import threading
from multiprocessing.connection import wait as stdlib_wait

import pytest

import cloudpool
from cloudpool import connection
from cloudpool.errors import SessionLostError
from cloudpool.host import ahead, session as sessions
from cloudpool.host.ahead import Record
from cloudpool.store.channel import Channel
from cloudpool.sync import ahead as reading
from cloudpool.sync.queue import Items

pytestmark = pytest.mark.parametrize("server", ["embedded"], indirect=True)
MANY = 200
SOME = 20  # more than are got one by one, fewer than a batch


def record_of(queue):
    return os.path.join(sessions.current().info.folder, ahead.name(queue._items._id))


def put(queue, items):
    for item in items:
        queue.put(item)
    return queue


def get(queue, count):
    return [queue.get() for _ in range(count)]


def is_ahead(queue):
    return os.path.exists(record_of(queue))


@pytest.fixture
def fork(server):
    return cloudpool.get_context("fork")


@pytest.fixture
def queue(ctx):
    """One that this thread reads, with items ahead."""
    queue = put(ctx.Queue(), range(MANY))
    assert get(queue, SOME) == list(range(SOME))
    assert is_ahead(queue)
    return queue


def read_and_wait(queue, count, said, end):
    """What the reader in another process does."""
    said.send(get(queue, count))
    end.recv()


@pytest.fixture
def reader(ctx, start):
    """reader(queue): a process that has read SOME, is ahead and then does nothing; and what ends it in order."""

    def reader(queue):
        (hear, said), (end, ending) = ctx.Pipe(False), ctx.Pipe(False)
        process = start(read_and_wait, queue, SOME, said, end)
        assert hear.recv() == list(range(SOME))
        assert is_ahead(queue)
        return process, ending

    return reader


def get_all(queue, said):
    said.send(get(queue, MANY - SOME))


# -- what it saves ----------------------------------------------------------------------------------------------------


def test_many_items_take_few_commands(ctx, monitor):
    queue = put(ctx.Queue(), range(1000))
    assert not queue.empty()
    monitor.skip()
    assert get(queue, 1000) == list(range(1000))
    assert len([line for line in monitor.skip() if " lua]" not in line]) <= 40
    assert queue.empty()


def test_a_queue_of_two_readers_is_not_read_ahead(ctx, start):
    queue, (hear, said), (end, _ending) = put(ctx.Queue(), range(MANY)), ctx.Pipe(False), ctx.Pipe(False)
    start(read_and_wait, queue, 1, said, end)
    assert hear.recv() == [0]
    assert get(queue, SOME) == list(range(1, SOME + 1))
    assert not is_ahead(queue)


@pytest.mark.parametrize("make", [lambda ctx: ctx.Queue(1000), lambda ctx: ctx.JoinableQueue()])
def test_queues_whose_items_count_elsewhere_are_not_read_ahead(ctx, make):
    queue = put(make(ctx), range(MANY))
    assert get(queue, SOME) == list(range(SOME))
    assert not is_ahead(queue)


def test_a_batch_has_so_many_bytes_at_most(ctx, store, monkeypatch):
    monkeypatch.setattr(reading, "BATCH_BYTES", 1000)
    queue = put(ctx.Queue(), [bytes(400)] * MANY)
    get(queue, SOME)
    assert store.call("LLEN", queue._items._base + "ahead") == 3
    assert queue.qsize() == MANY - SOME


def test_so_many_queues_are_read_ahead_at_most(ctx, monkeypatch):
    monkeypatch.setattr(reading, "MOST_QUEUES", len(Record.open_ones) + 2)
    queues = [put(ctx.Queue(), range(MANY)) for _ in range(4)]
    for queue in queues:
        assert get(queue, MANY) == list(range(MANY))
    assert [is_ahead(queue) for queue in queues] == [True, True, False, False]


# -- nobody else can tell ---------------------------------------------------------------------------------------------


def test_another_reader_gets_what_is_next(queue, start, finish, ctx):
    (hear, said) = ctx.Pipe(False)
    process = start(get_all, queue, said)
    assert hear.recv() == list(range(SOME, MANY))
    finish(process)
    assert queue.empty()


def test_another_thread_gets_what_is_next_and_so_does_the_first_then(queue):
    got = []
    thread = threading.Thread(target=lambda: got.extend(get(queue, 5)))
    thread.start()
    thread.join()
    assert got == list(range(SOME, SOME + 5))
    assert get(queue, MANY - SOME - 5) == list(range(SOME + 5, MANY))
    with pytest.raises(stdlib_queue.Empty):
        queue.get_nowait()


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_its_size_is_what_has_not_been_got(ctx, reader, kind):
    queue = put(getattr(ctx, kind)(), range(MANY))
    reader(queue)
    assert not queue.empty()
    assert len(queue._items) == MANY - SOME


def test_the_reader_sees_its_size_and_stays_ahead(queue):
    assert queue.qsize() == MANY - SOME
    assert not queue.empty()
    assert sessions.current().channel().call("LLEN", queue._items._base + "items") < MANY - SOME
    assert get(queue, MANY - SOME) == list(range(SOME, MANY))
    assert (queue.qsize(), queue.empty()) == (0, True)


@pytest.mark.parametrize("wait", [connection.wait, stdlib_wait])
def test_its_reader_end_is_ready_while_items_are_left(queue, wait):
    for item in range(SOME, MANY):
        assert wait([queue._reader], 10) == [queue._reader]
        assert queue.get() == item
    assert wait([queue._reader], 0) == []


def test_a_waiting_process_hears_of_what_another_has_ahead(ctx, reader):
    queue = put(ctx.Queue(), range(MANY))
    reader(queue)
    assert connection.wait([queue._reader], 10) == [queue._reader]
    assert queue.get_nowait() == SOME


def test_queues_that_are_dropped_leave_no_descriptor(ctx):
    def read():
        queue = put(ctx.Queue(), range(MANY))
        get(queue, SOME)
        assert is_ahead(queue)

    read()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(reading.MOST_QUEUES + 1):
        read()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_handle_that_comes_back_gets_what_is_next(ctx, queue):
    carrier = ctx.Queue()
    carrier.put(queue)
    del queue
    assert get(carrier.get(), MANY - SOME) == list(range(SOME, MANY))


@pytest.mark.parametrize("how", ["killed", "stopped", "ended"])
def test_the_rest_is_there_for_the_next_whatever_becomes_of_the_reader(how, ctx, reader):
    queue = put(ctx.Queue(), range(MANY))
    process, ending = reader(queue)
    if how == "ended":
        ending.send(None)
        process.join()
    else:
        os.kill(process.pid, signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
    if how == "killed":
        process.join()
    assert [queue.get_nowait() for _ in range(MANY - SOME)] == list(range(SOME, MANY))
    assert queue.empty()


def test_the_next_reader_reads_ahead_when_the_first_has_gone(ctx, reader, settle, monitor):
    queue = put(ctx.Queue(), range(MANY))
    process, _ = reader(queue)
    process.kill()
    process.join()
    settle()
    assert not is_ahead(queue)
    monitor.skip()
    assert get(queue, MANY - SOME) == list(range(SOME, MANY))
    assert is_ahead(queue)
    assert len([line for line in monitor.skip() if " lua]" not in line]) <= 20


def test_a_fork_does_not_get_what_its_parent_has_ahead(fork, start, finish):
    queue, (hear, said) = put(fork.Queue(), range(MANY)), fork.Pipe(False)
    assert get(queue, SOME) == list(range(SOME))
    process = start(get_some, queue, said, by=fork)
    assert hear.recv() == list(range(SOME, SOME + 3))
    finish(process)
    assert get(queue, MANY - SOME - 3) == list(range(SOME + 3, MANY))


def get_some(queue, said):
    said.send(get(queue, 3))


def test_handles_in_items_ahead_are_the_next_readers(ctx, reader, start, finish):
    queue = put(ctx.Queue(), range(SOME))
    for n in range(SOME):
        lock = ctx.Lock()
        if n % 2:
            lock.acquire()
        queue.put(lock)
        del lock
    process, _ = reader(queue)
    gc.collect()
    locks = get(queue, SOME)
    assert [lock.acquire(False) for lock in locks] == [n % 2 == 0 for n in range(SOME)]
    process.kill()


def test_large_items_left_ahead_leave_no_file(ctx, reader, settle):
    queue = put(ctx.Queue(), range(SOME))
    put(queue, [bytes(100_000)] * SOME)
    process, ending = reader(queue)
    folder = sessions.current().info.folder
    assert len([name for name in os.listdir(folder) if name.startswith("blob")]) == SOME
    ending.send(None)
    process.join()
    del queue
    gc.collect()
    settle()
    left = [name for name in os.listdir(folder) if name.startswith(("blob", "queue"))]
    assert left == []


def test_a_queue_that_goes_with_items_ahead_leaves_nothing(ctx, settle, store):
    queue = put(ctx.Queue(), [bytes(100_000)] * SOME)
    get(queue, 5)
    assert is_ahead(queue)
    base, folder = queue._items._base, sessions.current().info.folder
    del queue
    gc.collect()
    settle()
    assert store.call("KEYS", base.replace("{", "\\{") + "*") == []
    assert [name for name in os.listdir(folder) if name.startswith(("blob", "queue"))] == []


class Exploding:
    def __reduce__(self):
        return explode, ()


def explode():
    raise ValueError("in unpickling")


def test_an_item_ahead_that_cannot_be_unpickled_is_got_and_the_next_one_comes(ctx):
    queue = put(ctx.Queue(), [*range(SOME), Exploding(), *range(SOME, MANY)])
    assert get(queue, SOME) == list(range(SOME))
    with pytest.raises(ValueError, match="in unpickling"):
        queue.get()
    assert get(queue, MANY - SOME) == list(range(SOME, MANY))
    assert queue.empty()


def test_a_handler_may_get_while_its_thread_gets(ctx):
    queue, got = put(ctx.Queue(), range(3 * MANY)), []
    before = signal.signal(signal.SIGVTALRM, lambda *_: got.append(queue.get()))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0002, 0.0002)
    try:
        while len(got) < 2 * MANY:
            got.append(queue.get())
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    got += get(queue, 3 * MANY - len(got))
    assert sorted(got) == list(range(3 * MANY))


def test_interrupted_gets_lose_nothing_but_what_they_had_got(ctx):
    class Interrupt(BaseException):
        pass

    def interrupt(*_):
        raise Interrupt

    queue, got, interrupts = put(ctx.Queue(), range(10 * MANY)), [], 0
    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    try:
        while True:
            try:
                while True:
                    got.append(queue.get(timeout=0.5))
            except Interrupt:
                interrupts += 1
            except stdlib_queue.Empty:
                break
            if interrupts > MANY:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert got == sorted(set(got))  # none twice, all in order
    assert len(got) >= 10 * MANY - interrupts
    assert queue.empty()


@pytest.mark.parametrize("then", ["get", "qsize", "another"])
def test_interrupted_while_it_is_given_a_batch_it_gets_that_next(ctx, start, monkeypatch, then):
    queue, script = put(ctx.Queue(), range(MANY)), Channel.script
    assert get(queue, 2) == [0, 1]

    def interrupted(channel, name, *arguments, **options):
        answer = script(channel, name, *arguments, **options)
        if name == "queue_ahead":
            raise KeyboardInterrupt  # by a signal's handler, when the server has done it
        return answer

    monkeypatch.setattr(Channel, "script", interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue.get()
    monkeypatch.undo()
    if then == "qsize":
        assert queue.qsize() == MANY - 2
    if then == "another":
        (hear, said) = ctx.Pipe(False)
        start(get_some, queue, said)
        assert hear.recv() == [2, 3, 4]
        assert get(queue, MANY - 5) == list(range(5, MANY))
    else:
        assert get(queue, MANY - 2) == list(range(2, MANY))


def test_interrupted_while_it_has_back_what_another_was_given_it_does_that_again(ctx, reader, monkeypatch):
    queue, script = put(ctx.Queue(), range(MANY)), Channel.script
    reader(queue)

    def interrupted(channel, name, *arguments, **options):
        answer = script(channel, name, *arguments, **options)
        if name == "queue_recall":
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(Channel, "script", interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue.get()
    monkeypatch.undo()
    assert get(queue, MANY - SOME) == list(range(SOME, MANY))
    assert queue.empty()


def test_cut_while_it_is_given_a_batch_it_gets_that_next(ctx, store):
    queue = put(ctx.Queue(), range(5 * MANY))
    stop = threading.Event()

    def cut():
        while not stop.wait(0.003):
            ids = [line.split()[0].partition(b"=")[2] for line in store.call("CLIENT", "LIST").splitlines()]
            store.call("CLIENT", "KILL", "ID", random.choice(ids), "SKIPME", "yes")

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        assert get(queue, 5 * MANY) == list(range(5 * MANY))
    finally:
        stop.set()
        cutting.join()


def test_a_session_that_ends_is_heard_of_behind_what_was_ahead(server):
    items = put(cloudpool.Queue(), range(MANY))
    get(items, SOME)
    assert isinstance(items._items, Items)
    sessions.leave()
    with pytest.raises(SessionLostError):
        get(items, MANY)
