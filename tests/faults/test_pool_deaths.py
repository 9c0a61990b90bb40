"""Workers that die, at any time and in any way: no result is lost or doubled, and nothing waits for ever.

Random choices come from `rng`, whose seed is shown when a test fails; `--seed` runs one again.
"""

from __future__ import annotations

import collections
import ctypes
import faulthandler
import functools
import gc
import itertools
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, process
from contextlib import closing
from pathlib import Path

import pytest
from waiting import until

import cloudpool
from cloudpool import settings
from cloudpool.context import hand
from cloudpool.errors import WorkerLostError
from cloudpool.host import session as sessions

ROOT = Path(__file__).parents[2]
WAIT_S = 60  # for what comes at once on a machine that does nothing else


@pytest.fixture(params=["fork", "spawn"])
def ctx(request):
    return cloudpool.get_context(request.param)


@pytest.fixture
def fork():
    return cloudpool.get_context("fork")


@pytest.fixture
def rng(seed):
    return random.Random(seed)


@pytest.fixture
def retries(monkeypatch):
    """retries(n): of pools that are made from now on."""

    def change(n):
        monkeypatch.setenv("CLOUDPOOL_RETRIES", str(n))
        settings.reload()

    yield change
    monkeypatch.undo()
    settings.reload()


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def run(script, **settings):
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path, **settings}
    return subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=WAIT_S, env=env)


# -- what tasks do ----------------------------------------------------------------------------------------------------


def square(x):
    return x * x


def run_out_of_memory():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    try:
        bytearray(1 << 31)
    except MemoryError:
        os.abort()


DEATHS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the system does for want of memory
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGSEGV": lambda: ctypes.string_at(0),
    "SIGABRT": run_out_of_memory,
    "exit code 7": lambda: os._exit(7),
    "exit code 9": lambda: sys.exit(9),
}


def die(how):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()  # pytest's would write to the terminal
    DEATHS[how]()


def log(path, word):
    """One line, whole: many processes append at once."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


def runs(path):
    """How often each item was run."""
    with open(path) as file:
        return collections.Counter(map(int, file))


class Fatal:
    """A function that ends its worker at some items, `{item: how}`; `once` or each time. Runs are counted."""

    def __init__(self, path, deaths, *, once):
        self.path, self.deaths, self.once = str(path), deaths, once

    def __call__(self, x):
        log(self.path, x)
        if x in self.deaths and not (self.once and runs(self.path)[x] > 1):
            print(f"about to end at {x}")
            die(self.deaths[x])
        return x * x


def as_pairs(iterable):
    return [(x,) for x in iterable]


def by_callback(start):
    """The value that a call's callback, or its error_callback, is given."""
    came = []
    pending = start(came.append, came.append)
    pending.wait(WAIT_S)
    [value] = came
    if isinstance(value, Exception):
        raise value
    return value


CALLS = {
    "map": lambda pool, f, xs: pool.map(f, xs, chunksize=3),
    "map by items": lambda pool, f, xs: pool.map(f, xs, chunksize=1),
    "map_async": lambda pool, f, xs: by_callback(
        lambda done, failed: pool.map_async(f, xs, 4, callback=done, error_callback=failed)
    ),
    "starmap": lambda pool, f, xs: pool.starmap(f, as_pairs(xs)),
    "imap": lambda pool, f, xs: list(pool.imap(f, xs)),
    "imap by chunks": lambda pool, f, xs: list(pool.imap(f, xs, 5)),
    "imap_unordered": lambda pool, f, xs: sorted(pool.imap_unordered(f, xs)),
    "apply": lambda pool, f, xs: [pool.apply(f, (x,)) for x in xs],
    "apply_async": lambda pool, f, xs: [
        by_callback(lambda done, failed: pool.apply_async(f, (x,), {}, done, failed))  # noqa: B023 - waits for it
        for x in xs
    ],
}
EXECUTOR_CALLS = {
    "submit": lambda executor, f, xs: [f.result(WAIT_S) for f in [executor.submit(f, x) for x in xs]],
    "map": lambda executor, f, xs: list(executor.map(f, xs, timeout=WAIT_S)),
    "map by chunks": lambda executor, f, xs: list(executor.map(f, xs, timeout=WAIT_S, chunksize=7)),
}
SOME_DEATHS = dict(zip((2, 5, 11, 12, 20, 28), DEATHS, strict=True))


