"""However the agent or the root ends, nothing waits for ever and nothing is left."""

from __future__ import annotations

import os
import signal
import time

import pytest
from fault_programs import BLOCKED, BLOCKED_CALLS
from waiting import until

# -- the agent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["embedded", "own"])
def test_every_blocked_call_is_told_of_the_agents_death_and_nothing_is_left(kind, launch, serve):
    server = serve() if kind == "own" else None
    program = launch(BLOCKED, **({"redis_url": server.url} if server else {}))
    waiting = program.lines(BLOCKED_CALLS)
    assert {line.split()[0] for line in waiting} == {"waits"}
    folder = program.folder()
    os.kill(program.agent(), signal.SIGKILL)
    told = program.lines(BLOCKED_CALLS, 5 + 10)
    wrong = [line for line in told if "agent" not in line or "SessionLostError" not in line]
    assert [line for line in wrong if not line.startswith("Executor Broken")] == []
    assert program.line() == "all"
    assert not os.path.exists(folder)
    if server:
        assert server.ask("KEYS", "cp:*") == []
    program.watch.hold()
    status, said = program.end()
    assert program.watch.await_ends() == set()
    assert status == 0, said


# -- the root -------------------------------------------------------------------------------------------------------

# A root with children that are hard to end, each of which says that it is there.
STUBBORN = """
import ctypes, os, signal, subprocess, sys, threading
import cloudpool as multiprocessing

def say(*words):
    os.write(1, " ".join(map(str, words)).encode() + b"\\n")

def ignores(event):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("ignores", os.getpid())
    event.wait()

def stopped(event):
    say("stopped", os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)

def native(event):
    say("native", os.getpid())
    ctypes.PyDLL(None).sleep(100)  # holds the GIL: no handler of Python's runs

def nested(event):
    pool = multiprocessing.Pool(2)
    pool.map_async(sleep, range(2))
    say("nested", os.getpid())
    event.wait()

def sleep(_):
    say("worker", os.getpid())
    threading.Event().wait()

def restless(event):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("restless", os.getpid())
    while True:
        other = multiprocessing.Process(target=event.wait)
        other.start()
        other.join(0.2)

def forked(event):
    if os.fork() == 0:
        say("forked", os.getpid())
        event.wait()
    os._exit(0)

def main(ending):
    context = multiprocessing.get_context("fork")
    event = context.Event()
    for target in (ignores, stopped, native, nested, restless, forked):
        context.Process(target=target, args=(event,)).start()
    sys.stdin.readline()
    if ending == "os._exit":
        os._exit(4)
    if ending == "wait":
        event.wait()

if __name__ == "__main__":
    main(sys.argv[1])
"""
STUBBORN_CHILDREN = 8  # that say so


@pytest.mark.parametrize("ending", ["os._exit", "SIGTERM", "SIGKILL", "Ctrl-C"])
def test_nothing_survives_the_root_however_stubborn(ending, launch):
    program = launch(STUBBORN, ending if ending == "os._exit" else "wait")
    program.lines(STUBBORN_CHILDREN)
    program.watch.folder = folder = program.folder()
    assert program.watch.hold() >= STUBBORN_CHILDREN + 3  # root, agent, server
    program.tell()
    if ending == "Ctrl-C":  # as with the stdlib the root waits for its children, of which some take no notice
        until(lambda: os.killpg(program.pid, signal.SIGINT) or program.has_ended())
    elif ending != "os._exit":
        os.kill(program.pid, getattr(signal, ending))
    assert program.watch.await_ends(20) == set()
    until(lambda: program.watch.processes() == set())  # those too that were started meanwhile
    assert not os.path.exists(folder)


def test_ctrl_c_of_a_program_with_nested_pools_leaves_nothing_and_one_traceback_of_it(launch):
    program = launch(NESTED)
    program.lines(4)
    program.watch.folder = folder = program.folder()
    program.watch.hold()
    os.killpg(program.pid, signal.SIGINT)
    assert program.watch.await_ends(15) == set()
    assert not os.path.exists(folder)
    _, said = program.end()
    assert said.count("in main") <= 1


NESTED = """
import os, threading
import cloudpool as multiprocessing

def sleep(_):
    os.write(1, b"worker\\n")
    threading.Event().wait()

def nested(event):
    with multiprocessing.Pool(2) as pool:
        pool.map(sleep, range(2))

def main():
    event = multiprocessing.Event()
    processes = [multiprocessing.Process(target=nested, args=(event,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

if __name__ == "__main__":
    main()
"""


# -- processes that stand still ---------------------------------------------------------------------------------------

STILL = """
import ctypes, os, signal, sys
import cloudpool as multiprocessing

def hold(lock, said):
    with lock:
        said.send("holds")
        ctypes.PyDLL(None).usleep(3_000_000)
        said.send("still holds")

def main():
    context = multiprocessing.get_context("fork")
    lock, (hears, says) = context.Lock(), context.Pipe(False)
    process = context.Process(target=hold, args=(lock, says))
    process.start()
    assert hears.recv() == "holds"
    print(process.pid, flush=True)
    assert not lock.acquire(timeout=2)  # twice the lease
    assert hears.recv() == "still holds"
    assert lock.acquire(timeout=10)
    process.join()
    assert process.exitcode == 0
    print("well", flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("how", ["it holds the GIL", "it is stopped"])
def test_process_that_stands_still_for_longer_than_a_lease_is_not_taken_for_dead(how, launch):
    program = launch(STILL, lease_s="1")
    pid = int(program.line())
    if how == "it is stopped":
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2.5)  # the time is the fault
        os.kill(pid, signal.SIGCONT)
    assert program.line() == "well"
    assert program.end() == (0, "")
