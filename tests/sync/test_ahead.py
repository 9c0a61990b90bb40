"""The only reader of a queue reads ahead: nobody else can tell, but by the trips that it saves."""

import errno
import gc
import os
import queue as stdlib_queue
import random
import resource
import signal
import threading
from contextlib import suppress
from itertools import pairwise
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
    return os.path.join(sessions.current().info.folder, ahead.file_name(queue._items._id))


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


@pytest.fixture
def signals():
    """signals(handler): have it called again and again in this thread, the next time soon after the last; gives what counts."""
    stop, called, calls, threads = threading.Event(), threading.Event(), [], []
    main, before = threading.main_thread().ident, signal.getsignal(signal.SIGUSR1)

    def send():
        pause = random.Random(7)
        while not stop.is_set():
            called.clear()
            signal.pthread_kill(main, signal.SIGUSR1)
            while not (called.wait(0.1) or stop.is_set()):
                pass
            stop.wait(0.0003 * pause.random())

    def signals(handler):
        def handle(*_):
            calls.append(None)
            try:
                handler()
            finally:
                called.set()  # one after the other, not one within the other

        signal.signal(signal.SIGUSR1, handle)
        threads.append(threading.Thread(target=send))
        threads[0].start()
        return calls

    yield signals
    stop.set()
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGUSR1, before)


def test_handlers_may_get_while_their_thread_gets(ctx, signals):
    total, got = 20 * MANY, []
    queue = put(ctx.Queue(), range(total))
    calls = signals(lambda: got.append(queue.get()) if len(got) < total - SOME else None)
    while len(got) < total - SOME:
        got.append(queue.get())
    assert len(calls) > SOME
    while len(got) < total:
        got.append(queue.get())
    assert sorted(got) == list(range(total))
    assert queue.empty()


@pytest.mark.parametrize(
    "use", [lambda queue: queue.qsize(), lambda queue: connection.wait([queue._reader], 0)]
)
def test_handlers_may_look_while_their_thread_gets(ctx, signals, use):
    queue = put(ctx.Queue(), range(5 * MANY))
    calls = signals(lambda: use(queue))
    assert get(queue, 5 * MANY) == list(range(5 * MANY))
    assert calls


class Interrupt(BaseException):
    pass


def interrupt():
    raise Interrupt


def test_interrupted_gets_lose_nothing_but_what_they_had_got(ctx, signals):
    total, got, armed = 40 * MANY, [], []
    queue = put(ctx.Queue(), range(total))

    def handler():
        if armed:
            armed.clear()
            interrupt()

    signals(handler)
    for _ in range(MANY):
        with suppress(Interrupt):
            armed.append(None)
            while True:
                item = queue.get()
                got.append(item)
    with suppress(stdlib_queue.Empty):
        while True:
            got.append(queue.get_nowait())
    assert len(got) == len(set(got)) >= total - MANY
    assert got == sorted(got)
    assert queue.empty()


def during(monkeypatch, script, do, *, before=False):
    """Have `do` called the next time that this process runs that script, when the server has run it, or before."""
    real, left = Channel.script, [do]

    def patched(channel, name, *arguments, **options):
        if name != script or not left:
            return real(channel, name, *arguments, **options)
        if before:
            left.pop()()
        answer = real(channel, name, *arguments, **options)
        if not before:
            left.pop()()
        return answer

    monkeypatch.setattr(Channel, "script", patched)


@pytest.mark.parametrize("before", [False, True])
def test_a_handler_that_gets_while_its_thread_is_given_a_batch_gets_the_first_of_it(ctx, monkeypatch, before):
    queue, got = put(ctx.Queue(), range(MANY)), []
    assert get(queue, 2) == [0, 1]
    during(monkeypatch, "queue_ahead", lambda: got.extend(get(queue, 3)), before=before)
    assert queue.get() == 5
    assert got == [2, 3, 4]
    assert get(queue, MANY - 6) == list(range(6, MANY))
    assert queue.empty()


@pytest.mark.parametrize("before", [False, True])
def test_another_thread_that_comes_while_one_is_given_a_batch_gets_what_is_next(ctx, monkeypatch, before):
    queue, got = put(ctx.Queue(), range(MANY)), []
    assert get(queue, 2) == [0, 1]

    def another():
        thread = threading.Thread(target=lambda: got.extend(get(queue, 3)))
        thread.start()
        thread.join()

    during(monkeypatch, "queue_ahead", another, before=before)
    assert queue.get() == 5
    assert got == [2, 3, 4]
    assert get(queue, MANY - 6) == list(range(6, MANY))
    assert queue.empty()