# -- a worker dies in a task ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "call"), [*(("fork", call) for call in CALLS), ("spawn", "map"), ("spawn", "apply_async")]
)
def test_a_task_runs_again_whatever_ended_its_worker(tmp_path, method, call):
    with cloudpool.get_context(method).Pool(2) as pool:
        function = Fatal(tmp_path / "runs", SOME_DEATHS, once=True)
        assert CALLS[call](pool, function, range(30)) == [x * x for x in range(30)]
        assert all(runs(function.path)[x] == 2 for x in SOME_DEATHS)
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.join()


@pytest.mark.parametrize("call", EXECUTOR_CALLS)
def test_an_executors_task_runs_again_whatever_ended_its_worker(fork, tmp_path, call):
    function = Fatal(tmp_path / "runs", SOME_DEATHS, once=True)
    with cloudpool.Executor(2, fork) as executor:
        assert EXECUTOR_CALLS[call](executor, function, range(30)) == [x * x for x in range(30)]
    assert all(runs(function.path)[x] == 2 for x in SOME_DEATHS)


def test_a_death_is_noticed_within_a_fifth_of_a_second(fork, tmp_path):
    """From the last thing that the dead worker did to the first one of the task's next run. The best of some: others use the machine."""
    with fork.Pool(2) as pool:
        moments = [pool.apply(die_and_tell, (str(tmp_path / str(n)),)) for n in range(10)]
    pool.join()
    print("noticed after", sorted(moments))
    assert min(moments) < 0.2


def die_and_tell(path):
    now = time.monotonic()
    if os.path.exists(path):
        with open(path) as file:
            return now - float(file.read())
    with open(path, "w") as file:
        file.write(str(time.monotonic()))
    return die("SIGKILL")


# -- an item that always ends its worker ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DEATHS)
def test_it_is_lost_alone_after_its_retries_and_the_error_says_all(fork, tmp_path, how):
    function = Fatal(tmp_path / "runs", {4: how}, once=False)
    with fork.Pool(2) as pool:
        results = pool.imap(function, range(8))
        assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
        with pytest.raises(WorkerLostError) as lost:
            next(results)
        assert list(results) == [25, 36, 49]
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.join()
    error, text = lost.value, str(lost.value)
    assert runs(function.path) == {x: 3 if x == 4 else 1 for x in range(8)}
    assert isinstance(error, process.BrokenProcessPool)
    assert isinstance(error, RuntimeError)
    assert (error.item, error.about, error.attempts, error.host) == (4, "4", 3, os.uname().nodename)
    assert error.signal == (how if how.startswith("SIG") else None)
    assert error.exitcode == (-signal.Signals[how] if error.signal else int(how.split()[-1]))
    assert "about to end at 4" in error.last_lines
    for said in ("Item 4 (4) ", "in each of 3 attempts", how, os.uname().nodename, "about to end at 4"):
        assert said in text
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (text, vars(error))


@pytest.mark.parametrize("call", CALLS)
def test_each_call_raises_its_loss(fork, tmp_path, call):
    function = Fatal(tmp_path / "runs", {13: "SIGKILL"}, once=False)
    with fork.Pool(2) as pool:
        with pytest.raises(WorkerLostError, match=r"SIGKILL") as lost:
            CALLS[call](pool, function, range(30))
        assert lost.value.item == (None if "apply" in call else 13)
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.join()
    counts = runs(function.path)
    assert counts[13] == 3
    if "apply" not in call and "chunks" not in call:
        assert set(counts) == set(range(30))


def test_an_executors_other_futures_are_unharmed(fork, tmp_path):
    function = Fatal(tmp_path / "runs", {3: "exit code 7"}, once=False)
    with cloudpool.Executor(2, fork) as executor:
        futures = [executor.submit(function, x) for x in range(10)]
        for x, future in enumerate(futures):
            if x != 3:
                assert future.result(WAIT_S) == x * x
        with pytest.raises(WorkerLostError, match=r"The call Fatal\(3\) .* exit code 7"):
            futures[3].result(WAIT_S)
        results = executor.map(function, range(10), chunksize=2)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(WorkerLostError, match="exit code 7"):
            next(results)


