"""What runs in the middle of something else: signal handlers, short timeouts, threads that have ended, dropped objects."""

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Empty

import pytest
from needed import needed

import cloudpool
from cloudpool.connection import wait
from cloudpool.host import session as sessions
from cloudpool.store.wire import ReplyError

LINE = ("/sync/queue.py", "/sync/puts.py", "/store/channel.py", "/store/wire.py")
FORK = ("/host/session.py", "/host/membership.py", "/host/holdings.py", "/store/lookout.py")
# Not where these begin: there is a hook before them for handlers of signals that have come before.
HOOKS = [
    hook.__code__ for hook in (sessions._before_fork, sessions._after_in_parent, sessions._after_in_child)
]
STRIDE = 29  # of the second points that are tried with a first one; with the next one they are others


@pytest.fixture
def alarm():
    """Have a handler called after a time, in the main thread, in the middle of whatever that does."""

    def set_alarm(seconds, handler):
        signal.signal(signal.SIGALRM, lambda *_: handler())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_handler_may_use_a_primitive_while_its_thread_waits_in_another(ctx, alarm):
    stop, queue = ctx.Event(), ctx.Queue()
    alarm(0.1, stop.set)
    with pytest.raises(Empty):
        queue.get(timeout=0.5)
    assert stop.is_set()
    queue.put("next")
    assert queue.get(timeout=5) == "next"


def test_handler_may_put_what_its_thread_waits_for(ctx, alarm):
    queue = ctx.Queue()
    alarm(0.1, lambda: queue.put("from the handler"))
    assert queue.get(timeout=10) == "from the handler"


@pytest.mark.parametrize(
    "wait_in",
    [
        lambda ctx: ctx.Queue().get(),
        lambda ctx: [end.recv() for end in ctx.Pipe()],
        lambda ctx: ctx.Event().wait(),
        lambda ctx: ctx.Barrier(2).wait(),
        lambda ctx: [lock.acquire() for lock in [ctx.Lock()] * 2],
        lambda ctx: wait([ctx.Queue()._reader]),
    ],
    ids=["get", "recv", "Event", "Barrier", "acquire", "wait"],
)
@pytest.mark.parametrize("once", [False, True])
def test_a_handler_may_raise_what_a_cut_connection_raises(ctx, alarm, wait_in, once):
    def interrupt():
        if once:  # then it is nobody's handler when it is looked for
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        raise TimeoutError("by the handler")

    for _ in range(3):
        alarm(0.05, interrupt)
        with pytest.raises(TimeoutError, match="by the handler"):
            wait_in(ctx)


def test_the_shortest_timeout_gets_what_is_there(ctx):
    lock, queue = ctx.Lock(), ctx.Queue()
    assert lock.acquire(timeout=1e-6)
    queue.put("here")
    assert queue.get(timeout=1e-6) == "here"


def test_what_an_ended_thread_has_put_arrives(ctx):
    queue = ctx.Queue()
    producer = threading.Thread(target=lambda: [queue.put(i) for i in range(200)])
    producer.start()
    producer.join()
    other = threading.Thread(target=ctx.Event)  # a thread's first use closes what ended threads have left
    other.start()
    other.join()
    assert [queue.get(timeout=10) for _ in range(200)] == list(range(200))


def test_dropped_pipes_that_were_waited_on_leave_no_descriptor(ctx):
    wait([ctx.Pipe()[0]], 0.001)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        ours, theirs = ctx.Pipe()
        wait([ours], 0.001)
        del ours, theirs
    assert len(os.listdir("/proc/self/fd")) == before


def get_and_die(queue):
    queue.get()
    os.kill(os.getpid(), signal.SIGKILL)


def killed_consumer(ctx, queue):
    consumer = ctx.Process(target=get_and_die, args=(queue,))
    consumer.start()
    consumer.join()


def test_large_item_of_a_killed_consumer_comes_back_whole(ctx):
    queue = ctx.JoinableQueue()
    queue.put(b"x" * 200_000)
    killed_consumer(ctx, queue)
    assert queue.get(timeout=10) == b"x" * 200_000
    queue.task_done()
    queue.join()


def test_queue_in_an_item_of_a_killed_consumer_comes_back_with_what_is_in_it(ctx):
    outer, inner = ctx.JoinableQueue(), ctx.Queue()
    inner.put("still here")
    outer.put(inner)
    del inner
    killed_consumer(ctx, outer)
    assert outer.get(timeout=10).get(timeout=10) == "still here"