@pytest.fixture
def record(server, tmp_path):
    """One that has three items, by itself: nothing of it is in the server."""
    sessions.current()
    record = Record(str(tmp_path / "queue.1.ahead"), "1.1/1")
    assert record.take(lambda number: [b"a", b"b", b"c"] if number == 1 else None)
    return record


def recalled(tmp_path):
    """What who recalls it tells the server."""
    told = []
    ahead.recall(str(tmp_path / "queue.1.ahead"), told.append)
    return told


def test_an_item_is_who_claims_it(record, tmp_path):
    asked = []

    def ask(left):
        asked.append(left)
        return 2

    assert record.get(bytes, len, ask) == (b"a",)
    assert recalled(tmp_path) == [("1.1/1", 1, 1)]
    assert record.get(bytes, len, ask) == (b"b",)
    assert record.get(bytes, len, ask) is None
    assert asked == [("1.1/1", 1, 1)]  # once: then it is known
    assert ahead.left_by(str(tmp_path / "queue.1.ahead"), "1.1") == (1, "11" + 62 * "0")
    assert ahead.left_by(str(tmp_path / "queue.1.ahead"), "1.11") is None


def test_an_item_whose_reader_was_interrupted_as_it_asked_is_its_still(record, tmp_path):
    assert recalled(tmp_path) == [("1.1/1", 1, 0)]
    nested = []

    def ask(_left):
        nested.append(record.get(bytes, len, lambda _: 2))  # a handler's, of the next one
        raise Interrupt

    with pytest.raises(Interrupt):
        record.get(bytes, len, ask)
    assert nested == [(b"b",)]
    assert record.left == 1
    assert record.get(bytes, len, interrupt) == (b"a",)
    assert record.get(bytes, len, interrupt) is None
    assert record.left == 0


def test_what_is_left_is_read_when_the_server_has_said_whose_it_is(record, tmp_path):
    assert recalled(tmp_path) == [("1.1/1", 1, 0)]
    record.settle(lambda _: 2)
    record.settle(interrupt)
    assert (record.left, record.is_recalled) == (2, False)
    assert [record.get(bytes, len, interrupt) for _ in range(3)] == [(b"a",), (b"b",), None]


def test_a_fork_that_leaves_a_get_changes_nothing_of_its_parents(record, tmp_path):
    def ask(_left):
        if os.fork() == 0:
            raise Interrupt
        os.wait()
        return 3

    recalled(tmp_path)
    try:
        assert record.get(bytes, len, ask) == (b"a",)
    except Interrupt:
        os._exit(0)
    assert record.get(bytes, len, ask) == (b"b",)


