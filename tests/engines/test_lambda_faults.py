"""What goes wrong between a program and its environments on AWS Lambda: exact results, or an error that says what it was; and
nothing is left running (the fixture `redis` sees to that).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from functions import Endpoint


@pytest.fixture(scope="module")
def function(functions: Any) -> str:
    return functions.make()


@pytest.fixture
def endpoint(functions: Any) -> Iterator[Endpoint]:
    """Another way to the API, that can be bad."""
    endpoint = Endpoint(boto3.client("lambda").meta.endpoint_url)
    yield endpoint
    endpoint.close()


@pytest.fixture
def by_endpoint(endpoint: Endpoint, program: Any, function: str) -> Callable[..., Any]:
    return lambda source, **chosen: program(source, function, AWS_ENDPOINT_URL=endpoint.url, **chosen)


MAP = """
import cloudpool as multiprocessing, os, time

def work(x):
    time.sleep(0.02)
    return x * x, os.getpid()

if __name__ == "__main__":
    with multiprocessing.Pool(4) as pool:
        results = pool.map(work, range(200), chunksize=1)
    print([x for x, _ in results] == [x * x for x in range(200)], len({pid for _, pid in results}))
"""


def exact(program: Any) -> int:
    """It ends well; how many workers it had."""
    code, said, complained = program.end()
    assert code == 0, complained
    is_exact, workers = said.split()
    assert is_exact == "True"
    return int(workers)


TWICE = "from cloudpool.host import session as sessions\n" + MAP.replace(
    "    print(",
    """\
        while pool.stats().cost.invocations < 8:  # four hosts, and as many that found their number taken
            time.sleep(0.05)
        session = sessions.current()
        hosts = int(session.channel().call("GET", session.keys.hosts)) - 1  # without this one
    print(hosts, """,
)


def test_invocations_that_are_delivered_twice(by_endpoint, endpoint):
    endpoint.twice = True
    code, said, complained = by_endpoint(TWICE).end()
    assert code == 0, complained
    hosts, is_exact, workers = said.split()
    assert (is_exact, int(workers) <= 4) == ("True", True)
    assert int(hosts) <= len(set(endpoint.invoked))


def test_invocations_that_are_never_delivered(by_endpoint, endpoint):
    """They are asked for again."""
    endpoint.never = 4
    exact(by_endpoint(MAP))
    assert max(map(endpoint.invoked.count, endpoint.invoked)) > 1


def test_invocations_that_are_delivered_late(by_endpoint, endpoint):
    """Those that were asked for again in between have come first, or the late ones have: each number has one host."""
    endpoint.late_s = 12
    exact(by_endpoint(MAP))


def test_invocations_that_come_when_all_is_over(by_endpoint, endpoint):
    """They return at once: see the fixture `redis`."""
    endpoint.late_s = 3
    running = by_endpoint(MAP)
    while not endpoint.invoked:
        time.sleep(0.01)
    running.process.kill()
    running.process.wait()


def test_too_many_requests(by_endpoint, endpoint):
    endpoint.busy = 6
    exact(by_endpoint(MAP))
    assert len(endpoint.invoked) >= 6 + 1


def test_endpoint_that_is_down_for_some_time(by_endpoint, endpoint):
    """TEST_DOWN_S: how long."""
    endpoint.is_down = True
    running = by_endpoint(MAP)
    time.sleep(float(os.environ.get("TEST_DOWN_S", "6")))  # the time is the point
    endpoint.is_down = False
    exact(running)


def test_function_that_may_have_three_environments(program, functions):
    """The others wait in Lambda's queue, and come when there is nothing left to do for them."""
    assert exact(program(MAP.replace("Pool(4)", "Pool(8)"), functions.make(concurrency=3))) <= 3


KILLED = """
import cloudpool as multiprocessing, os, random, signal, time

def begin(value, lock):
    global kills, kills_lock
    kills, kills_lock = value, lock

def work(x):
    time.sleep(0.02)
    if x in doomed:
        with kills_lock:
            is_first = x not in kills[:]
            if is_first:
                kills[doomed.index(x)] = x
        if is_first:
            os.kill(-1, signal.SIGKILL)  # all of the environment: its runtime, too
            os.kill(os.getpid(), signal.SIGKILL)
    return x * x

doomed = random.Random(7).sample(range(1, 150), 3)

if __name__ == "__main__":
    lock, kills = multiprocessing.Lock(), multiprocessing.Array("i", 3, lock=False)
    with multiprocessing.Pool(4, begin, (kills, lock)) as pool:
        results = pool.map(work, range(150), chunksize=1)
    print(results == [x * x for x in range(150)], sorted(kills) == sorted(doomed))
"""


def test_environments_that_are_killed(program, functions):
    """Nobody tells of it: they are silent for a lease, and their tasks run elsewhere."""
    code, said, complained = program(KILLED, functions.make(), lease_s=3).end()
    assert (code, said) == (0, "True True\n"), complained
