"""Queue, JoinableQueue, SimpleQueue: every item arrives once, whatever dies, is interrupted or cut."""

import gc
import multiprocessing.connection
import multiprocessing.synchronize
import os
import queue as stdlib_queue
import signal
import threading
import time

import numpy as np
import pytest

from cloudpool import queues
from cloudpool.errors import ServerOutOfMemory, SessionLostError
from cloudpool.host import session as sessions

KINDS = ["Queue", "JoinableQueue", "SimpleQueue"]


@pytest.fixture(params=KINDS)
def queue(request, ctx):
    return getattr(ctx, request.param)()


def put(queue, items):
    for item in items:
        queue.put(item)


def echo(questions, answers):
    while (item := questions.get()) is not None:
        answers.put(item)


def get_and_wait(queue, said, *end):
    said.send(queue.get())
    for connection in end:
        connection.recv()


# -- what it does -----------------------------------------------------------------------------------------------------


def test_items_come_in_the_order_in_which_one_process_put_them(queue, start, finish):
    process = start(put, queue, range(200))
    assert [queue.get() for _ in range(200)] == list(range(200))
    finish(process)
    assert queue.empty()


def test_an_empty_one_times_out_as_the_stdlibs(ctx):
    queue = ctx.Queue()
    began = time.monotonic()
    with pytest.raises(stdlib_queue.Empty):
        queue.get(timeout=0.1)
    assert time.monotonic() - began >= 0.1
    for call in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(True, -1)):
        with pytest.raises(stdlib_queue.Empty):
            call()


def test_a_full_one_refuses_and_has_its_size(ctx):
    queue = ctx.Queue(2)
    queue.put(1)
    assert not queue.full()
    queue.put_nowait(2)
    assert (queue.qsize(), queue.full(), queue.empty()) == (2, True, False)
    began = time.monotonic()
    with pytest.raises(stdlib_queue.Full):
        queue.put(3, timeout=0.1)
    assert time.monotonic() - began >= 0.1
    with pytest.raises(stdlib_queue.Full):
        queue.put_nowait(3)
    assert [queue.get(), queue.get()] == [1, 2]
    queue.put_nowait(4)
    assert queue.get() == 4


def test_a_full_one_blocks_until_there_is_room(ctx, start, finish):
    queue = ctx.Queue(1)
    process = start(put, queue, range(50))
    assert [queue.get() for _ in range(50)] == list(range(50))
    finish(process)


def test_a_closed_one_refuses_with_the_stdlibs_words(ctx):
    for kind, call in (("Queue", "put"), ("Queue", "get"), ("SimpleQueue", "get")):
        errors = []
        for module in (multiprocessing, ctx):
            queue = getattr(module, kind)()
            queue.close()
            with pytest.raises((ValueError, OSError)) as caught:
                getattr(queue, call)(*[1] * (call == "put"))
            errors.append((caught.type, str(caught.value).partition("<")[0]))
        assert errors[0] == errors[1]


def test_join_returns_when_every_item_is_done(ctx, start, finish):
    questions, answers = ctx.JoinableQueue(), ctx.Queue()
    put(questions, range(20))
    processes = [start(do, questions, answers) for _ in range(2)]
    questions.join()
    assert sorted(answers.get() for _ in range(20)) == list(range(20))
    put(questions, [None, None])
    finish(*processes)
    with pytest.raises(ValueError, match="called too many times"):
        for _ in range(3):
            questions.task_done()


def do(questions, answers):
    while (item := questions.get()) is not None:
        answers.put(item)
        questions.task_done()


def test_an_item_that_cannot_be_pickled_is_reported_and_the_next_one_arrives(ctx, capfd):
    queue = ctx.Queue()
    queue.put(threading.Lock())
    queue.put(2)
    assert queue.get(timeout=5) == 2
    assert "cannot pickle '_thread.lock' object" in capfd.readouterr().err
    with pytest.raises(TypeError, match="cannot pickle"):
        ctx.SimpleQueue().put(threading.Lock())


def test_an_item_that_cannot_be_unpickled_is_taken_and_the_next_one_arrives(queue):
    queue.put(Explosive())
    queue.put(2)
    with pytest.raises(RuntimeError, match="bang"):
        queue.get()
    assert queue.get() == 2


class Explosive:
    def __reduce__(self):
        return explode, ()


