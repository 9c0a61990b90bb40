"""A thread's puts, held back and sent together, whatever happens at any moment of them: signals, and its process's death.

Moments are random, by a seed that is shown when a test fails; `--seed` runs one again.
"""

import os
import random
import signal
import threading
from collections import Counter
from contextlib import suppress

import pytest
from waiting import until

import cloudpool
from cloudpool.host import session as sessions

pytestmark = pytest.mark.parametrize("server", ["embedded"], indirect=True)  # elsewhere nothing is held back


class Interrupt(BaseException):
    pass


class History:
    """What was put, by whom, and when it began and had returned: in the thread's own count."""

    def __init__(self, queues):
        self.queues = queues
        self.count, self.begun, self.ended = 0, {}, {}
        self.by = Counter()
        self.wrong = []

    def put(self, at, who):
        self.by[at, who] += 1
        item = at, who, self.by[at, who]
        self.count += 1
        self.begun[item] = self.count
        self.queues[at].put(item)
        self.count += 1
        self.ended[item] = self.count

    def look(self, at):
        """What has returned is there, and no more than has begun."""
        low = sum(item[0] == at for item in list(self.ended))
        size = self.queues[at].qsize()
        if not low <= size <= sum(item[0] == at for item in list(self.begun)):
            self.wrong.append((low, size, at))

    def arrived(self, at, size):
        """Whether all that has returned is there, and in an order in which it may have been put."""
        got = [self.queues[at].get(timeout=60) for _ in range(size)]
        assert self.queues[at].empty()
        assert len(set(got)) == len(got)
        assert {item for item in self.ended if item[0] == at} <= set(got)
        latest = 0
        for item in got:
            assert self.ended.get(item, latest) >= latest, f"{item} is behind what was put after it"
            latest = max(latest, self.begun[item])


def fork_in_a_handler(_history):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


HANDLERS = {
    "raises": lambda _: raising(),
    "puts": lambda history: history.put(0, "handler"),
    "puts and raises": lambda history: (history.put(0, "handler"), raising()),
    "puts into another": lambda history: history.put(1, "handler"),
    "looks": lambda history: (history.look(0), history.look(1)),
    "forks": fork_in_a_handler,
}
HANDLERS["does any of that"] = lambda history: HANDLERS[history.chance.choice(list(HANDLERS)[:-1])](history)


def raising():
    raise Interrupt


def may_raise(frame):
    """Whether somebody gets it: what a finalizer, or a weak reference's callback, raises is thrown away, and pytest tells."""
    while frame is not None and frame.f_code is not some_puts.__code__:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename.endswith(NOBODYS):
            return False
        frame = frame.f_back
    return frame is not None


NOBODYS = ("weakref.py", "_weakrefset.py", "unraisableexception.py", "warnings.py")


@pytest.fixture
def at_any_moment(seed):
    """at_any_moment(handle): from now on signals come all the time. True: they are let in; False: not."""
    chance, over, armed = random.Random(seed), threading.Event(), threading.Event()
    main, threads = threading.main_thread().ident, []

    def send():
        while not over.wait(chance.uniform(0.0001, 0.002)):
            if armed.is_set():
                signal.pthread_kill(main, signal.SIGUSR1)

    def begin(handle):
        depth = []

        def handler(_, frame):
            if depth or not armed.is_set() or not may_raise(frame):
                return
            depth.append(None)
            try:
                handle()
            finally:
                depth.clear()

        signal.signal(signal.SIGUSR1, handler)
        threads.append(threading.Thread(target=send))
        threads[0].start()
        return armed

    before = signal.getsignal(signal.SIGUSR1)
    yield begin
    armed.clear()
    over.set()
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("kind", HANDLERS)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # who sends the signals is a thread
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning"
)  # a socket that was being opened as a handler raised
def test_whatever_a_handler_does_each_put_is_there_once_and_in_order(server, seed, at_any_moment, kind):
    history = History([cloudpool.Queue(), cloudpool.Queue()])
    history.chance = random.Random(seed)
    armed = at_any_moment(lambda: HANDLERS[kind](history))
    for number in range(60):
        with suppress(Interrupt):
            some_puts(history, armed, 50 if kind == "forks" else 200)
        armed.clear()
        if number % 10 == 0:  # and though this thread does nothing more
            there = sum(item[0] == 0 for item in history.ended)
            elsewhere(lambda there=there: until(lambda: history.queues[0].qsize() >= there))
    assert history.wrong == []
    channel = sessions.current().channel()
    assert channel.may_hold, "its thread uses a nested line"
    for at in 0, 1:
        history.arrived(at, history.queues[at].qsize())


def elsewhere(call):
    """In another thread, while this one does nothing."""
    failures = []

    def run():
        try:
            call()
        except AssertionError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failures == []


def some_puts(history, armed, count):
    try:
        armed.set()
        for _ in range(count):
            history.put(0 if history.chance.random() < 0.9 else 1, "thread")
            if history.chance.random() < 0.01:
                history.look(history.chance.choice([0, 1]))
    finally:
        armed.clear()


# -- deaths --------------------------------------------------------------------------------------------------------------------


def put_for_ever(queue, name):
    n = 0
    while True:
        queue.put((name, n))
        n += 1


def put_and_exit(queue, name):
    for n in range(50):
        queue.put((name, n))
    os._exit(0)


@pytest.mark.parametrize("target", [put_for_ever, put_and_exit])
def test_what_a_producer_has_put_that_dies_is_whole_and_without_a_gap(server, seed, target):
    chance, context = random.Random(seed), cloudpool.get_context("fork")
    queue = context.Queue()
    for _ in range(10):
        producers = [context.Process(target=target, args=(queue, name)) for name in range(2)]
        for process in producers:
            process.start()
        got = [queue.get(timeout=60) for _ in range(chance.randrange(1, 40))]
        for process in producers:
            if target is put_for_ever:
                process.kill()
            process.join()
        with suppress(cloudpool.queues.Empty):
            while True:
                got.append(queue.get(timeout=0.1))
        for name in range(2):
            numbers = [n for who, n in got if who == name]
            assert numbers == list(range(len(numbers)))
