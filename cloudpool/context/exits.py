"""How a pool's workers ended: told by who waits for them, asked by who reports a loss."""

from __future__ import annotations

import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudpool.context.last_words import LastWords
from cloudpool.host.dispatch import LOST


@dataclass(frozen=True)
class Exit:
    """How one worker ended; `exitcode` is None when that is not known."""

    exitcode: int | None = None
    task: bytes = b""  # the last one that it had begun
    about: str = ""
    item: int | None = None  # that it had reached: this one or one of the few after it
    lines: tuple[str, ...] = ()
    results: tuple[bytes, ...] = ()  # of tasks that it had done: it may not have sent them
    host: str = field(default_factory=lambda: os.uname().nodename)  # of this program's, when it is not known
    why: str = ""  # it did not end of its own doing, where that is known
    met_limit: bool = False  # of its host's time or memory
    has_spoken: bool = False  # task, item, lines and results are its own words; else nothing is known of them

    @property
    def signal(self) -> str | None:
        if self.exitcode is None or self.exitcode >= 0:
            return None
        try:
            return signal.Signals(-self.exitcode).name
        except ValueError:
            return f"signal {-self.exitcode}"

    @property
    def is_from_outside(self) -> bool:
        """Most likely: it says little about what the worker did."""
        return self.exitcode in (-signal.SIGKILL, -signal.SIGTERM)

    def __str__(self) -> str:
        if self.exitcode is None:
            return "in a way that is not known"
        if self.signal is not None:
            guess = "by hand, or by the system for want of memory" if self.signal == "SIGKILL" else ""
            return f"by {self.signal}" + (f" ({self.why or guess})" if self.why or guess else "")
        how = "with its host" if self.exitcode == LOST and self.why else f"with exit code {self.exitcode}"
        return f"{how} ({self.why})" if self.why else how


class Exits:
    """How workers ended, by pid: known to who waits for them, asked by who reports their loss, once."""

    WAIT_S = 5.0  # for news of a process that is not among the workers: of what was done to them by others
    LEAST = 100  # news that are kept, though nobody has asked: of a worker that had no task nobody does

    def __init__(self, workers: Sequence[Any]) -> None:
        """`workers`: those that live, and those that have ended and of whom nothing has been told yet."""
        self._workers = workers
        self._exits: OrderedDict[int, Exit] = OrderedDict()
        self._changed = threading.Condition()
        self._is_over = False

    def stop(self) -> None:
        """The pool is over, and nobody looks any more at how its workers end."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def add(
        self,
        pid: int,
        exitcode: int,
        last: LastWords,
        host: str = "",
        why: str = "",
        *,
        met_limit: bool = False,
        has_spoken: bool = True,
    ) -> Exit:
        """`host`: of a worker that was elsewhere."""
        where = host or os.uname().nodename
        exit = Exit(
            exitcode, *last.task(), last.item(), last.lines(), tuple(last.results()), where, why, met_limit, has_spoken
        )  # fmt: skip
        with self._changed:
            self._exits[pid] = exit
            self._exits.move_to_end(pid)
            while len(self._exits) > max(self.LEAST, 4 * len(self._workers)):
                self._exits.popitem(last=False)
            self._changed.notify_all()
        return exit

    def forget(self, pid: int) -> None:
        """It is another process's now."""
        with self._changed:
            self._exits.pop(pid, None)

    def of(self, pid: int) -> Exit:
        """Waits for the news: they may be as fresh as the loss itself, and the supervisor may be starting another worker."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._is_over or pid in self._exits, self.WAIT_S):
                if all(worker.pid != pid for worker in list(self._workers)):
                    break
            return self._exits.pop(pid, Exit())
