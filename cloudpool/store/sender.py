"""A thread that sends what other threads have put and hold back, when they do nothing more.

    put --takes--> Sender ... 1 ms later --send_by--> the server, by a connection of its own

Any line may send anybody's puts, any number of times: so it locks nobody out, and nobody waits for it. It goes when nothing
has been held back for a second, and before a fork, like the feeder thread of a stdlib Queue that has been emptied.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from cloudpool.errors import CloudpoolError
from cloudpool.store.held import Held
from cloudpool.store.interruption import is_no_cut
from cloudpool.store.wire import Connection, ReplyError

HOLD_S = 0.001  # for which a put is held back, when nothing comes behind it
IDLE_S = 1.0
FORK_S = 1.0  # for which a fork waits: its thread may have a lock that a finalizer in the sender's wants


class Run:
    """One life of the thread, with a connection of its own: what befalls it harms no other."""

    __slots__ = ("connection", "gone", "leaves", "native_id", "wake")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.native_id = 0
        self.wake, self.leaves, self.gone = (threading.Lock() for _ in range(3))  # taken; released, they tell
        for lock in (self.wake, self.leaves, self.gone):
            lock.acquire()


class Sender:
    """A process's; a forked child makes its own. Made and told by the session: `dial` and `hang_up` are for its connection.

    A run is begun by whoever holds something back, who dials for it, too. A signal's handler may come in between after any
    call: so lines marked `at once` have none but the last.
    """

    def __init__(self, dial: Callable[[], Connection], hang_up: Callable[[Connection], None]) -> None:
        self._dial, self._hang_up = dial, hang_up
        self.lock = threading.RLock()  # while it sends
        self._held: set[Held] = set()
        self._run: Run | None = None
        self._stops = 0  # forks under way, and the process's end

    def takes(self, puts: Held) -> bool:
        """Whether it sends them a moment later. Else, for want of a thread, they are to be sent at once."""
        if self._stops:
            return False
        self._held.add(puts)  # before the look at whether it runs, which looks in the other order
        run = self._run or self._begin()
        if run is not None and run.wake.locked():
            _release(run.wake)
        return run is not None

    def reminded(self, puts: Held) -> None:
        """Their own line may not have sent them. They go if it runs, or with what is held back next."""
        self._held.add(puts)
        run = self._run
        if run is not None and run.wake.locked():
            _release(run.wake)

    def _begin(self) -> Run | None:
        try:
            run = Run(self._dial())
        except (OSError, CloudpoolError) as error:
            if is_no_cut(error):
                raise
            return None
        if self._run is not None or self._stops:  # at once with the next line
            self._hang_up(run.connection)
            return self._run
        try:
            # Not threading's, which waits for the thread: a handler may raise then.
            self._run = run  # at once
            _thread.start_new_thread(self._live, (run,))
        except RuntimeError as error:  # no more threads, or the interpreter is at its end
            if is_no_cut(error):
                raise
            self._run = None
            self._hang_up(run.connection)
        return self._run

    # -- the thread -------------------------------------------------------------------------------------------------

    def _live(self, run: Run) -> None:
        run.native_id = threading.get_native_id()
        try:
            while self._turns(run):
                pass
        except (OSError, CloudpoolError, ReplyError):
            pass  # what is held goes with the next run, or with its owner's next command, which meets the error, too
        finally:
            if self._run is run:  # at once
                self._run = None
            self._hang_up(run.connection)
            run.gone.release()

    def _turns(self, run: Run) -> bool:
        """Wait, and send what is held. Whether to go on."""
        is_idle = not self._held and not run.wake.acquire(timeout=IDLE_S)
        run.wake.acquire(blocking=False)  # from here on whoever holds something wakes it
        for puts in list(self._held):
            if self._stops or time.monotonic() - puts.last_at >= HOLD_S / 2:  # else its thread is at it
                self._send(puts, run.connection)
        may_go = is_idle or self._stops
        if may_go and not self._held:  # at once with the next line
            self._run = None
            return False
        if self._held and not self._stops:
            run.leaves.acquire(timeout=HOLD_S)
        return True

    def _send(self, puts: Held, connection: Connection) -> None:
        self._held.discard(puts)  # before the look at what is unsent: what comes then adds it again
        if not puts.unsure and puts.number <= puts.sent:
            return
        try:
            with self.lock:
                puts.send_by(connection.call_many)
        except BaseException:
            self._held.add(puts)
            raise

    # -- forks, and the end -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Have no thread, and nothing held back: before a fork, or for good."""
        self._stops += 1
        run = self._run
        if run is None or run.native_id == threading.get_native_id():
            return
        for lock in (run.leaves, run.wake):
            if lock.locked():
                _release(lock)
        deadline = time.monotonic() + FORK_S
        if run.gone.acquire(timeout=FORK_S):
            run.gone.release()  # for whoever else waits
        while os.path.exists(f"/proc/self/task/{run.native_id}") and time.monotonic() < deadline:
            pass  # it may still be on its way out of the kernel, whose count of threads Python looks at

    def go_on(self) -> None:
        """In the parent, after a fork."""
        self._stops -= 1
        if self._held and not self._stops and self._run is None:
            self._begin()


def _release(lock: threading.Lock) -> None:
    """Unless another thread has, just now."""
    with suppress(RuntimeError):
        lock.release()