def get_and_drop(queue, done):
    queue.get()
    done.set()


def test_object_that_its_receiver_has_dropped_is_still_its_senders(ctx):
    queue, done = ctx.Queue(), ctx.Event()
    child = ctx.Process(target=get_and_drop, args=(queue, done))
    child.start()
    lock = ctx.Lock()
    queue.put(lock)
    assert done.wait(20)
    child.join()
    assert lock.acquire(timeout=10)


def test_two_large_buffers_beside_what_only_cloudpickle_takes_keep_their_places(ctx):
    numpy = needed("numpy")
    queue = ctx.Queue()
    queue.put((numpy.zeros(50_000), lambda: "by value", numpy.ones(50_000)))
    zeros, function, ones = queue.get(timeout=10)
    assert (zeros.sum(), function(), ones.sum()) == (0.0, "by value", 50_000.0)


def test_answer_that_a_handlers_exception_kept_from_being_read_is_not_taken_for_the_next(ctx, alarm):
    session = sessions.current()
    end, _other = ctx.Pipe()
    agent = int.from_bytes(session._agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)

    def interrupt():
        raise KeyboardInterrupt

    os.kill(agent, signal.SIGSTOP)
    try:
        alarm(0.1, interrupt)
        with pytest.raises(KeyboardInterrupt):
            end.close()
    finally:
        os.kill(agent, signal.SIGCONT)
    assert session._ask("moved", "")[0] == "here"


def test_question_of_a_handler_within_a_question_has_its_own_answer(ctx, alarm):
    session, answers = sessions.current(), []
    ctx.Lock()
    agent = int.from_bytes(session._agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)

    def ask():
        os.kill(agent, signal.SIGCONT)
        answers.append(session._ask("settle"))

    os.kill(agent, signal.SIGSTOP)
    try:
        alarm(0.1, ask)
        answers.append(session._ask("moved", ""))
    finally:
        os.kill(agent, signal.SIGCONT)
    assert [answer[0] for answer in answers] == ["settled", "here"]


def wait_and_square(event, x):
    event.wait(30)
    return x * x


def test_calls_of_a_pool_are_right_after_others_that_were_interrupted(ctx, alarm):
    """The results of those come all the same, to the thread that waits for others by then."""

    def interrupt():
        raise InterruptedError("by the handler")

    with ctx.Pool(2) as pool:
        assert pool.apply(pow, (2, 3)) == 8
        for n in range(5):
            go_on = ctx.Event()
            alarm(0.05, interrupt)
            with pytest.raises(InterruptedError):
                if n % 2:
                    pool.apply(wait_and_square, (go_on, n))
                else:
                    pool.starmap(wait_and_square, [(go_on, n)] * 3, chunksize=1)
            go_on.set()
            assert [pool.apply(pow, (n, k)) for k in range(20)] == [n**k for k in range(20)]
            assert pool.map(abs, range(-9, 0)) == list(range(9, 0, -1))
    pool.join()


def test_handler_may_use_the_pool_that_its_thread_waits_for(ctx, alarm):
    go_on, found = ctx.Event(), []

    def work_too():
        found.append(pool.apply(pow, (3, 2)))
        found.extend(pool.map(abs, [-1, -2]))
        go_on.set()

    with ctx.Pool(2) as pool:
        alarm(0.3, work_too)
        assert pool.apply(wait_and_square, (go_on, 5)) == 25
        assert found == [9, 1, 2]
    pool.join()


