"""Hosts that are environments of a function: on AWS Lambda itself, or on what AWS_ENDPOINT_URL names.

TEST_LAMBDA is the address at which functions reach servers of this machine; without it these tests are skipped.
"""

from __future__ import annotations

import base64
import json
import re
import signal
from typing import Any

import pytest
from waiting import until

from cloudpool.host.card import Card, python
from cloudpool.host.session import Key
from cloudpool.settings import ServerUrl


@pytest.fixture(scope="module")
def function(functions: Any) -> str:
    return functions.make()


@pytest.fixture(scope="module")
def short_lived(functions: Any) -> str:
    return functions.make(timeout=7)


MAIN = """
import cloudpool as multiprocessing, os, signal, socket, sys

def work(queue, lock, value):
    with lock:
        value.value += 1
    queue.put((socket.gethostname(), os.getpid(), os.path.exists("/dev/shm")))

def square(x):
    return x * x

def end(how):
    if how == "exit": sys.exit(3)
    os.kill(os.getpid(), signal.SIGKILL)

def main():
    queue, lock, value = multiprocessing.Queue(), multiprocessing.Lock(), multiprocessing.Value("i")
    far = [multiprocessing.Process(target=work, args=(queue, lock, value)) for _ in range(3)]
    for process in far: process.start()
    said = [queue.get() for _ in far]
    for process in far: process.join()
    print([process.exitcode for process in far], value.value, {shm for _, _, shm in said})
    print({pid for _, pid, _ in said} == {p.pid for p in far})
    for how in ("exit", "kill"):
        process = multiprocessing.Process(target=end, args=(how,))
        process.start()
        process.join()
        print(process.exitcode)
    with multiprocessing.Pool(3) as pool:
        print(pool.map(square, range(50)) == [x * x for x in range(50)])
        print(pool.apply(len, (b"x" * 10_000_000,)))

if __name__ == "__main__":
    main()
"""


def test_processes_pools_queues_and_exit_codes(program, function):
    code, said, complained = program(MAIN, function).end()
    assert (code, complained) == (0, "")
    assert said.splitlines() == ["[0, 0, 0] 3 {False}", "True", "3", str(-signal.SIGKILL), "True", "10000000"]


def test_no_server_can_be_on_this_machine(program, function):
    code, said, complained = program(MAIN, function, redis_url="").end()
    assert (code, said) == (1, "")
    assert complained.splitlines()[-2:] == [
        (
            "cloudpool.errors.RunnerError: hosts of lambda reach no server of this machine, and none of their own: "
            "set redis_url (CLOUDPOOL_REDIS_URL) to a"
        ),
        "Redis or Valkey that they and this program reach, as in rediss://USER:PASSWORD@HOST:6379.",
    ]


ONE = """
import cloudpool as multiprocessing

if __name__ == "__main__":
    process = multiprocessing.Process(target=print)
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_function_that_is_not_there(program):
    code, said, complained = program(ONE, "cloudpool-nobody-has-this").end()
    assert (code, said) == (0, "255\n")
    assert complained.startswith("cloudpool: there is no function cloudpool-nobody-has-this in ")
    assert complained.endswith("or name another: CLOUDPOOL_LAMBDA_FUNCTION, CLOUDPOOL_LAMBDA_REGION.\n")


HANDED_OVER = """
import cloudpool as multiprocessing, os, socket, time

def slowly(x):
    time.sleep(0.5)
    return x * x, socket.gethostname() + open("/proc/sys/kernel/random/boot_id").read(), os.getpid()

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        results = pool.map(slowly, range(40), chunksize=1)
    print([x for x, _, _ in results] == [x * x for x in range(40)], len({pid for _, _, pid in results}) > 2)
"""


def test_pool_that_outlives_its_environments(program, short_lived):
    """Ten seconds of work for two workers whose environments live for seven: fresh ones go on."""
    code, said, complained = program(HANDED_OVER, short_lived).end()
    assert (code, said) == (0, "True True\n"), complained


TOO_LONG = """
import cloudpool as multiprocessing, time
from cloudpool.errors import WorkerLostError

def take_long(x=0):
    print("begins", flush=True)
    time.sleep(100)