def test_of_a_long_chunk_only_the_guilty_item_fails(fork, tmp_path):
    function = Fatal(tmp_path / "runs", {700: "SIGSEGV"}, once=False)
    with fork.Pool(2) as pool:
        with pytest.raises(WorkerLostError, match="Item 700 ") as lost:
            pool.map(function, range(1000), chunksize=500)
        assert lost.value.attempts == 3
    pool.join()
    counts = runs(function.path)
    assert counts[700] == 3
    assert all(counts[x] == 1 for x in range(500))
    assert all(counts[x] == 2 for x in range(500, 700))
    assert all(counts[x] == 1 for x in range(701, 1000))


def test_without_retries_nothing_runs_twice(fork, tmp_path, retries):
    retries(0)
    function = Fatal(tmp_path / "runs", {4: "SIGKILL"}, once=False)
    with fork.Pool(2) as pool:
        results = pool.imap(function, range(8))
        assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
        with pytest.raises(WorkerLostError, match=r"Item 4 \(4\) of a Pool's call ended .* it: the last"):
            next(results)
        assert list(results) == [25, 36, 49]
        assert runs(function.path) == dict.fromkeys(range(8), 1)
        with pytest.raises(WorkerLostError, match="One of the items 4 to 7 "):
            pool.map(function, range(8), chunksize=4)
    pool.join()
    assert max(runs(function.path).values()) == 2


def sized(function, size, x):
    """A result of about that size."""
    return function(x), bytes(size)


@pytest.mark.parametrize("size", [0, 4000, 30_000, 100_000])
def test_what_a_worker_had_done_before_it_died_is_not_done_again(fork, monkeypatch, tmp_path, size):
    """Results of short tasks go together: those that had not gone are in its last words, if they are small."""
    monkeypatch.setattr(hand, "HELD_S", 60.0)
    function = Fatal(tmp_path / "runs", {11: "SIGKILL", 17: "exit code 7"}, once=True)
    with fork.Pool(1) as pool:
        os.kill(pool._pool[0].pid, signal.SIGSTOP)
        pending = pool.map_async(functools.partial(sized, function, size), range(40), chunksize=1)
        until(lambda: pool._inqueue.waiting() >= 39)
        os.kill(pool._pool[0].pid, signal.SIGCONT)
        assert pending.get(WAIT_S) == [(n * n, bytes(size)) for n in range(40)]
    pool.join()
    assert runs(function.path) == {n: 2 if n in function.deaths else 1 for n in range(40)}


def cut_or_die(path, x):
    log(path, x)
    if x == 0:  # its own connection: what is sent next may or may not arrive
        session = sessions.current()
        with closing(session.dial()) as store:
            store.call("CLIENT", "KILL", "ID", session.channel()._connection.client_id)
    if x == 1 and runs(path)[1] == 1:
        os._exit(3)
    return x


@pytest.mark.parametrize("tries", [0, 2])
def test_a_result_that_a_cut_kept_from_the_server_is_found_after_a_death(fork, tmp_path, retries, tries):
    retries(tries)
    with fork.Pool(1) as pool:
        for attempt in range(3):
            path = tmp_path / f"runs.{attempt}"
            list(pool.imap(square, range(300)))  # short ones: what follows is taken together
            for n in range(100):
                pool.apply_async(square, (n,))
            results = [pool.apply_async(cut_or_die, (path, x)) for x in range(4)]
            assert [results[x].get(WAIT_S) for x in (0, 2, 3)] == [0, 2, 3]
            if tries:
                assert results[1].get(WAIT_S) == 1
            else:
                with pytest.raises(WorkerLostError):
                    results[1].get(WAIT_S)
            assert runs(path) == {0: 1, 1: 2 if tries else 1, 2: 1, 3: 1}
    pool.join()


# -- what it printed last ---------------------------------------------------------------------------------------------


def talk_and_die(lines):
    for n in range(lines):
        print("line", n, file=sys.stdout if n % 2 else sys.stderr)
    die("exit code 7")


def test_the_last_lines_are_shown_and_go_where_they_always_went(fork, capfd):
    with fork.Pool(1) as pool, pytest.raises(WorkerLostError) as lost:
        pool.apply(talk_and_die, (2000,))
    pool.join()
    assert lost.value.last_lines == tuple(f"line {n}" for n in range(1990, 2000))
    assert lost.value.about == "talk_and_die(2000)"
    assert capfd.readouterr().err.count("line 0\n") == 3


