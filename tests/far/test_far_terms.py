"""Hosts that have only so long, as functions' environments have: the handler of a function on this machine, with a deadline."""

from __future__ import annotations

import os
import signal

import pytest


@pytest.fixture
def limited(script, tcp_server):
    """limited(source, TEST_LIMIT_S=4, ...): a program whose hosts have that long."""
    return lambda source, **chosen: script(source, TEST_SLOTS=1, redis_url=tcp_server.url, **chosen)


HANDED_OVER = """
import cloudpool as multiprocessing, os, time

def slowly(x):
    time.sleep(0.8)
    return x * x, os.getpid()

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        results = pool.map(slowly, range(40), chunksize=1)
    print([x for x, _ in results] == [x * x for x in range(40)], len({pid for _, pid in results}) > 2)
"""


def test_pool_that_outlives_its_hosts(limited):
    """Sixteen seconds of work for two workers whose hosts live for twelve: fresh ones go on, and no task is cut off."""
    code, said, _ = limited(HANDED_OVER, TEST_LIMIT_S=12, retries=0).end()
    assert (code, said) == (0, "True True\n")


# By how far a host comes: a process is declined there, it ends before it is ready, or with what it has just been given.
TOO_SHORT = (
    "RunnerError: hosts of subprocess come to their deadline before a process has started there: give them more time.",
    "RunnerError: a host ended before it was ready: ",
    "RunnerError: no host has come within 10 s (start_timeout_s)",
    "WorkerLostError: The workers of this Pool end before their first task, one after the other, the last one with its host (",
)


def test_hosts_that_live_too_short_for_any_work_are_told_of(limited):
    code, said, complained = limited(TWO, TEST_LIMIT_S=0.5, start_timeout_s=10).end()
    assert (code, said) == (1, "")
    assert complained.rpartition("\ncloudpool.errors.")[2].startswith(TOO_SHORT), complained


TOO_LONG = """
import cloudpool as multiprocessing, os, time
from cloudpool.errors import WorkerLostError

def take_long(x):
    time.sleep(x)
    return x * x

if __name__ == "__main__":
    process = multiprocessing.Process(target=take_long, args=(100,))
    process.start()
    process.join()
    print(process.exitcode)
    with multiprocessing.Pool(1) as pool:
        try:
            pool.map(take_long, [100])
        except WorkerLostError as error:
            print(error)
"""


def test_process_and_task_that_would_outlive_their_host(limited):
    program = limited(TOO_LONG, TEST_LIMIT_S=4, retries=0)
    code, said, complained = program.end()
    lines = said.splitlines()
    assert (code, lines[0]) == (0, str(-signal.SIGTERM))
    assert "died by SIGTERM (at the deadline of its function, which may run for 4 s)" in lines[1]
    # Where all is slow, a fresh worker that has nothing to do may be warned as well.
    assert complained.count("SIGTERM in") == complained.count("CLOUDPOOL_OVERFLOW=") >= 2


OVERFLOW = """
import cloudpool as multiprocessing, os, sys, time

def work(x):
    is_far = os.getpid() > 2**22
    if x % 5 == 0 and is_far:
        time.sleep(100)
    return x * x, is_far

def call(*args, **kwds):
    return work(6), work(5), args, kwds

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        results = pool.map(work, range(12), chunksize=1)
        print([x for x, _ in results] == [x * x for x in range(12)], [x for x in range(12) if not results[x][1]])
        chunks = pool.imap(work, range(4, 8), chunksize=2)
        print(list(chunks))
        print(pool.apply(call, (1,), {"two": 2}))
        print(pool.starmap(pow, [(2, 3)]))
"""


def test_tasks_that_are_too_much_run_on_the_next_runner(limited):
    """At the first death; the others stay. One pool, one list of results."""
    # Time enough for a host that is slow to come to have some left.
    program = limited(OVERFLOW, TEST_LIMIT_S=10, overflow="subprocess,spawn")
    code, said, complained = program.end()
    assert code == 0, complained
    assert said.splitlines() == [
        "True [0, 5, 10]",
        "[(16, False), (25, False), (36, True), (49, True)]",
        "((36, False), (25, False), (1,), {'two': 2})",
        "[8]",
    ]


def test_a_chain_of_one_is_no_chain(script):
    code, _, complained = script(OVERFLOW, overflow="subprocess").end()
    assert code == 1
    assert "is not a list of two or more different start methods" in complained


@pytest.mark.skipif("AWS_LAMBDA_RUNTIME_API" in os.environ, reason="this is a function")
def test_a_function_that_is_called_by_somebody_else():
    from cloudpool import function

    class Context:
        aws_request_id, function_name, memory_limit_in_mb = "one", "name", "128"

        def get_remaining_time_in_millis(self) -> int:
            return 1000

    said = "this function is where hosts of cloudpool come from: it is invoked by programs with the start method lambda."
    assert function.handle({}, Context()) == {"number": None, "said": said}
    assert function.handle([], Context()) == {"number": None, "said": said}


TWO = """
import cloudpool as multiprocessing, os

def work(x):
    return x * x

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(work, range(20)) == [x * x for x in range(20)])
"""


REPORTED = (
    TWO
    + """
        import time
        from cloudpool.host import session, usage
        session = session.current()
        while len(found := usage.reports(session.channel().call, session.keys, session.sealer)) < 4:
            time.sleep(0.01)
        print(len(found), sum(report.is_over for report in found))
"""
)


def test_second_delivery_of_a_host_goes_without_effect_and_counts(limited):
    code, said, complained = limited(REPORTED, TEST_LIMIT_S=60, TEST_TWICE=1).end()
    assert (code, said) == (0, "True\n4 2\n")
    refusals = [f"host {number} of the session is another one, which came first." for number in (0, 1)]
    assert sorted(complained.splitlines()) == refusals
