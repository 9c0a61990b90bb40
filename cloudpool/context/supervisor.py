"""A pool's workers: how they are made, and the thread that replaces those that end and sends all home at last."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import util
from multiprocessing.connection import wait
from multiprocessing.pool import CLOSE, RUN, TERMINATE
from typing import Any

from cloudpool.context.calls import Calls
from cloudpool.context.exits import Exit, Exits
from cloudpool.context.last_words import LastWords
from cloudpool.context.tasks import Tasks
from cloudpool.context.worker import work
from cloudpool.errors import RunnerError, SessionLostError, WorkerLostError


@dataclass(frozen=True)
class Recipe:
    """How a pool's workers are made."""

    ctx: Any
    process: Callable[..., Any]
    tasks: Tasks
    initializer: Any
    initargs: Any
    maxtasks: int | None
    wrap_exception: bool

    def start(self) -> Any:
        last = LastWords()
        arguments = (self.tasks, last, self.initializer, self.initargs, self.maxtasks, self.wrap_exception)
        worker = self.process(self.ctx, target=work, args=arguments)
        worker.name = worker.name.replace("Process", "PoolWorker")
        worker.daemon = True
        worker.start()
        worker.last_words = last
        util.debug("added worker")
        return worker


def end(worker: Any) -> None:
    """SIGTERM. A worker that is stopped would not hear of it."""
    worker.terminate()
    worker._popen._send_signal(signal.SIGCONT)


class Supervisor:
    """A thread that replaces workers that end, until the pool is closed and idle, or terminated. It says the last word to the server.

    Without a live worker that ever was ready there is nothing to wait for: after a few such deaths in a row (an
    initializer that exits, a main module that cannot be imported) the pool is broken, and no more are started.
    """

    def __init__(
        self, recipe: Recipe, workers: list[Any], calls: Calls, tasks: Tasks, notifier: Notifier, exits: Exits
    ) -> None:
        self._recipe, self._workers, self._calls = recipe, workers, calls
        self._tasks, self._notifier, self._exits = tasks, notifier, exits
        self._most_failures = max(4, 2 * len(workers))
        self._failures = 0
        self._state = RUN
        self.thread = threading.Thread(target=self._run, name="cloudpool-supervisor", daemon=True)

    def turn(self, state: str) -> None:
        """Go to CLOSE or TERMINATE."""
        self._state = state
        self._notifier.is_closing = True
        self._notifier.put()

    def join(self, timeout: float | None = None) -> None:
        if threading.current_thread() is not self.thread:
            self.thread.join(timeout)

    def is_alive(self) -> bool:
        return self.thread.is_alive()

    def _run(self) -> None:
        try:
            self._tasks.connect()  # before the server may be full: a worker's end must be dealt with then, too
            while self._state == RUN or (self._state == CLOSE and self._calls.are_waited_for()):
                self._replace_ended()
                watched = [] if self._calls.broken else [w.sentinel for w in self._workers]
                wait([self._notifier, *watched])
                self._notifier.drain()
            self._finish()
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, and nobody looks after the workers now
            self._calls.fail_all(error)
            self._calls.stop()
            if not isinstance(error, SessionLostError):  # of which they hear themselves
                self._end_workers()
        finally:
            self._exits.stop()  # nobody looks at how workers end any more
            self._notifier.close()

    def _finish(self) -> None:
        if self._state == TERMINATE:
            self._calls.stop()
            self._end_workers()
            self._tasks.abandon()
        else:
            self._tasks.dismiss(len(self._workers))
            self._calls.stop()
        self._tasks.stop_collecting()
        if self._calls.overflow is not None:
            self._calls.overflow.end()

    def _end_workers(self) -> None:
        for worker in self._workers:
            if worker.exitcode is None:
                end(worker)

    def _exit(self, worker: Any) -> Exit:
        worker.join()
        said = getattr(worker._popen, "last_words", None)  # of a far one
        if said:
            worker.last_words.adopt(said)
        host, why = (getattr(worker._popen, name, "") for name in ("host", "why"))
        return self._exits.add(
            worker.pid, worker.exitcode, worker.last_words, host, why,
            met_limit=getattr(worker._popen, "met_limit", False), has_spoken=said != b"",
        )  # fmt: skip

    def _replace_ended(self) -> None:
        # All are said to have ended before the first is replaced, which takes its time: the collector waits for that.
        ended = [
            (worker, self._exit(worker)) for worker in list(self._workers) if worker.exitcode is not None
        ]
        for worker, exit in ended:
            if self._calls.broken:
                return
            if why := getattr(worker._popen, "refusal", ""):
                refused = RunnerError(why)
                refused.is_said = True  # by the agent
                self._calls.fail_all(refused)
                return
            if self._tasks.was_ready(worker.pid):
                self._failures = 0
            else:
                self._failures += 1 if exit.is_from_outside else 10
            if self._failures >= 10 * self._most_failures:
                printed = "".join("\n    " + line for line in exit.lines)
                self._calls.fail_all(WorkerLostError(
                    f"The workers of this Pool end before their first task, one after the other, the last one {exit}.\n"
                    "No more are started: look at the initializer and, under spawn and forkserver, at what importing the main\n"
                    'module does (is it guarded by if __name__ == "__main__"?)'
                    + (f", and at the last lines that this worker printed:{printed}" if printed else "."),
                    exitcode=exit.exitcode, signal=exit.signal, host=exit.host, last_lines=exit.lines,
                ))  # fmt: skip
                return
            util.debug("cleaning up worker %d", worker.pid)
            try:
                replacement = self._recipe.start()
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                self._calls.fail_all(error)
                return
            self._exits.forget(replacement.pid)
            if worker in self._workers:
                self._workers[self._workers.index(worker)] = replacement
            else:  # taken out meanwhile, by software that looks after workers itself
                self._workers.append(replacement)


class Notifier:
    """A pipe that wakes the supervisor, who closes it."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._lock = threading.RLock()
        self._is_open = True
        self.is_closing = False  # of interest then: that no call is under way any more

    def fileno(self) -> int:
        return self._reader

    def put(self, _: None = None) -> None:
        with self._lock, suppress(BlockingIOError):
            if self._is_open:
                os.write(self._writer, b".")

    def put_when_closing(self) -> None:
        if self.is_closing:
            self.put()

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._reader, 512):
                pass

    def close(self) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._reader)
                os.close(self._writer)
