"""Programs that faults are done to, and the servers that they use: real ones, found again by a mark in their environment."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from test_end_of_program import Watch

from cloudpool.store.binary import find_server
from cloudpool.store.embedded import READY
from cloudpool.store.wire import Connection, open_url


class Program:
    """A root program, and all that belongs to it. What it prints comes line by line."""

    def __init__(self, source: str, *arguments: str, within: tuple[str, ...] = (), **settings: str) -> None:
        self.watch = Watch()
        environment = self.watch.environment(**{f"CLOUDPOOL_{k.upper()}": v for k, v in settings.items()})
        self._process = subprocess.Popen(
            [*within, sys.executable, "-c", source, *arguments], env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self._process.pid
        self._said = b""

    def line(self, timeout_s: float = 30.0) -> str:
        """The next line that it, or a process of it, prints."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._said:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing was said within {timeout_s} s, after {self._said!r}"
            data = os.read(self._process.stdout.fileno(), 65536)
            assert data, f"it ended: {self._process.communicate()[1].decode()}"
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def lines(self, number: int, timeout_s: float = 30.0) -> list[str]:
        deadline = time.monotonic() + timeout_s
        lines: list[str] = []
        try:
            while len(lines) < number:
                lines.append(self.line(deadline - time.monotonic()))
        except AssertionError as error:
            raise AssertionError(f"{len(lines)} of {number} lines, {error}:\n" + "\n".join(lines)) from None
        return lines

    def tell(self, word: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        self._process.stdin.flush()

    def command_lines(self) -> dict[int, str]:
        found = {}
        for pid in self.watch.processes():
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            except OSError:  # it has gone meanwhile
                continue
        return found

    def agent(self) -> int:
        [pid] = [pid for pid, line in self.command_lines().items() if "cloudpool.host.boot" in line]
        return pid

    def server(self) -> int:
        """The embedded one's; the agent is its parent."""
        children = Path(f"/proc/{self.agent()}/task/{self.agent()}/children").read_text().split()
        return int(children[0])

    def folder(self) -> str:
        return next(word for word in self.command_lines()[self.agent()].split() if "/cloudpool-" in word)

    def has_ended(self, within_s: float = 0.2) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        return self._process.returncode is not None

    def end(self, timeout_s: float = 30.0) -> tuple[int, str]:
        """Wait for its end. Its exit status, and what it said to stderr."""
        _, said = self._process.communicate(b"\n", timeout=timeout_s)
        return self._process.returncode, said.decode()

    def stop(self) -> None:
        """Nothing of it is left after a test, whatever became of that."""
        for pid in self.watch.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()


def free_port() -> int:
    """One to which 10,000 can be added: a node of a cluster has another there."""
    while True:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:
            return port


class TestServer:
    """A server on a port of its own, which can be stopped and started again with, or without, its data."""

    __test__ = False

    def __init__(self, folder: Path, *options: str, within: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder, self.options = folder, options
        self._within = within  # a command that runs it
        folder.mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        command = [*self._within, find_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                   "--dir", str(self.folder), *self.options]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if READY in line:
                return
        raise AssertionError("the test's server did not start")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def connect(self) -> Connection:
        return open_url(self.url)

    def ask(self, *command: object) -> object:
        with closing(self.connect()) as store:
            return store.call(*command)


# Every kind of blocked call, each in a process of its own (those of a Pool in the root), and what comes of it.
BLOCKED = """
import os, sys, threading
import cloudpool as multiprocessing
from cloudpool.connection import wait

def say(*words):
    os.write(1, " ".join(map(str, words)).replace("\\n", " ").encode() + b"\\n")

def until_told(name, call):
    if name != "Executor":
        say("waits", name)
    try:
        call()
    except Exception as error:
        say(name, type(error).__name__, error)
    else:
        say(name, "returned")

def forever(*_):
    threading.Event().wait()

def said_forever(name):
    # Before, the stdlib's executor is still sending: what it meets there ends its thread, and its futures wait for ever.
    say("waits", name)
    forever()

def with_it(condition, call):
    with condition:
        call()

def main():
    from concurrent.futures import ProcessPoolExecutor
    context = multiprocessing.get_context("fork")
    manager = context.Manager()
    queue, taken, simple, joined, full = context.Queue(), context.Lock(), context.SimpleQueue(), context.JoinableQueue(), context.Queue(1)
    event, semaphore, barrier, condition = context.Event(), context.Semaphore(0), context.Barrier(2), context.Condition()
    ends, others, more = context.Pipe(), context.Pipe(), context.Pipe()
    managed, flag, lock = manager.Queue(), manager.Event(), manager.Lock()
    taken.acquire(); lock.acquire(); joined.put(1); full.put(1)
    calls = {
        "Queue.get": queue.get, "SimpleQueue.get": simple.get, "JoinableQueue.join": joined.join,
        "Queue.put": lambda: full.put(2), "Lock.acquire": taken.acquire, "Semaphore.acquire": semaphore.acquire,
        "Event.wait": event.wait, "Barrier.wait": barrier.wait,
        "Condition.wait": lambda: with_it(condition, condition.wait), "Connection.recv": ends[0].recv,
        "Connection.poll": lambda: others[0].poll(None), "wait": lambda: wait([more[0], queue._reader]),
        "Manager.Queue.get": managed.get, "Manager.Event.wait": flag.wait, "Manager.Lock.acquire": lock.acquire,
    }
    processes = [context.Process(target=until_told, args=call, daemon=True) for call in calls.items()]
    for process in processes:
        process.start()
    pool, executor = context.Pool(2), ProcessPoolExecutor(2, mp_context=context)
    pools = {
        "Pool.map": lambda: pool.map(forever, [1, 2]), "Pool.imap": lambda: next(pool.imap(forever, [1])),
        "Pool.apply": lambda: pool.apply(forever), "Executor": executor.submit(said_forever, "Executor").result,
    }
    threads = [threading.Thread(target=until_told, args=call, daemon=True) for call in pools.items()]
    for thread in threads:
        thread.start()
    for thing in processes + threads:
        thing.join()
    say("all")
    for worker in executor._processes.values():
        worker.kill()
    pool.terminate()
    sys.stdin.readline()

if __name__ == "__main__":
    main()
"""
BLOCKED_CALLS = 19


# Rounds of work that use most kinds of objects, each checked; its input's first line ends it, and it says whether all is well.
ROUNDS = """
import os, select, sys
import cloudpool as multiprocessing

def say(*words):
    os.write(1, " ".join(map(str, words)).replace("\\n", " ").encode() + b"\\n")

def echo(jobs, answers, shared, lock, event):
    event.wait()
    for number in iter(jobs.get, None):
        with lock:
            shared["count"] = shared.get("count", 0) + 1
        answers.send(number)
        jobs.task_done()
    jobs.task_done()

def main():
    context = multiprocessing.get_context("fork")
    jobs, (ours, theirs), lock, event = context.JoinableQueue(), context.Pipe(False), context.Lock(), context.Event()
    shared, barrier = multiprocessing.Manager().dict(), context.Barrier(2)
    process = context.Process(target=echo, args=(jobs, theirs, shared, lock, event))
    process.start()
    event.set()
    number, pool = 0, context.Pool(2)
    while not select.select([sys.stdin], [], [], 0)[0]:
        for number in range(number, number + 10):
            jobs.put(number)
        assert [ours.recv() for _ in range(10)] == list(range(number - 9, number + 1))
        number += 1
        assert pool.map(abs, range(-40, 0)) == list(range(40, 0, -1))
        if number % 50 == 10:
            other = context.Process(target=barrier.wait)
            other.start()
            barrier.wait()
            other.join()
            assert other.exitcode == 0, other.exitcode
        say("round", number // 10)
    jobs.put(None)
    jobs.join()
    process.join()
    assert shared["count"] == number, (shared["count"], number)
    pool.close()
    pool.join()
    say("well")

if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        say(type(error).__name__, error)
        raise SystemExit(1) from None
"""


def work_a_while(program: Program, rounds: int = 3) -> None:
    """Until so many more rounds than now are done."""
    program.lines(rounds)


def end_well(program: Program) -> None:
    program.tell()
    while (line := program.line()) != "well":
        assert line.startswith("round"), line
    status, said = program.end()
    assert (status, said) == (0, "")