if __name__ == "__main__":
    process = multiprocessing.Process(target=take_long)
    process.start()
    process.join()
    print(process.exitcode)
    with multiprocessing.Pool(1) as pool:
        try:
            pool.map(take_long, [1])
        except WorkerLostError as error:
            print(error)
"""


def test_process_and_task_that_would_outlive_their_deadline(program, short_lived):
    code, said, complained = program(TOO_LONG, short_lived, retries=0).end()
    assert code == 0
    lines = said.splitlines()
    assert lines[:3] == ["begins", str(-signal.SIGTERM), "begins"]
    assert "died by SIGTERM (at the deadline of its function, which may run for 7 s)" in lines[3]
    assert complained.count("at the deadline of its function, which may run for 7 s.") == 2
    assert complained.count("CLOUDPOOL_START_METHOD=kubernetes") == 2


HUNGRY = """
import cloudpool as multiprocessing

def eat():
    eaten = [bytearray(b"x" * 2**20) for _ in range(1000)]

if __name__ == "__main__":
    process = multiprocessing.Process(target=eat)
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_memory_limit_is_in_the_error(program, functions):
    code, said, complained = program(HUNGRY, functions.make(memory=192)).end()
    assert (code, said) == (0, f"{-signal.SIGKILL}\n")
    assert re.fullmatch(
        r"cloudpool: a process was killed for want of memory: its host has 192 MiB(, and has used 1\d\d)? "
        r"\(CLOUDPOOL_LAMBDA_MEMORY\)\.\n",
        complained,
    )


UNDER_WAY = """
import cloudpool as multiprocessing, time

def slowly(x):
    time.sleep(0.2)
    return x * x

if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool:
        results = pool.imap(slowly, range(500))
        print(next(results), flush=True)
        list(results)
"""


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_root_that_ends_leaves_nothing_running(program, function, redis, how):
    """Within a few heartbeats: the environments' connections are gone; and no invocation runs again."""
    running = program(UNDER_WAY, function)
    assert running.line() == "0"
    assert redis.clients()
    running.process.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    until(lambda: not redis.left(), 15, redis.left)


OWN = """
import cloudpool as multiprocessing, os

def add(number, total, lock, queue):
    with lock:
        total.value += number
    queue.put(number)

def square(x):
    return x * x

def handle(event, context):
    ctx = multiprocessing.get_context("fork")
    total, lock, queue = ctx.Value("i"), ctx.Lock(), ctx.Queue()
    processes = [ctx.Process(target=add, args=(n, total, lock, queue)) for n in range(4)]
    for process in processes: process.start()
    numbers = sorted(queue.get() for _ in processes)
    for process in processes: process.join()
    with ctx.Pool(2) as pool:
        squares = pool.map(square, range(20))
    return [os.path.exists("/dev/shm"), total.value, numbers, squares == [x * x for x in range(20)]]
"""


def test_program_that_starts_in_a_function(functions, reached_server):
    """On the function's own cores, where the stdlib has no locks: with the server that starts by itself, and with another."""
    for url in ("", reached_server.url):
        environment = {"CLOUDPOOL_REDIS_URL": url, "CLOUDPOOL_ALLOW_PLAIN_TCP": "1"} if url else {}
        function = functions.make(handler="own.handle", files={"own.py": OWN}, environment=environment)
        for _ in range(2):  # it has been frozen in between
            assert json.loads(functions.invoke(function, {})) == [False, 6, [0, 1, 2, 3], True]
        functions.delete(function)  # the last invocation's session may still be there, frozen


def test_function_says_why_it_cannot_be_a_host(functions, function):
    """Of invocations that are events nobody hears: one that is waited for is asked."""
    card = Card(
        "none", ServerUrl(f"redis://:secret@{functions.address}:1/0"), Key(b"x" * 32), 5.0, False, 5.0, 1, "lambda", python()
    )  # fmt: skip
    for known, why in (
        (card, "it cannot use the server: "),
        (card._replace(python="2.7"), "this host has Python "),
    ):
        event = {"card": base64.b64encode(known.encode()).decode(), "is_trial": True}
        answer = json.loads(functions.invoke(function, event))
        assert answer["said"].startswith(why)
        assert "secret" not in answer["said"]
