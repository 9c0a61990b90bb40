"""Puts that come one upon the other go together: in order, each once, and before whatever their thread does next."""

import _thread
import os
import select
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from queue import Empty

import pytest
from waiting import until

import cloudpool
from cloudpool.connection import wait
from cloudpool.errors import ServerOutOfMemory
from cloudpool.host import session as sessions
from cloudpool.store import sender
from cloudpool.store.wire import Connection
from cloudpool.sync import puts

MANY = 1000


pytestmark = pytest.mark.parametrize("server", ["embedded"], indirect=True)  # elsewhere nothing is held back


@pytest.fixture
def held(server, monkeypatch):
    """From the second on puts are held back, and nobody comes to send them: it takes an operation, a fork, or the end."""
    monkeypatch.setattr(puts, "BURST_S", 60.0)
    monkeypatch.setattr(sender, "HOLD_S", 60.0)
    sessions.current()
    end_sender()
    yield
    end_sender()


@pytest.fixture
def run(server):
    """run(method, target, *args): a process by that start method; what still runs at the test's end is killed."""
    processes = []

    def run(method, target, *args):
        processes.append(cloudpool.get_context(method).Process(target=target, args=args))
        processes[-1].start()
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.join()


def end_sender():
    """It goes by itself, later. What it holds is sent."""
    sender = sessions.current().sender
    sender.stop()
    sender.go_on()


def senders():
    run = sessions.current().sender._run
    return [] if run is None else [run]


def put(queue, items):
    for item in items:
        queue.put(item)


def get(queue, count):
    return [queue.get(timeout=60) for _ in range(count)]


def waiting(store, queue):
    """How many items the server has, seen without a word of this thread's own."""
    return store.call("LLEN", queue._items._base + "items")