def test_a_crash_shows_where_it_was(tmp_path):
    """In a program of its own: pytest has faulthandler write elsewhere."""
    script = tmp_path / "script.py"
    script.write_text(
        "import ctypes, cloudpool\n"
        "def crash_here(x): ctypes.string_at(0)\n"
        "if __name__ == '__main__':\n"
        "    with cloudpool.Pool(1) as pool:\n"
        "        try: pool.apply(crash_here, ('abc',))\n"
        "        except RuntimeError as error: print(error)\n"
    )
    done = run(script)
    assert done.stderr == ""
    for said in (
        "crash_here('abc')",
        "SIGSEGV",
        "Segmentation fault",
        f'File "{script}", line 2 in crash_here',
    ):
        assert said in done.stdout


# -- killed from outside ----------------------------------------------------------------------------------------------


class Killer(threading.Thread):
    """Kills one of a pool's workers every tenth of a second, more or less."""

    def __init__(self, pool, rng, every_s=0.1):
        super().__init__()
        self.workers, self.rng, self.every_s = pool._pool, rng, every_s
        self.killed = 0
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(self.rng.uniform(0.5, 1.5) * self.every_s):
            worker = self.rng.choice(self.workers)
            if worker.exitcode is None:
                self.rng.choice([worker.kill, worker.terminate])()
                self.killed += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


class Counted:
    def __init__(self, path):
        self.path = str(path)

    def __call__(self, x):
        log(self.path, x)
        return x * x


@pytest.mark.parametrize("chunksize", [1, None])
def test_of_20000_tasks_none_is_lost_or_doubled_while_workers_are_killed_all_the_time(
    fork, tmp_path, rng, chunksize
):
    with fork.Pool(2) as pool, Killer(pool, rng) as killer:
        for number in itertools.count():
            before, function = killer.killed, Counted(tmp_path / str(number))
            if chunksize is None:
                results = pool.map(function, range(20_000))
            else:
                results = list(pool.imap_unordered(function, range(20_000), chunksize))
            killed = killer.killed - before
            assert len(results) == 20_000
            assert sorted(results) == [x * x for x in range(20_000)]
            counts = runs(function.path)
            assert set(counts) == set(range(20_000))
            if (
                chunksize == 1
            ):  # a killed worker had one in the midst, others done and perhaps not yet heard of
                assert sum(counts.values()) - 20_000 <= 8 * (killed + 1)
            if killer.killed > 3:  # a fast machine is done before anything has been killed
                break
    pool.join()


def blocked(store):
    """Who waits in a BLMOVE now; its name alone may be of the last one."""
    clients = store.call("CLIENT", "LIST").splitlines()
    return [client for client in clients if b" flags=b" in client and b" cmd=blmove " in client]


def test_a_task_that_its_worker_had_not_begun_costs_no_attempt(fork, retries):
    """A worker is stopped while it waits: the server gives it the task all the same."""
    retries(0)
    with fork.Pool(1) as pool:
        assert pool.apply(square, (2,)) == 4
        session = sessions.current()
        running = session.keys.base(pool._inqueue._id) + "running:*"
        with closing(session.dial()) as store:
            until(lambda: len(blocked(store)) == 2)  # the root, for results, and the worker
            os.kill(pool._pool[0].pid, signal.SIGSTOP)
            pending = pool.apply_async(square, (3,))
            until(lambda: store.call("KEYS", running))
            os.kill(pool._pool[0].pid, signal.SIGKILL)
        assert pending.get(WAIT_S) == 9
    pool.join()


# -- initializers -----------------------------------------------------------------------------------------------------


def failing_initializer(path, how):
    log(path, os.getpid())
    if how == "raises":
        raise ValueError("no such model")
    print("the model is not there")
    die(how)


@pytest.mark.parametrize(
    ("how", "most"), [("raises", 20), ("exit code 7", 20), ("exit code 9", 20), ("SIGKILL", 60)]
)
def test_an_initializer_that_fails_is_one_error_and_no_storm_of_processes(fork, tmp_path, how, most):
    path = str(tmp_path / "runs")
    with fork.Pool(2, failing_initializer, (path, how)) as pool:
        with pytest.raises(ValueError if how == "raises" else WorkerLostError) as first:
            pool.map_async(square, range(100)).get(WAIT_S)
        for call in CALLS.values():
            with pytest.raises(type(first.value)):
                call(pool, square, range(100))
    pool.join()
    assert len(runs(path)) <= most
    if how == "raises":
        assert "failing_initializer" in str(first.value.__cause__)
    else:
        assert how in str(first.value)
        assert "the model is not there" in str(first.value)