def explode():
    raise RuntimeError("bang")


@pytest.mark.parametrize("size", [1 << 20, 50 << 20])
def test_large_items_arrive_as_they_are(ctx, start, finish, size):
    questions, answers = ctx.Queue(), ctx.Queue()
    process = start(echo, questions, answers)
    item = os.urandom(1024) * (size // 1024)
    questions.put(item)
    assert answers.get(timeout=30) == item
    questions.put(None)
    finish(process)
    gc.collect()
    assert [name for name in os.listdir(sessions.current().info.folder) if name.startswith("blob.")] == []


@pytest.mark.parametrize("length", [10, 1_000_000])
def test_arrays_arrive_writable(ctx, start, finish, length):
    questions, answers = ctx.Queue(), ctx.Queue()
    process = start(echo, questions, answers)
    questions.put({"a": np.arange(length), "b": np.ones((3, length), order="F")})
    answer = answers.get(timeout=30)
    answer["a"] += 1
    assert (answer["a"] == np.arange(length) + 1).all()
    assert answer["b"].sum() == 3 * length
    questions.put(None)
    finish(process)


def test_items_hold_queues_locks_and_pipes(ctx, start, finish):
    questions, answers, (ours, theirs) = ctx.Queue(), ctx.Queue(), ctx.Pipe()
    process = start(use_what_comes, questions)
    lock = ctx.Lock()
    questions.put({"deep": [answers, {"lock": lock, "pipe": theirs}]})
    assert answers.get(timeout=20) == "by queue"
    assert ours.recv() == "by pipe"
    finish(process)
    assert lock.acquire(False) is False  # taken there


def use_what_comes(questions):
    answers, more = questions.get()["deep"]
    answers.put("by queue")
    more["lock"].acquire()
    more["pipe"].send("by pipe")


def test_what_goes_through_several_handles_of_one_queue_arrives_once(ctx):
    queue = ctx.JoinableQueue()
    queue.put(queue)
    other = queue.get()
    for handle in (other, queue, other):
        handle.put("round")
        assert queue.get(timeout=5) == "round"
    for handle in (other, queue, other, queue):
        handle.task_done()
    queue.join()


def test_threads_of_processes_put_thousands_once_and_each_in_its_order(ctx, start, finish):
    queue = ctx.Queue()
    processes = [start(put_from_threads, queue, number) for number in range(2)]
    got = [queue.get(timeout=30) for _ in range(2 * 3 * 700)]
    finish(*processes)
    assert queue.empty()
    for producer in {item[:2] for item in got}:
        assert [item[2] for item in got if item[:2] == producer] == list(range(700))


def put_from_threads(queue, number):
    threads = [
        threading.Thread(target=put, args=(queue, [(number, thread, n) for n in range(700)]))
        for thread in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_select_and_wait_take_its_reader(ctx):
    queue = ctx.Queue()
    assert multiprocessing.connection.wait([queue._reader], 0) == []
    queue.put(1)
    reader = queue._reader
    assert multiprocessing.connection.wait([reader], 10) == [reader]
    assert queue.get() == 1


# -- deaths -----------------------------------------------------------------------------------------------------------


def test_no_item_goes_to_a_getter_that_was_killed_while_it_waited(queue, ctx, start, monitor, settle):
    said, say = ctx.Pipe(False)
    monitor.skip()
    getter = start(get_and_wait, queue, say)
    monitor.until("BLMOVE", queue._items._id)
    os.kill(getter.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, getter.pid, os.WSTOPPED)
    queue.put("wanted")  # the server gives it to the getter, who never returns it
    queue.empty()  # it is there
    getter.kill()
    assert queue.get() == "wanted"
    assert not said.poll(0)


def test_item_taken_and_not_done_comes_back_to_the_head_when_its_taker_dies(ctx, start):
    queue, (said, say), (forever, _keep) = ctx.JoinableQueue(), ctx.Pipe(False), ctx.Pipe(False)
    put(queue, ["first", "second"])
    taker = start(get_and_wait, queue, say, forever)
    assert said.recv() == "first"
    taker.kill()
    taker.join()
    assert {queue.get(), queue.get(timeout=5)} == {
        "first",
        "second",
    }  # the death may be dealt with between the two
    queue.task_done()
    queue.task_done()
    queue.join()


def test_item_got_is_not_given_again_when_its_getter_dies(ctx, start, settle):
    queue, (said, say), (forever, _keep) = ctx.Queue(), ctx.Pipe(False), ctx.Pipe(False)
    queue.put("once")
    getter = start(get_and_wait, queue, say, forever)
    assert said.recv() == "once"
    getter.kill()
    getter.join()
    settle()
    assert queue.empty()


def test_room_offered_to_a_putter_that_dies_goes_to_the_next(ctx, start, finish, monitor, settle):
    queue = ctx.Queue(1)
    queue.put("in")
    putters = []
    for item in ("dead", "next"):
        monitor.skip()
        putters.append(start(put, queue, [item]))
        monitor.until("BLMOVE", queue._items._id, "room:")
    os.kill(putters[0].pid, signal.SIGSTOP)
    os.waitid(os.P_PID, putters[0].pid, os.WSTOPPED)
    assert queue.get() == "in"
    putters[0].kill()
    assert queue.get(timeout=10) == "next"
    finish(putters[1])


# -- interruptions and cuts -------------------------------------------------------------------------------------------


def test_interrupted_get_has_taken_nothing_and_the_next_answers_are_right(queue, interrupt):
    interrupt(queue.get, "BLMOVE", queue._items._id)
    assert queue.empty()
    queue.put(1)
    queue.put(2)
    assert [queue.get(), queue.get()] == [1, 2]


def test_interrupted_put_to_a_full_one_puts_nothing_and_the_next_ones_arrive(ctx, interrupt):
    queue = ctx.Queue(1)
    queue.put(1)
    interrupt(lambda: queue.put(2), "BLMOVE", queue._items._id, "room:")
    assert queue.get() == 1
    queue.put(3)
    assert queue.get() == 3
    queue.put(4)
    assert queue.get() == 4


@pytest.fixture
def standstill(server, store, monitor):
    """standstill(call): run it while the server stands still; a signal's handler, which lets that go on, raises in it."""
    pid = int(dict(line.split(":", 1) for line in store.call("INFO", "server").decode().split("\r\n") if ":" in line)
              ["process_id"])  # fmt: skip

    def handler(*_):
        os.kill(pid, signal.SIGCONT)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)

    def standstill(call):
        os.kill(pid, signal.SIGSTOP)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            call()

    yield standstill
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.kill(pid, signal.SIGCONT)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("maxsize", [0, 10_000])
def test_put_that_is_interrupted_while_the_server_is_slow_harms_no_other(ctx, standstill, maxsize):
    queue = ctx.Queue(maxsize)
    queue.put("before")
    standstill(lambda: put(queue, [f"{n} " + "x" * 60_000 for n in range(200)]))
    queue.put("after")
    assert queue.get(timeout=10) == "before"
    interrupted = []
    while (item := queue.get(timeout=10)) != "after":
        interrupted.append(int(item.split()[0]))
    assert interrupted == list(range(len(interrupted)))
    assert queue.empty()


def test_items_are_got_once_while_connections_are_cut(ctx, start, finish, store):
    jobs, (said, say) = ctx.Queue(), ctx.Pipe(False)
    processes = [start(put_and_get, jobs, say, number, 80) for number in range(4)]
    got = []
    while len(got) < 4 * 80:
        got.append(said.recv())
        if len(got) % 4 == 0:  # as they get on: cut faster than they connect, and nobody would
            store.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    finish(*processes)
    assert sorted(got) == sorted((number, n) for number in range(4) for n in range(80))
    assert jobs.empty()


def test_bursts_of_puts_are_there_once_and_in_order_while_connections_are_cut(ctx, start, finish, store):
    jobs, count = ctx.Queue(), 3000
    processes = [start(put, jobs, [(number, n) for n in range(count)]) for number in range(3)]
    got = []
    while len(got) < 3 * count:
        got.append(jobs.get())
        if len(got) % 150 == 0:
            store.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    finish(*processes)
    assert jobs.empty()
    for producer in range(3):
        assert [n for number, n in got if number == producer] == [*range(count)]


def put_and_get(jobs, say, number, times):
    for n in range(times):
        jobs.put((number, n))
        say.send(jobs.get())


def test_items_of_a_bounded_one_are_got_once_while_connections_are_cut(ctx, start, finish, store):
    jobs = ctx.JoinableQueue(2)
    processes = [start(put, jobs, [(number, n) for n in range(60)]) for number in range(3)]
    got = []
    for count in range(180):
        got.append(jobs.get(timeout=20))
        jobs.task_done()
        if count % 3 == 0:
            store.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    finish(*processes)
    assert sorted(got) == sorted((number, n) for number in range(3) for n in range(60))
    jobs.join()


def test_what_a_server_without_memory_refuses_is_said_and_the_rest_is_in_order(ctx, store):
    queue = ctx.Queue()
    put(queue, range(5))
    assert queue.qsize() == 5
    try:
        store.call("CONFIG", "SET", "maxmemory", 1)
        put(queue, range(100, 140))
        with pytest.raises(ServerOutOfMemory):
            queue.qsize()
    finally:
        store.call("CONFIG", "SET", "maxmemory", 0)
    put(queue, range(5, 50))
    assert [queue.get(timeout=10) for _ in range(50)] == [*range(50)]
    assert queue.empty()


@pytest.mark.parametrize("maxsize", [0, 10])
def test_put_to_one_that_has_lost_what_was_put_before_is_told(ctx, start, store, maxsize):
    queue, (said, say) = ctx.Queue(maxsize), ctx.Pipe(False)
    told, tell = ctx.Pipe(False)
    start(put_before_and_after, queue, told, say)
    assert said.recv() == "put"
    store.call("DEL", queue._items._base + "seen")
    tell.send("go on")
    assert "lost what was put into this queue before" in said.recv()


def put_before_and_after(queue, told, say):
    queue.put(1)
    queue.qsize()
    say.send("put")
    told.recv()
    try:
        queue.put(2)
        queue.qsize()
    except SessionLostError as lost:
        thread = threading.Thread(target=say.send, args=(str(lost),))  # this one's line says it ever after
        thread.start()
        thread.join()
    os._exit(0)


# -- the stdlib's insides that software uses ----------------------------------------------------------------------------


def test_inner_semaphores_say_what_is_free_and_unfinished(ctx):
    queue = ctx.JoinableQueue(3)
    queue.put(1)
    assert (queue._maxsize, queue._sem._semlock._get_value(), queue._sem._semlock._is_zero()) == (3, 2, False)
    assert (queue._unfinished_tasks.get_value(), queue._unfinished_tasks._semlock._is_zero()) == (1, False)
    queue.get()
    assert queue._sem._semlock._get_value() == 3
    with queue._cond:
        assert not queue._cond.wait(timeout=0.01)
    queue.task_done()
    with queue._cond:
        assert queue._cond.wait(timeout=0.01)
    assert queue._unfinished_tasks._semlock._is_zero()


def test_join_with_a_timeout_hears_the_last_task_done(ctx):
    queue = ctx.JoinableQueue()
    queue.put(1)
    child = ctx.Process(target=finish, args=(queue,))
    child.start()
    assert queue._cond.wait(timeout=60)
    child.join()


def finish(queue):
    queue.get()
    queue.task_done()


def test_nothing_is_left_for_a_feeder_thread(ctx):
    queue = ctx.Queue()
    queue.put(1)
    assert (len(queue._buffer), queue._thread) == (0, None)
    assert queue._maxsize == multiprocessing.synchronize.SEM_VALUE_MAX
    assert queue.get() == 1


def test_large_arrays_arrive_aligned(ctx):
    """Else C code refuses them, and sums have other last digits."""
    queue = ctx.Queue()
    sent = [np.ones(70_001, np.uint8), np.random.default_rng(1).random(20_001), np.ones(99_999, np.float32)]
    queue.put(("x" * 5, sent))
    _, got = queue.get()
    assert [a.ctypes.data % 64 for a in got] == [0, 0, 0]
    assert [a.sum() for a in got] == [a.sum() for a in sent]
    assert memoryview(got[1])[20_000] == sent[1][20_000]


class Extended(queues.Queue):
    """Adds to the stdlib's state, which is a tuple."""

    def __getstate__(self):
        return (*super().__getstate__(), self.extra)

    def __setstate__(self, state):
        super().__setstate__(state[:-1])
        self.extra = state[-1]


def put_extra(queue):
    queue.put(queue.extra)


def test_subclass_extends_the_state(ctx):
    queue = Extended(ctx=ctx)
    queue.extra = "extra"
    process = ctx.Process(target=put_extra, args=(queue,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert queue.get(timeout=30) == "extra"