def elsewhere(call, *args):
    """What the call returns in another thread, while this one does nothing."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call(*args)))
    thread.start()
    thread.join()
    return results[0]


# -- what is held back, and when it is sent -------------------------------------------------------------------------------


def test_many_puts_take_few_commands(held, monitor):
    queue = cloudpool.Queue()
    queue.put(0)
    assert queue.get() == 0
    monitor.skip()
    put(queue, range(MANY))
    assert queue.qsize() == MANY
    commands = [line for line in monitor.skip() if "EVALSHA" in line]
    assert len(commands) <= MANY / puts.MOST_HELD + 8
    assert get(queue, MANY) == list(range(MANY))


def test_puts_that_come_alone_are_sent_at_once(server, store, monkeypatch):
    monkeypatch.setattr(puts, "BURST_S", -1.0)
    queue = cloudpool.Queue()
    put(queue, range(3))
    until(lambda: waiting(store, queue) == 3)


def test_large_messages_are_not_held_back(held, store):
    queue = cloudpool.Queue()
    put(queue, [1, 2, "x" * (puts.SMALL_BYTES + 1)])
    until(lambda: waiting(store, queue) == 3)


def thing(make, use):
    """Made beforehand; then to be used."""
    made = make()
    return lambda: use(made)


def started(method):
    process = cloudpool.get_context(method).Process(target=int)
    process.start()
    process.join()


def ahead():
    queue = cloudpool.Queue()
    put(queue, range(20))
    get(queue, 10)
    return queue


def nothing(queue):
    with pytest.raises(Empty):
        queue.get_nowait()


def readable(queue):
    assert select.select([queue._reader], [], [], 60)[0]


OPERATIONS = {
    "qsize": lambda: cloudpool.Queue().qsize,
    "get": lambda: thing(cloudpool.Queue, nothing),
    "get of what is ahead": lambda: thing(ahead, lambda q: q.get()),
    "put into another": lambda: thing(cloudpool.Queue, lambda q: q.put(1)),
    "put into one with a bound": lambda: thing(lambda: cloudpool.Queue(3), lambda q: q.put(1)),
    "put of a manager's": lambda: thing(cloudpool.Manager().Queue, lambda q: q.put(1)),
    "send": lambda: thing(cloudpool.Pipe, lambda ends: ends[0].send(1)),
    "acquire": lambda: cloudpool.Lock().acquire,
    "set": lambda: cloudpool.Event().set,
    "dict": lambda: thing(cloudpool.Manager().dict, lambda d: d.update(a=1)),
    "Queue": lambda: cloudpool.Queue,
    "fork": lambda: lambda: started("fork"),
    "os.fork": lambda: forked,
    "spawn": lambda: lambda: started("spawn"),
    "forkserver": lambda: lambda: started("forkserver"),
}


def forked():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a pool's threads are there at a fork
def test_what_was_put_is_there_when_the_next_operation_is_through(held, store, kind):
    queue, operate = cloudpool.Queue(), OPERATIONS[kind]()
    put(queue, range(5))
    assert waiting(store, queue) == 1
    operate()
    assert waiting(store, queue) == 5


POOL_CALLS = {
    "apply": lambda pool: pool.apply(int),
    "map": lambda pool: pool.map(int, "12"),
    "imap": lambda pool: next(pool.imap(int, "1")),
}


@pytest.mark.parametrize("kind", POOL_CALLS)
def test_what_was_put_before_a_pools_call_is_there_for_its_tasks(held, store, kind):
    with cloudpool.get_context("fork").Pool(1) as pool:
        queue = cloudpool.Queue()
        put(queue, range(5))
        assert waiting(store, queue) == 1
        POOL_CALLS[kind](pool)
        assert waiting(store, queue) == 5


@pytest.mark.parametrize("look", [lambda q: wait([q._reader], 60), readable], ids=["wait", "select"])
def test_who_waits_for_what_it_has_put_itself_waits_in_vain_no_more(held, look):
    queue = cloudpool.Queue()
    queue.put(0)
    put(queue, [1, 2])
    assert queue.get() == 0
    put(queue, [3, 4])
    look(queue)
    assert get(queue, 4) == [1, 2, 3, 4]


def test_a_worker_has_sent_what_its_task_has_put_before_its_result(held, store):
    queue = cloudpool.Queue()
    context = cloudpool.get_context("fork")
    with context.Pool(1, initializer=remember, initargs=(queue,)) as pool:
        for count in range(1, 6):
            assert pool.apply(put_five) == 5
            assert waiting(store, queue) == 5 * count


def remember(queue):
    global remembered
    remembered = queue


def put_five():
    put(remembered, range(5))
    return 5


def test_queues_by_turns_are_in_step(ctx, start, finish):
    first, second = ctx.Queue(), ctx.Queue()
    process = start(put_by_turns, first, second, MANY)
    for n in range(MANY):
        assert second.get(timeout=60) == n
        assert first.get_nowait() == n
    finish(process)


def put_by_turns(first, second, count):
    for n in range(count):
        first.put(n)
        second.put(n)


# -- a thread that does nothing more ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 31, 32, 33, 100])
def test_puts_of_a_thread_that_does_nothing_more_arrive(ctx, count, monkeypatch):
    monkeypatch.setattr(puts, "BURST_S", 60.0)
    queue, over = ctx.Queue(), threading.Event()
    thread = threading.Thread(target=lambda: (put(queue, range(count)), over.wait()))
    thread.start()
    assert get(queue, count) == list(range(count))
    over.set()
    thread.join()


def test_puts_of_a_thread_that_blocks_in_a_get_arrive(held):
    queue, answers = cloudpool.Queue(), cloudpool.Queue()
    thread = threading.Thread(target=lambda: (put(queue, range(5)), answers.get()))
    thread.start()
    assert get(queue, 5) == list(range(5))
    answers.put(None)
    thread.join()


def test_puts_of_a_thread_that_has_ended_arrive(ctx, monkeypatch):
    monkeypatch.setattr(puts, "BURST_S", 60.0)
    queue = ctx.Queue()
    elsewhere(put, queue, range(5))
    assert get(queue, 5) == list(range(5))


@pytest.mark.parametrize("daemon", [False, True])
def test_what_a_thread_has_put_when_its_process_ends_arrives(ctx, start, finish, daemon):
    queue = ctx.Queue()
    finish(start(put_in_a_thread, queue, daemon))
    assert get(queue, 5) == list(range(5))


def put_in_a_thread(queue, daemon):
    puts.BURST_S = sender.HOLD_S = 60.0
    is_put, never = threading.Event(), threading.Event()

    def run():
        put(queue, range(5))
        is_put.set()
        if daemon:
            never.wait()

    threading.Thread(target=run, daemon=daemon).start()
    is_put.wait()


PROGRAM = """
import atexit, threading
import cloudpool as multiprocessing
from cloudpool.store import sender
from cloudpool.store.wire import Connection
from cloudpool.sync import puts
puts.BURST_S = 60.0