def in_a_thread(call):
    """What it returned or raised, and the channel that the thread had."""
    found = []

    def run():
        try:
            found.append(call())
        except ReplyError as error:
            found.append(error)
        found.append(sessions.current().channel())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def test_what_the_server_refused_an_ended_thread_is_said_to_the_next_and_no_line_is_lost(ctx):
    session, queue = sessions.current(), ctx.Queue()
    session.channel().call("HSET", queue._items._base + "state", "word", "x")
    for channel in session.channels():
        channel.settle()
    both = threading.Barrier(2)  # so each has a line of its own
    threads = [
        threading.Thread(target=lambda post=post: (session.channel(), both.wait(), post()))
        for post in (
            lambda: session.channel().post("HINCRBY", queue._items._base + "state", "word", 1),
            lambda: queue.put("arrives"),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = set(session.channels())
    refused, _ = in_a_thread(session.channel)
    assert "not an integer" in str(refused)
    assert set(session.channels()) == lines
    assert in_a_thread(ctx.Lock)[1] in lines
    assert queue.get(timeout=10) == "arrives"


class Interruption(TimeoutError):
    """As a cut connection raises."""


def interrupt(_signal, frame):
    raise Interruption(f"in {frame.f_code.co_qualname}, line {frame.f_lineno}")


def interrupt_at(number, files, handler=interrupt):
    """Have the handler called at that point, of those at which one may be in these files. Their number, in a list."""
    passed = [0]

    def at_point(frame, event, _argument):
        is_point = event == "c_return" or (event == "call" and frame.f_code not in HOOKS)
        if is_point and frame.f_code.co_filename.endswith(files):
            passed[0] += 1
            if passed[0] == number:
                handler(signal.SIGUSR1, frame)  # raising takes `at_point` off, too

    sys.setprofile(at_point)
    return passed


@pytest.fixture
def handler():
    signal.signal(signal.SIGUSR1, interrupt)
    yield
    sys.setprofile(None)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def drained(queue):
    items = []
    with contextlib.suppress(Empty):
        while True:
            items.append(queue.get_nowait())
    return items


# A socket that is being opened when a handler raises is closed with its last reference, and says so.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_line_is_in_step_whatever_two_points_it_is_interrupted_at(server, handler, monkeypatch):
    """The second while the first is dealt with. What was put is there once, and each answer is that of its own question."""
    session, queue = sessions.current(), cloudpool.Queue()
    queue.put("first")
    queue.get()
    channel, interrupted = session.channel(), type(session.channel())._interrupted
    first, second, seconds, next_item = 1, 0, [0], 0

    def deal_with(self, look, undo):
        nonlocal seconds
        if second:
            seconds = interrupt_at(second, LINE)
        return interrupted(self, look, undo)

    monkeypatch.setattr(type(channel), "_interrupted", deal_with)
    while True:
        seconds, put = [0], []
        next_item += 3
        points = interrupt_at(first, LINE)
        try:
            for n in range(next_item, next_item + 3):
                queue.put(n)
                put.append(n)
            assert channel.call("ECHO", first) == str(first).encode()
        except Interruption as raised:
            where = str(raised)
        else:
            where = ""
        sys.setprofile(None)
        assert channel.call("ECHO", "own") == b"own", where
        got = drained(queue)
        assert got == [*range(next_item, next_item + 3)][: len(got)], where
        assert len(got) >= len(put), where
        if seconds[0] >= second > 0:
            second += STRIDE
        elif points[0] < first:
            break
        else:
            first, second = first + 1, 1 + first % STRIDE
    assert first > 20


def test_a_put_in_the_middle_of_another_takes_nothing_from_it(server, handler):
    """By a signal's handler, or the end of an object that is collected; which asks how many there are, too."""
    queue, point, within = cloudpool.Queue(), 0, []

    def put_within(_signal, _frame):
        sys.setprofile(None)
        queue.put(f"within {point}")
        within.append(queue.qsize())

    while True:
        point += 1
        points = interrupt_at(point, LINE, put_within)
        for n in range(3):
            queue.put(n)
        sys.setprofile(None)
        items = [queue.get(timeout=10) for _ in range(queue.qsize())]
        assert [item for item in items if isinstance(item, int)] == [0, 1, 2], point
        if points[0] < point:
            break
        assert items.count(f"within {point}") == 1
        assert len(items) == 4
    assert len(within) > 20


def is_free(lock):
    is_taken = lock.acquire(timeout=5)
    if is_taken:
        lock.release()
    return is_taken


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # that is how Python tells it
def test_a_fork_whose_hooks_are_interrupted_behind_their_beginning_leaves_nothing_locked(server, handler):
    queue, point = cloudpool.Queue(), 0
    while True:
        point += 1
        points = interrupt_at(point, FORK)
        if (child := os.fork()) == 0:
            os._exit(0)
        sys.setprofile(None)
        os.waitpid(child, 0)
        with ThreadPoolExecutor(1) as another:
            assert all(another.map(is_free, (sessions._starting, sessions.current()._lock)))
            queue.put(point)
            assert another.submit(queue.get).result() == point
        if points[0] < point:
            break
    assert point > 10