def test_an_executors_initializer_that_fails_fails_each_future(fork, tmp_path):
    path = str(tmp_path / "runs")
    with cloudpool.Executor(2, fork, failing_initializer, (path, "raises")) as executor:
        futures = [executor.submit(square, x) for x in range(3000)]
        assert {str(future.exception(WAIT_S)) for future in futures} == {"no such model"}
    assert len(runs(path)) <= 20


# -- what does not pickle, or unpickle --------------------------------------------------------------------------------


def fail(*_):
    raise RuntimeError("on purpose")


class Unpicklable:
    __reduce__ = fail


class Explosive:
    """Pickles, and cannot be unpickled."""

    def __reduce__(self):
        return fail, ()

    def __call__(self, x):
        return x


class Deadly:
    """Unpickling it ends the process."""

    def __reduce__(self):
        return os._exit, (7,)


class Demanding(Exception):
    def __init__(self, one, two):
        super().__init__(one)


class Holding(Exception):
    """Holds what cannot be pickled."""

    def __init__(self):
        super().__init__(Unpicklable())


def misbehave(what):
    if what == "result":
        return Unpicklable()
    if what == "result of no return":
        return Explosive()
    if what == "exception":
        raise Holding
    if what == "exception of no return":
        raise Demanding(1, 2)
    return what


@pytest.mark.parametrize("what", ["result", "result of no return", "exception", "exception of no return"])
def test_what_cannot_come_back_fails_its_item_only(ctx, what):
    with ctx.Pool(2) as pool:
        results = pool.imap(misbehave, ["a", what, "b"])
        assert next(results) == "a"
        with pytest.raises(cloudpool.pool.MaybeEncodingError) as failed:
            next(results)
        assert next(results) == "b"
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.join()
    if what.startswith("exception"):
        assert "in misbehave" in str(failed.value.__cause__)


def test_an_argument_that_cannot_be_unpickled_fails_its_item_only(ctx):
    with ctx.Pool(2) as pool:
        results = pool.imap(str, [1, Explosive(), 3])
        assert next(results) == "1"
        with pytest.raises(RuntimeError, match="on purpose"):
            next(results)
        assert next(results) == "3"
    pool.join()


def test_an_argument_whose_unpickling_ends_the_process_ends_the_workers_only(fork):
    with fork.Pool(2) as pool:
        results = pool.imap(id, [1, Deadly(), 3])
        assert isinstance(next(results), int)
        with pytest.raises(WorkerLostError, match=r"Item 1 .* exit code 7"):
            next(results)
        assert isinstance(next(results), int)
        with pytest.raises(
            WorkerLostError, match=r"One of the items 3 to 5 .* in each of 3 attempts.* exit code 7"
        ):
            pool.map(id, [1, 2, 3, 4, Deadly(), 6], chunksize=3)
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.join()


def test_a_function_that_cannot_be_unpickled_fails_its_call_with_the_traceback(ctx):
    with ctx.Pool(2) as pool:
        with pytest.raises(RuntimeError, match="on purpose") as failed:
            pool.map(Explosive(), range(10))
        assert "in fail" in str(failed.value.__cause__)
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.join()


def interrupt_itself(x):
    if x == 1:
        raise KeyboardInterrupt
    return x


def test_what_is_no_exception_ends_the_worker_as_with_the_stdlib(fork):
    """There the call waits for ever; here it is a death like any other."""
    with fork.Pool(2) as pool:
        results = pool.imap(interrupt_itself, range(3))
        assert next(results) == 0
        with pytest.raises(WorkerLostError, match="exit code 1 ") as lost:
            next(results)
        assert next(results) == 2
        assert lost.value.last_lines[-1] == "KeyboardInterrupt"
    pool.join()


# -- ends, while workers die ------------------------------------------------------------------------------------------


def get_pid(_):
    return os.getpid()