def put(queue, start):
    for item in range(start, start + 50):
        queue.put(item)

def take(queue):
    print(sorted(queue.get() for _ in range(150)) == list(range(150)), flush=True)

if __name__ == "__main__":
    queue = multiprocessing.Queue()
    process = multiprocessing.get_context("fork").Process(target=take, args=(queue,))
    process.start()
    sender.HOLD_S = {hold_s}
    atexit.register(process.join)
    atexit.register(put, queue, 100)
    put(queue, 0)
    never, is_put = threading.Event(), threading.Event()
    threading.Thread(target=lambda: (put(queue, 50), is_put.set(), never.wait()), daemon=True).start()
    is_put.wait()
"""


def test_what_a_program_has_put_before_its_end_arrives(server, tmp_path):
    """Its main thread, a daemon, and an exit handler, behind which it waits for who gets that."""
    (tmp_path / "program.py").write_text(PROGRAM.format(hold_s=0.001))
    said = subprocess.run(
        [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60
    )
    assert (said.stdout, said.stderr) == ("True\n", "")


# -- other processes, and the end of the queue -------------------------------------------------------------------------------


def test_a_child_does_not_send_its_parents_puts(ctx, start, finish):
    queue, done = ctx.Queue(), ctx.Queue()
    for _ in range(10):
        put(queue, range(5))
        process = start(put, done, range(5))
        put(queue, range(5, 10))
        finish(process)
        assert get(queue, 10) == list(range(10))
        assert get(done, 5) == list(range(5))
        assert queue.empty()
        assert done.empty()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_finds_what_was_put_before_its_start(held, run, finish, method):
    queue, said = cloudpool.Queue(), cloudpool.Queue()
    put(queue, range(5))
    process = run(method, take_at_once, queue, said)
    assert said.get(timeout=60) == list(range(5))
    finish(process)


def take_at_once(queue, said):
    said.put([queue.get_nowait() for _ in range(5)])


def test_a_queue_that_is_dropped_with_puts_held_back_leaves_nothing(held, store, settle):
    settle()
    keys = set(store.call("KEYS", "*"))
    for _ in range(5):
        queue = cloudpool.JoinableQueue()
        put(queue, range(5))
        base = queue._items._base
        del queue
        settle()
        until(lambda base=base: not store.call("KEYS", base + "*"))
        end_sender()  # it sends what it holds
        cloudpool.Event()  # and so does this thread
    settle()
    until(lambda: set(store.call("KEYS", "*")) == keys, 5, lambda: set(store.call("KEYS", "*")) ^ keys)


def test_puts_into_a_queue_that_this_process_drops_reach_its_other_holders(held, run, finish, settle):
    queue, said = cloudpool.Queue(), cloudpool.Queue()
    process = run("fork", take_five, queue, said)
    assert said.get(timeout=60) == "ready"
    put(queue, range(5))
    del queue
    settle()
    end_sender()
    assert said.get(timeout=60) == list(range(5))
    finish(process)


def take_five(queue, said):
    said.put("ready")
    said.put(get(queue, 5))


def test_large_items_of_a_queue_that_is_dropped_leave_no_file(held, settle):
    folder = sessions.current().info.folder
    queue = cloudpool.Queue()
    put(queue, [0, b"x" * 100_000, b"y" * 100_000])
    assert [name for name in os.listdir(folder) if name.startswith("blob.")]
    del queue
    settle()
    for _ in range(2):  # it hears that the queue is gone, and deals with it
        cloudpool.Event()
    until(lambda: not [name for name in os.listdir(folder) if name.startswith("blob.")])


# -- the sender's thread -----------------------------------------------------------------------------------------------------


def test_the_sender_goes_when_there_is_nothing_to_send(server, monkeypatch):
    monkeypatch.setattr(puts, "BURST_S", 60.0)
    queue = cloudpool.Queue()
    put(queue, range(100))
    assert get(queue, 100) == list(range(100))
    end_sender()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        put(queue, range(100))
        assert get(queue, 100) == list(range(100))
        assert len(senders()) == 1
        until(lambda: not senders())
        assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_held_back_where_no_thread_can_be_started(held, store, monkeypatch):
    queue = cloudpool.Queue()

    def cannot(*_):
        raise RuntimeError("can't start new thread")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(_thread, "start_new_thread", cannot)
    put(queue, range(5))
    monkeypatch.undo()
    until(lambda: waiting(store, queue) == 5)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fork_finds_no_sender_and_sends_what_it_held(held, store):
    queue = cloudpool.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for count in range(1, 11):
            put(queue, range(5))
            pid = os.fork()
            if not pid:
                os._exit(len(senders()))
            assert os.waitpid(pid, 0)[1] == 0
            assert waiting(store, queue) == 5 * count


def test_threads_put_while_another_forks(ctx):
    """Nobody waits for ever, and nothing is lost or out of order."""
    queue, over = ctx.Queue(), threading.Event()

    def produce(name):
        for n in range(1500):
            queue.put((name, n))

    def fork():
        while not over.is_set():
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # these very threads
        producers = [threading.Thread(target=produce, args=(name,)) for name in range(3)]
        forkers = [threading.Thread(target=fork) for _ in range(2)]
        for thread in producers + forkers:
            thread.start()
        for thread in producers:
            thread.join()
        over.set()
        for thread in forkers:
            thread.join()
    got = get(queue, 4500)
    assert queue.empty()
    for name in range(3):
        assert [n for who, n in got if who == name] == list(range(1500))


def test_what_a_server_without_memory_refuses_is_said_and_the_rest_is_in_order(held, store):
    queue = cloudpool.Queue()
    put(queue, range(5))
    assert queue.qsize() == 5
    try:
        store.call("CONFIG", "SET", "maxmemory", "1")
        put(queue, range(100, 140))
        with pytest.raises(ServerOutOfMemory):
            queue.qsize()
        queue.put("held back until there is memory")
    finally:
        store.call("CONFIG", "SET", "maxmemory", "0")
    put(queue, range(5, 50))
    assert get(queue, 51) == [*range(5), "held back until there is memory", *range(5, 50)]
    assert queue.empty()


def test_a_server_that_has_forgotten_its_scripts_is_told_them(server, store, monkeypatch):
    monkeypatch.setattr(puts, "BURST_S", 60.0)
    queue = cloudpool.Queue()
    for start in range(0, MANY, 10):
        put(queue, range(start, start + 10))
        if start % 100 == 0:
            store.call("SCRIPT", "FLUSH")
    assert get(queue, MANY) == list(range(MANY))


def test_a_session_that_is_lost_is_told_and_nobody_hangs(server):
    program = """
