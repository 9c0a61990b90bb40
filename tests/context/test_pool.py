"""Pool: what it does beyond what CPython's own tests ask."""

import gc
import os
import signal
import threading
import time
import warnings
from contextlib import closing
from functools import partial
from multiprocessing.pool import TERMINATE
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import until

import cloudpool
from cloudpool import TimeoutError, settings
from cloudpool.context import calls, hand, results
from cloudpool.context.exits import Exits
from cloudpool.context.last_words import LastWords
from cloudpool.errors import ServerOutOfMemory, WorkerLostError
from cloudpool.host import session as sessions


def square(x):
    return x * x


def pid(_=None):
    return os.getpid()


def server():
    """A connection of one's own to the session's server."""
    session = sessions.current()
    return session.dial(), session


@pytest.mark.parametrize("size", [1, 300_000])
def test_a_function_travels_once_per_call_and_not_once_per_task(ctx, size):
    mark = f"<{os.urandom(8).hex()}>".encode()
    function = Adder(mark * (size // len(mark) + 1))
    with ctx.Pool(2) as pool:
        pool.map(square, range(4))
        monitor, _ = server()
        monitor.call("MONITOR")
        Adder.pickled = 0
        assert pool.map(function, range(200), chunksize=1) == list(range(1, 201))
        assert list(pool.imap(function, range(100))) == list(range(1, 101))
        assert Adder.pickled == 2
        connection, _ = server()
        connection.call("ECHO", "the end")
        seen = 0
        while b"the end" not in (line := monitor.receive()):
            seen += mark in line
        assert seen <= 2
        monitor.close()
        connection.close()
    pool.join()


class Adder:
    """A function of a certain size."""

    pickled = 0

    def __init__(self, ballast):
        self.ballast = ballast

    def __getstate__(self):
        Adder.pickled += 1
        return self.__dict__

    def __call__(self, x):
        return x + 1


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, _):
        self.calls += 1
        return self.calls


def test_each_task_sees_a_fresh_function(ctx):
    with ctx.Pool(1) as pool:
        assert pool.map(Counting(), range(4), chunksize=2) == [1, 2, 1, 2]
        assert list(pool.imap(Counting(), range(3))) == [1, 1, 1]
    pool.join()


def test_a_lambda_and_what_it_closes_over_travel(ctx):
    k = 3
    with ctx.Pool(2) as pool:
        assert pool.map(lambda x: x * k, range(5)) == [0, 3, 6, 9, 12]
    pool.join()


def refuse(_):
    raise RuntimeError("cannot be pickled")


class Unpicklable:
    __reduce__ = refuse


def test_an_argument_that_cannot_be_pickled_fails_its_own_call_only(ctx):
    with ctx.Pool(2) as pool:
        bad = pool.map_async(square, [1, Unpicklable(), 3], chunksize=1)
        good = pool.map_async(square, [1, 2, 3])
        with pytest.raises(RuntimeError, match="cannot be pickled"):
            bad.get(30)
        assert good.get(30) == [1, 4, 9]
        items = pool.imap(square, [2, Unpicklable(), 4])
        assert next(items) == 4
        with pytest.raises(RuntimeError, match="cannot be pickled"):
            next(items)
        assert next(items) == 16
        with pytest.raises(RuntimeError, match="cannot be pickled"):
            pool.apply(Unpicklable())
    pool.join()


def test_an_iterable_with_a_length_that_raises_fails_its_call(ctx):
    class Raising:
        def __len__(self):
            return 10

        def __iter__(self):
            yield 1
            raise KeyError("three")

    with ctx.Pool(2) as pool, pytest.raises(KeyError, match="three"):
        pool.map_async(square, Raising(), chunksize=1).get(30)
    pool.join()


class Brittle(Exception):
    def __init__(self, a, b):
        super().__init__(a)


def raise_brittle():
    raise Brittle(1, 2)


def test_an_exception_that_cannot_be_unpickled_fails_its_call_and_the_pool_goes_on(ctx):
    with ctx.Pool(1) as pool:
        with pytest.raises(cloudpool.pool.MaybeEncodingError):
            pool.apply_async(raise_brittle).get(30)
        assert pool.apply(square, (3,)) == 9
    pool.join()


def test_a_callback_that_raises_leaves_the_pool_working(ctx, capsys):
    def callback(_):
        raise ValueError("in a callback")

    with ctx.Pool(1) as pool:
        pool.apply_async(square, (2,), callback=callback).wait(30)
        assert pool.apply(square, (3,)) == 9
    pool.join()
    assert "in a callback" in capsys.readouterr().err


def test_imap_sends_an_item_before_it_asks_for_the_next(ctx):
    """An iterable may wait for the result of what it gave last."""
    with ctx.Pool(2) as pool:
        results = []
        came = threading.Semaphore(0)

        def items():
            yield 1
            for n in range(2, 6):
                assert came.acquire(timeout=30)
                yield n

        for result in pool.imap(square, items()):
            results.append(result)
            came.release()
        assert results == [1, 4, 9, 16, 25]
    pool.join()


def test_imap_runs_ahead_of_its_results_but_not_without_bound(ctx):
    given = []

    def endless():
        n = 0
        while True:
            given.append(n)
            yield n
            n += 1

    gate = ctx.Semaphore(0)
    with ctx.Pool(1, initializer=take_gate, initargs=(gate,)) as pool:
        results = pool.imap(through_gate, endless())
        gate.release()
        assert next(results) == 0
        assert len(given) < 5000
    pool.join()


def test_imap_runs_ahead_of_all_of_a_wide_pools_workers(ctx, monkeypatch):
    monkeypatch.setattr(calls, "WINDOW", 2)
    gate, begun = ctx.Event(), ctx.Semaphore(0)
    with ctx.Pool(4, begin, (gate, begun)) as pool:
        results = pool.imap(wait_at_gate, range(8))
        for _ in range(4):
            assert begun.acquire(timeout=60)
        gate.set()
        assert list(results) == list(range(8))
    pool.join()


def take_gate(gate):
    global the_gate
    the_gate = gate


def through_gate(x):
    the_gate.acquire()
    return x


def meet(_):
    return the_barrier.wait(30)


def take_barrier(barrier):
    global the_barrier
    the_barrier = barrier


def wait_at(last, go_on, x):
    return x if x < last else go_on.wait(30)


@pytest.mark.parametrize("last", [1, 2, 20])
def test_what_is_done_does_not_wait_for_a_long_task_behind_it(ctx, monkeypatch, last):
    monkeypatch.setattr(hand, "HELD_S", 60.0)
    go_on = ctx.Event()
    with ctx.Pool(1) as pool:
        pool.map(square, range(10))
        os.kill(pool._pool[0].pid, signal.SIGSTOP)
        results = pool.imap_unordered(partial(wait_at, last, go_on), range(last + 1))
        until(lambda: pool._inqueue.waiting() >= last)
        os.kill(pool._pool[0].pid, signal.SIGCONT)
        assert [results.next(30) for _ in range(last)] == list(range(last))
        go_on.set()
        assert list(results) == [True]
    pool.join()


def test_tasks_that_wait_for_each_other_are_not_behind_one_another(ctx):
    """Short tasks are taken several at once: one that waits must not keep what came with it."""
    barrier = ctx.Barrier(2)
    with ctx.Pool(2, initializer=take_barrier, initargs=(barrier,)) as pool:
        for _ in range(5):
            pending = [pool.apply_async(square, (n,)) for n in range(50)]
            pending += [pool.apply_async(meet, (n,)) for n in range(2)]
            pending += [pool.apply_async(square, (n,)) for n in range(50)]
            results = [p.get(30) for p in pending]
            assert sorted(results[50:52]) == [0, 1]
    pool.join()


# -- deaths ---------------------------------------------------------------------------------------------------------


def kill_once(args):
    """The worker of the marked item is killed, the first time."""
    x, flag = args
    if flag and not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.parametrize("chunksize", [1, 7])
def test_results_are_exact_when_a_worker_is_killed_in_a_task(ctx, tmp_path, chunksize):
    items = [(n, str(tmp_path / str(n)) if n % 29 == 5 else "") for n in range(100)]
    with ctx.Pool(2) as pool:
        assert pool.map(kill_once, items, chunksize) == list(range(100))
        assert sum(1 for _ in tmp_path.iterdir()) == 4
    pool.join()


def kill_on_three(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def leave_on_three(x):
    if x == 3:
        os._exit(7)
    return x


def exit_on_three(x):
    if x == 3:
        raise SystemExit(9)
    return x


@pytest.mark.parametrize(
    ("function", "how"),
    [(kill_on_three, "by SIGKILL"), (leave_on_three, "exit code 7"), (exit_on_three, "exit code 9")],
)
def test_an_item_that_always_ends_its_worker_is_lost_alone(ctx, function, how):
    with ctx.Pool(2) as pool:
        results = pool.imap(function, range(6))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(WorkerLostError, match="Item 3 ") as lost:
            next(results)
        assert [*results] == [4, 5]
        assert how in str(lost.value)
        assert "3 attempts" in str(lost.value)
        assert len(str(lost.value).splitlines()) <= 3
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
    pool.join()


def test_of_a_chunk_that_kills_its_worker_only_the_guilty_item_is_blamed(ctx, tmp_path):
    with ctx.Pool(2) as pool:
        with pytest.raises(WorkerLostError, match="Item 3 "):
            pool.map(kill_on_three, range(10), chunksize=5)
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
    pool.join()


def test_workers_killed_from_outside_are_replaced(ctx):
    with ctx.Pool(2) as pool:
        before = {p.pid for p in pool._pool}
        for victim in before:
            os.kill(victim, signal.SIGKILL)
        assert pool.map(square, range(50), chunksize=1) == [n * n for n in range(50)]
    pool.join()


# -- initializers ---------------------------------------------------------------------------------------------------


def raise_value_error():
    raise ValueError("no such model")


def leave():
    os._exit(3)


def test_what_an_initializer_raises_is_the_error_of_every_call_and_no_more_workers_are_started(ctx):
    with ctx.Pool(2, initializer=raise_value_error) as pool:
        pending = pool.map_async(square, range(10))
        with pytest.raises(ValueError, match="no such model") as raised:
            pending.get(30)
        assert "raise_value_error" in str(raised.value.__cause__)
        for call in (pool.map, lambda *a: list(pool.imap(*a)), lambda *a: list(pool.imap_unordered(*a))):
            with pytest.raises(ValueError, match="no such model"):
                call(square, range(10))
        names = [int(p.name.rpartition("-")[2]) for p in pool._pool]
        assert max(names) - min(names) < 20
    pool.join()


def test_an_initializer_that_exits_is_no_respawn_storm(ctx):
    with ctx.Pool(1, initializer=leave) as pool, pytest.raises(WorkerLostError, match="exit code 3"):
        pool.apply_async(square, (1,)).get(60)
    pool.join()


# -- ends -----------------------------------------------------------------------------------------------------------


def keys_left():
    connection, session = server()
    try:
        return [k for k in connection.call("KEYS", session.keys.all()) if b"{pool." in k]
    finally:
        connection.close()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_no_key_is_left_of_a_pool_that_has_ended(ctx, end):
    pool = ctx.Pool(2)
    assert pool.map(lambda x: x, range(100), chunksize=1) == list(range(100))
    big = b"x" * 300_000
    assert pool.map(len, [big] * 4) == [300_000] * 4
    getattr(pool, end)()
    pool.join()
    assert [p.exitcode for p in pool._pool] == ([0, 0] if end == "close" else [-signal.SIGTERM] * 2)
    del pool
    gc.collect()
    until(lambda: not keys_left())  # the agent hears of a dropped handle by a message
    assert [n for n in os.listdir(sessions.current().info.folder) if n.startswith("blob")] == []


def test_terminate_drops_what_is_queued_and_does_not_wait_for_it(ctx):
    pool = ctx.Pool(2)
    pool.map_async(time.sleep, [1000] * 100, chunksize=1)
    pool.terminate()
    pool.join()
    assert not any(p.is_alive() for p in pool._pool)


def test_a_pool_that_nobody_has_closed_warns_and_ends_its_workers(ctx):
    pool = ctx.Pool(1)
    worker = pool._pool[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    said = [str(w.message) for w in caught if w.category is ResourceWarning]
    assert any("unclosed running multiprocessing pool" in text for text in said)
    caught.clear()  # a warning holds its source, which is the pool
    gc.collect()
    worker.join(30)
    assert not worker.is_alive()


def test_close_waits_for_an_imap_that_is_under_way(ctx):
    pool = ctx.Pool(2)
    results = pool.imap(square, range(3000))
    pool.close()
    pool.join()
    assert list(results) == [n * n for n in range(3000)]


def test_workers_are_replaced_after_their_number_of_tasks(ctx):
    with ctx.Pool(2, maxtasksperchild=3) as pool:
        pids = pool.map(pid, range(30), chunksize=1)
    pool.join()
    assert all(pids.count(p) <= 3 for p in pids)


def test_an_idle_workers_result_arrives_though_the_server_has_forgotten_the_scripts(ctx):
    """The worker waits for its next task by then, and hears in the middle of that."""
    with ctx.Pool(1) as pool, closing(server()[0]) as store:
        for n in range(1, 4):
            assert [pool.apply(square, (n,)) for _ in range(3)] == [n * n] * 3  # idle from here on
            until(
                lambda: b"blocked_clients:2" in store.call("INFO", "clients")
            )  # the collector and the worker
            os.kill(pool._pool[0].pid, signal.SIGSTOP)
            pending = pool.apply_async(square, (n,))
            until(lambda: pool._inqueue.waiting() == 0)  # the server has given it to the worker
            store.call("SCRIPT", "FLUSH")
            os.kill(pool._pool[0].pid, signal.SIGCONT)
            assert pending.get(30) == n * n
    pool.join()


def flush_and_return_much(_):
    with closing(server()[0]) as store:
        store.call("SCRIPT", "FLUSH")
    return bytes(100_000)


def test_a_result_that_the_server_did_not_know_how_to_record_does_not_wait_for_the_next_task(ctx):
    went_on = ctx.Event()
    with ctx.Pool(1) as pool:
        list(pool.imap(square, range(300)))  # short ones: what follows is taken together
        for _ in range(3):
            went_on.clear()
            for n in range(100):
                pool.apply_async(square, (n,))
            first = pool.apply_async(flush_and_return_much, (0,))
            second = pool.apply_async(went_on.wait, (60,))
            assert first.get(30) == bytes(100_000)
            went_on.set()
            assert second.get(30)
    pool.join()


def test_who_drops_a_pool_waits_for_nothing(ctx):
    """A garbage collection may be what drops it, in the middle of whatever that thread is at."""
    pool = ctx.Pool(1)
    assert pool.apply(square, (2,)) == 4
    workers, exits, supervisor = pool._pool, pool._worker_handler._exits, pool._worker_handler.thread
    with exits._changed, warnings.catch_warnings():  # the supervisor needs it
        warnings.simplefilter("ignore")  # an unclosed pool
        pool = gc.collect()
        assert supervisor.is_alive()
    supervisor.join(60)
    until(lambda: not any(worker.is_alive() for worker in workers))


def test_news_of_a_worker_are_waited_for_until_its_end_has_been_dealt_with(monkeypatch):
    monkeypatch.setattr(Exits, "WAIT_S", 0.01)
    workers = [SimpleNamespace(pid=7)]
    exits = Exits(workers)
    telling = threading.Timer(0.2, lambda: exits.add(7, -9, LastWords()))
    telling.start()
    assert exits.of(7).signal == "SIGKILL"
    telling.join()
    del workers[:]
    assert exits.of(7).exitcode is None  # another of that number, of which nothing is known
    for pid in range(1000):
        exits.add(pid, 0, LastWords())
    assert exits.of(999).exitcode == 0
    assert len(exits._exits) < 200


class Slow:
    """Takes a second to be pickled."""

    def __reduce__(self):
        time.sleep(1)
        return int, ()


@pytest.mark.parametrize("argument", [Slow(), None])
def test_what_a_handler_raises_is_not_an_items_error(ctx, argument):
    """Whether it comes while the items are pickled or while they are waited for: the call ends, and not its first item."""

    def interrupt(*_):
        raise TimeoutError("by the handler")

    go_on = ctx.Event()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ctx.Pool(2) as pool:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(TimeoutError, match="by the handler"):
                pool.starmap(go_on.wait, [(60,), (argument,)], chunksize=1)
            go_on.set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    pool.join()


def test_results_wait_as_those_of_the_stdlib_do():
    event, woken = results.Event(), []
    assert not event.wait(0)
    assert not event.wait(-1)
    assert not event.wait(0.01)
    threads = [threading.Thread(target=lambda: woken.append(event.wait())) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: len(event._waiters) == 5)
    event.set()
    for thread in threads:
        thread.join()
    assert woken == [True] * 5
    assert event.is_set()
    assert event.wait(0)
    assert event.wait()
    assert not event._waiters


def test_a_pool_serves_several_threads(ctx):
    with ctx.Pool(2) as pool:
        outcomes = {}

        def use(n):
            outcomes[n] = pool.map(square, range(n, n + 50), chunksize=5), pool.apply(square, (n,))

        threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert outcomes == {n: ([x * x for x in range(n, n + 50)], n * n) for n in range(8)}
    pool.join()


def test_a_forked_child_cannot_use_its_parents_pool():
    ctx = cloudpool.get_context("fork")
    with ctx.Pool(1) as pool:
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
            child = ctx.Process(target=_try_pool, args=(pool, write))
            child.start()
        child.join()
        assert os.read(read, 100) == b"Pool not running"
        os.close(read)
        os.close(write)
        assert pool.apply(square, (2,)) == 4
    pool.join()


def _try_pool(pool, fd):
    try:
        pool.apply(square, (1,))
    except ValueError as error:
        os.write(fd, str(error).encode())


def nested(x):
    with cloudpool.Pool(2) as pool:
        total = sum(pool.map(square, range(x)))
    pool.join()
    return total


def put_nested(fd, x):
    os.write(fd, str(nested(x)).encode())


def test_a_process_that_is_no_daemon_has_pools_of_its_own():
    ctx = cloudpool.get_context("fork")
    read, write = os.pipe()
    child = ctx.Process(target=put_nested, args=(write, 5))
    child.start()
    child.join()
    assert os.read(read, 100) == b"30"
    os.close(read)
    os.close(write)


# -- the bar --------------------------------------------------------------------------------------------------------


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(ctx, monkeypatch, capsys):
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with ctx.Pool(2) as pool:
        assert pool.map(square, range(40), progress=True) == [n * n for n in range(40)]
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        assert pool.map(square, range(40), progress=True) == [n * n for n in range(40)]
        assert len(list(pool.imap_unordered(square, iter(range(7)), progress=True))) == 7
        assert pool.map(square, range(40)) == [n * n for n in range(40)]
    pool.join()
    assert "40/40" in terminal.getvalue()
    assert "7it" in terminal.getvalue()


def slowly(x):
    time.sleep(0.0005)
    return x


@pytest.mark.parametrize("chunksize", [1, 3])
def test_no_result_is_lost_or_doubled_while_workers_are_killed_again_and_again(ctx, monkeypatch, chunksize):
    monkeypatch.setenv("CLOUDPOOL_RETRIES", "50")
    settings.reload()
    try:
        with ctx.Pool(2) as pool:
            results = []
            for result in pool.imap(slowly, range(1500), chunksize):
                results.append(result)
                if len(results) % 100 == 0:
                    pool._pool[len(results) // 100 % 2].kill()
            assert results == list(range(1500))
        pool.join()
    finally:
        monkeypatch.undo()
        settings.reload()


# -- the stdlib's insides that software uses ----------------------------------------------------------------------------


def begin(gate_, begun_):
    global gate, begun
    gate, begun = gate_, begun_


def wait_at_gate(number):
    begun.release()
    gate.wait()
    return number


def test_taskqueue_counts_the_tasks_that_no_worker_has_taken(ctx):
    gate, begun = ctx.Event(), ctx.Semaphore(0)
    with ctx.Pool(1, begin, (gate, begun)) as pool:
        results = [pool.apply_async(wait_at_gate, (0,))]
        assert begun.acquire(timeout=60)
        results += [pool.apply_async(wait_at_gate, (number,)) for number in range(1, 4)]
        assert (pool._taskqueue.qsize(), pool._taskqueue.empty(), len(pool._cache)) == (3, False, 4)
        gate.set()
        assert [result.get(60) for result in results] == list(range(4))
        assert (pool._taskqueue.qsize(), pool._taskqueue.empty(), len(pool._cache)) == (0, True, 0)


def test_a_grown_pools_new_workers_are_replaced_too(ctx):
    gate, begun = ctx.Event(), ctx.Semaphore(0)
    with ctx.Pool(1, begin, (gate, begun)) as pool:
        pool._processes = 2
        pool._repopulate_pool()
        grown = pool._pool[1]
        results = [pool.apply_async(wait_at_gate, (number,)) for number in range(2)]
        for _ in results:
            assert begun.acquire(timeout=60)
        os.kill(grown.pid, signal.SIGKILL)
        assert begun.acquire(timeout=60)  # its task, begun by the one in its place
        until(lambda: grown not in pool._pool)  # which may begin before the supervisor has put it there
        assert len(pool._pool) == 2
        gate.set()
        assert [result.get(60) for result in results] == [0, 1]


def test_a_worker_that_was_taken_out_and_killed_leaves_its_task_to_the_one_in_its_place(ctx):
    gate, begun = ctx.Event(), ctx.Semaphore(0)
    with ctx.Pool(1, begin, (gate, begun)) as pool:
        result = pool.apply_async(wait_at_gate, (1,))
        assert begun.acquire(timeout=60)
        hung = pool._pool[0]
        pool._pool.remove(hung)
        hung.kill()
        pool._repopulate_pool()
        assert begun.acquire(timeout=60)
        assert hung not in pool._pool
        gate.set()
        assert result.get(60) == 1
        hung.join()


def test_a_pool_whose_workers_are_killed_by_hand_starts_no_more(ctx):
    gate, begun = ctx.Event(), ctx.Semaphore(0)
    pool = ctx.Pool(2, begin, (gate, begun))
    pool.map_async(wait_at_gate, range(2), chunksize=1)
    assert begun.acquire(timeout=60)
    pool._state = pool._worker_handler._state = TERMINATE
    workers = list(pool._pool)
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    pool._worker_handler.join(60)
    assert not pool._worker_handler.is_alive()
    assert pool._pool == workers
    pool.terminate()
    pool.join()


def test_terminate_does_not_wait_for_how_its_workers_end(ctx, monkeypatch):
    """The collector may be told of a worker's death by terminate itself, which nobody reports any more."""
    monkeypatch.setattr(Exits, "WAIT_S", 1000.0)
    for _ in range(5):
        with ctx.Pool(2) as pool:
            pool.map_async(time.sleep, [1000] * 4)
            pool.apply_async(time.sleep, [1000])
            while not pool._taskqueue._tasks._session.channel().call(
                "KEYS", f"cp:*{pool._taskqueue._tasks._id}*running*"
            ):
                pass
        pool.join()


def test_stats_tell_of_workers_tasks_and_time_and_of_one_call_by_a_difference(ctx):
    with ctx.Pool(2) as pool:
        pool.map(abs, range(10), chunksize=5)
        before = pool.stats()
        assert (before.method, before.workers, before.tasks) == (ctx.get_start_method(), 2, 2)
        assert before.cost is None
        with pytest.raises(TypeError):
            pool.map(abs, ["a", "b", "c"], chunksize=1)
        between = pool.stats() - before
        assert between.tasks == 3
        assert 0 < between.time_s < pool.stats().time_s


def die_once(marker):
    """At the one item that is a path, the first time."""
    if marker and not os.path.exists(marker):
        with open(marker, "w"):
            os.kill(os.getpid(), signal.SIGKILL)
    return marker


def test_a_chunk_that_was_run_item_by_item_counts_once(ctx, tmp_path):
    items = ["", str(tmp_path / "died"), "", ""]
    with ctx.Pool(2) as pool:
        assert pool.map(die_once, items, chunksize=4) == items
        assert pool.stats().tasks == 1
    pool.join()


def test_a_pool_of_a_host_that_ends_soon_keeps_its_workers_when_that_host_made_it(ctx, monkeypatch):
    """Nowhere else could fresh ones come. Those of a pool that was made elsewhere go home: tests/far/test_far_terms.py."""
    session = sessions.current()
    monkeypatch.setattr(session, "info", session.info._replace(until=time.monotonic()))
    with ctx.Pool(2) as pool:
        workers = list(pool._pool)
        assert pool.map(square, range(20), chunksize=1) == [x * x for x in range(20)]
        assert pool._pool == workers
    pool.join()


def blocked_forever(event):
    event.wait()


@pytest.mark.parametrize(
    "call",
    [
        lambda pool, item: pool.map(blocked_forever, [item]),
        lambda pool, item: pool.map_async(blocked_forever, [item]).get(9999),
        lambda pool, item: pool.apply(blocked_forever, (item,)),
        lambda pool, item: next(pool.imap(blocked_forever, [item])),
    ],
    ids=["map", "map_async, get", "apply", "imap"],
)
def test_ctrl_c_is_heard_whichever_thread_the_signal_came_to(ctx, call):
    """The kernel may give it to any; and the main one may be about to sleep when it comes. Neither wakes who waits."""
    event = ctx.Event()

    def press():
        until(lambda: pool._cache)
        time.sleep(0.1)  # waiting, by then, most of the time: the outcome is the same whether it is or not
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    with ctx.Pool(1) as pool:
        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            call(pool, event)
        thread.join()
        event.set()
    pool.join()


def test_a_result_that_comes_late_is_seen_by_who_waits(ctx, monkeypatch):
    monkeypatch.setattr(results, "LOOK_S", 0.01)
    with ctx.Pool(1) as pool:
        assert pool.apply(time.sleep, (0.2,)) is None
        assert next(pool.imap(time.sleep, [0.2])) is None
        result = pool.apply_async(time.sleep, (0.2,))
        with pytest.raises(TimeoutError):
            result.get(0.05)
        assert result.get(60) is None
    pool.join()


def test_a_map_whose_first_tasks_are_refused_sends_no_others_and_leaves_no_file(ctx, store, tmp_path):
    def run(data):
        (tmp_path / str(len(data))).touch()

    class Item:
        def __init__(self, number, size):
            self.number, self.size = number, size

        def __reduce__(self):
            for _ in range(2):  # what was sent before the first of them has its answer before the second has
                store.call("PING")
            if self.number == 6:
                store.call("CONFIG", "SET", "maxmemory", "0")
            return bytes, (bytes(self.size),)

    with ctx.Pool(1) as pool:
        assert pool.map(len, [b"ab"]) == [2]
        store.call("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(ServerOutOfMemory):
                pool.map(run, [Item(n, 10**6 if n >= 8 else 30_000) for n in range(12)], chunksize=1)
        finally:
            store.call("CONFIG", "SET", "maxmemory", "0")
        assert pool.map(len, [b"ab"]) == [2]
        assert list(Path(sessions.current().info.folder).glob("blob.*")) == list(tmp_path.iterdir()) == []
        pool.close()
        pool.join()