def test_workers_that_are_replaced_after_some_tasks_may_die_as_well(fork, rng):
    with fork.Pool(2, maxtasksperchild=3) as pool:
        with Killer(pool, rng, 0.02):
            pids = pool.map(get_pid, range(300), chunksize=1)
        assert max(collections.Counter(pids).values()) <= 3
        assert len(pids) == 300
    pool.join()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_ends_while_its_workers_die(fork, rng, end):
    for _ in range(3):
        pool = fork.Pool(3)
        result = pool.map_async(square, range(1000), chunksize=1)
        with Killer(pool, rng, 0.02) as killer:
            killer.over.wait(rng.uniform(0, 0.1))
            getattr(pool, end)()
            pool.join()
        assert not any(worker.is_alive() for worker in pool._pool)
        if end == "close":
            assert result.get(0) == [x * x for x in range(1000)]


def test_a_pool_that_nobody_refers_to_goes_while_its_workers_die(fork, rng):
    for _ in range(5):
        pool = fork.Pool(3)
        workers = pool._pool
        with Killer(pool, rng, 0.005) as killer:
            killer.over.wait(rng.uniform(0, 0.1))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an unclosed pool; a fork with threads, by the supervisor
                pool = gc.collect()
        until(lambda workers=workers: not any(worker.is_alive() for worker in workers))


def test_terminate_ends_a_worker_that_is_stopped(fork):
    pool = fork.Pool(2)
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    os.kill(pool._pool[0].pid, signal.SIGSTOP)
    pool.terminate()
    pool.join()
    assert not any(worker.is_alive() for worker in pool._pool)


# -- slow is not dead -------------------------------------------------------------------------------------------------


def stop(path):
    log(path, os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
    return "went on"


def test_a_stopped_worker_is_not_dead_and_others_go_on(fork, tmp_path):
    path = str(tmp_path / "runs")
    with fork.Pool(2) as pool:
        stopped = pool.apply_async(stop, (path,))
        until(lambda: os.path.exists(path))
        assert pool.map(square, range(500), chunksize=1) == [x * x for x in range(500)]
        assert not stopped.ready()
        [pid] = runs(path)
        os.kill(pid, signal.SIGCONT)
        assert stopped.get(WAIT_S) == "went on"
        assert runs(path) == {pid: 1}
    pool.join()


def test_a_worker_that_keeps_the_gil_for_longer_than_a_lease_is_not_dead(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import ctypes, os, cloudpool\n"
        "def keep_the_gil(seconds):\n"
        "    ctypes.PyDLL(None).sleep(seconds)\n"
        "    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    with cloudpool.Pool(1) as pool:\n"
        "        print(pool.apply(keep_the_gil, (2,)) == pool._pool[0].pid)\n"
    )
    done = run(script, CLOUDPOOL_LEASE_S="0.5", CLOUDPOOL_RETRIES="0")
    assert (done.stdout, done.stderr) == ("True\n", "")


# -- pools within, and the stdlib's -----------------------------------------------------------------------------------


def have_a_pool(fd, task):
    pool = cloudpool.Pool(2)
    os.write(fd, " ".join(str(worker.pid) for worker in pool._pool).encode())
    if task:
        pool.map(time.sleep, [1000] * 4)
    time.sleep(1000)


@pytest.mark.parametrize("task", [True, False])
def test_the_workers_of_a_killed_processs_pool_end_too(fork, task):
    read, write = os.pipe()
    owner = fork.Process(target=have_a_pool, args=(write, task))
    owner.start()
    workers = list(map(int, os.read(read, 100).split()))
    owner.kill()
    owner.join()
    until(lambda: not any(map(lives, workers)))
    os.close(read)
    os.close(write)


def die_on_three(x):
    if x == 3:
        die("SIGKILL")
    return x


def test_the_stdlibs_executor_breaks_at_once_and_does_not_hang(ctx):
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        futures = [executor.submit(die_on_three, x) for x in range(200)]
        outcomes = [future.exception(WAIT_S) for future in futures]
        assert {type(outcome) for outcome in outcomes[3:]} >= {process.BrokenProcessPool}
        assert isinstance(outcomes[3], process.BrokenProcessPool)
        with pytest.raises(process.BrokenProcessPool):
            executor.submit(die_on_three, 1)
    with ProcessPoolExecutor(2, mp_context=ctx) as executor, pytest.raises(process.BrokenProcessPool):
        list(executor.map(die_on_three, range(200), timeout=WAIT_S))