import os, signal
import cloudpool
from cloudpool.errors import SessionLostError
queue = cloudpool.Queue()
queue.put(0)
pid = int(queue._items._session.channel().call("INFO", "server").partition(b"process_id:")[2].split()[0])
for n in range(20):
    queue.put(n)
os.kill(pid, signal.SIGKILL)
try:
    for n in range(10**7):
        queue.put(n)
except SessionLostError:
    print("lost")
try:
    queue.get()
except SessionLostError:
    print("lost")
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert said.stdout == "lost\nlost\n", said.stderr


# -- handlers ------------------------------------------------------------------------------------------------------------------


class Interrupt(BaseException):
    pass


def test_an_interrupted_put_takes_none_of_the_others_with_it(held, monkeypatch):
    """Those before it had returned: they are there, though their thread does nothing more."""
    queue, post, left = cloudpool.Queue(), Connection.post, [None]

    def interrupted(connection, *command, on_reply=None):
        if len(command) > 20 and left:
            left.pop()
            raise Interrupt
        post(connection, *command, on_reply=on_reply)

    put(queue, ["first"])
    assert queue.get() == "first"
    monkeypatch.setattr(Connection, "post", interrupted)
    returned = []
    with suppress(Interrupt):
        for n in range(100):
            queue.put(n)
            returned.append(n)
    assert not left
    assert elsewhere(get, queue, len(returned)) == returned


def test_what_a_handler_puts_in_the_middle_of_a_command_is_there_for_its_threads_next(held):
    first, second, over = cloudpool.Queue(), cloudpool.Queue(), cloudpool.Event()

    def handler(*_):
        put(first, range(5))
        over.set()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    assert over.wait(60)
    signal.signal(signal.SIGALRM, before)
    assert first.qsize() == 5
    put(second, range(3))
    assert second.qsize() == 3