def test_a_record_that_cannot_be_written_leaves_no_file(server, tmp_path, monkeypatch):
    def pwrite(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space"):
        Record(str(tmp_path / "queue.1.ahead"), "1.1/1")
    assert os.listdir(tmp_path) == []


def test_a_recall_that_was_meant_for_an_earlier_reader_harms_no_later_one(queue, store):
    session = sessions.current()
    script = (queue._items._base, ("9.9/9", 1, 0))
    assert session.channel().script("queue_recall", (script[0],), script[1]) == 0
    assert get(queue, MANY - SOME) == list(range(SOME, MANY))


@pytest.mark.parametrize("gets", [1, 3, 12])
def test_handlers_that_get_several_get_them_in_order(ctx, signals, gets):
    """Of its thread and of handlers within: what is got by a later get was put later."""
    total, got, armed = 20 * MANY, [], [None]
    queue = put(ctx.Queue(), range(total))

    def handler():
        for _ in range(gets):
            if armed:
                got.append(queue.get())  # noqa: PERF401 - `armed` may end meanwhile

    calls = signals(handler)
    while len(got) < total - 100:  # those that are under way then are fewer
        item = queue.get()
        got.append(item)
    armed.clear()
    count = len(calls)
    with suppress(stdlib_queue.Empty):
        while True:
            got.append(queue.get_nowait())
    assert sorted(got) == list(range(total))
    assert count > 5
    # One get of the thread's may be under way while a handler gets: it may have what was put before, and is noted later.
    assert sum(later < earlier for earlier, later in pairwise(got)) <= count


def test_a_handler_that_gets_before_its_threads_get_leaves_nothing_behind_it(ctx, monkeypatch):
    """It comes when nothing is ahead, and before one item is asked for."""
    queue, real, left, got = put(ctx.Queue(), range(MANY)), Items._take, [None], []

    def take(items, channel, timeout):
        if left:
            left.pop()
            got.extend(get(queue, 5))
        return real(items, channel, timeout)

    monkeypatch.setattr(Items, "_take", take)
    got.append(queue.get())
    assert got == list(range(6))
    assert queue.qsize() == MANY - 6
    assert get(queue, MANY - 6) == list(range(6, MANY))


def test_its_size_is_right_though_a_handler_gets_meanwhile(ctx, monkeypatch):
    queue, real, left, got = put(ctx.Queue(), range(MANY)), Channel.call, [None], []
    got += get(queue, 2)

    def call(channel, *command, **options):
        if command[0] == "LLEN" and left:
            left.pop()
            got.extend(get(queue, 3))
        return real(channel, *command, **options)

    monkeypatch.setattr(Channel, "call", call)
    assert queue.qsize() in (MANY - 2, MANY - 5)
    assert got == [0, 1, 2, 3, 4]
    assert queue.qsize() == MANY - 5


def test_interrupted_while_it_asks_whose_an_item_is_it_asks_again(queue, monkeypatch):
    thread = threading.Thread(target=queue.qsize)
    thread.start()
    thread.join()
    during(monkeypatch, "queue_recall", interrupt)
    with pytest.raises(Interrupt):
        queue.get()
    assert get(queue, MANY - SOME) == list(range(SOME, MANY))


class Reading:
    """Whose unpickling calls a function of the test's."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return unpickled, (self.number,)


to_do = {}


def unpickled(number):
    return to_do[number]()


def test_what_unpickling_does_with_the_queue_is_as_one_by_one(fork, queue):
    put(queue, [Reading(1), "body", Reading(2), "for another", "last"])
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(get(queue, 1)))

    def let_another_read():
        thread.start()
        thread.join()
        return "ours"

    to_do.update({1: lambda: ("head", queue.get()), 2: let_another_read})
    assert get(queue, MANY - SOME) == list(range(SOME, MANY))
    assert queue.get() == ("head", "body")
    assert queue.get() == "ours"
    assert seen == ["for another"]
    assert queue.get() == "last"
    assert queue.empty()


def test_an_item_whose_unpickling_is_interrupted_is_got(fork, queue):
    put(queue, [Reading(3), "next"])
    to_do[3] = interrupt
    assert get(queue, MANY - SOME) == list(range(SOME, MANY))
    with pytest.raises(Interrupt):
        queue.get()
    assert queue.get() == "next"


def test_its_size_is_right_while_another_has_items_back(queue, monkeypatch):
    real, threads = Channel.call, [threading.Thread(target=queue.empty)]

    def call(channel, *command, **options):
        if command[0] == "LLEN" and threads:
            thread = threads.pop()
            thread.start()
            thread.join()
        return real(channel, *command, **options)

    monkeypatch.setattr(Channel, "call", call)
    assert queue.qsize() == MANY - SOME


def test_where_the_server_has_no_memory_left_it_is_read_by_one_and_by_another(queue, store):
    got = []
    store.call("CONFIG", "SET", "maxmemory", 1)
    try:
        got += get(queue, SOME)
        thread = threading.Thread(target=lambda: got.extend(get(queue, SOME)))
        thread.start()
        thread.join()
        got += get(queue, MANY - 3 * SOME)
    finally:
        store.call("CONFIG", "SET", "maxmemory", 0)
    assert got == list(range(SOME, MANY))


def test_where_there_is_no_descriptor_left_it_is_read_one_by_one(ctx):
    queue, opened = put(ctx.Queue(), range(MANY)), []
    assert queue.get() == 0
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, limits[1]))
    try:
        with suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        assert get(queue, SOME) == list(range(1, SOME + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in opened:
            os.close(fd)
    assert not is_ahead(queue)


def test_sessions_that_end_leave_no_descriptor(server):
    before = 0
    for _ in range(3):
        sessions.leave()
        gc.collect()
        before = before or len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) == before
        queue = put(cloudpool.Queue(), range(MANY))
        get(queue, SOME)
        assert is_ahead(queue)


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
