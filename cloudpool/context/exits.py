"""How a pool's workers ended: told by who waits for them, asked by who reports a loss."""

from __future__ import annotations

import os
import signal
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

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
    """How workers ended, by pid: known to who waits for them, asked by who reports their loss."""

    WAIT_S = 5.0

    def __init__(self) -> None:
        self._exits: OrderedDict[int, Exit] = OrderedDict()
        self._changed = threading.Condition()
        self._is_over = False

    def stop(self) -> None:
        """The pool is terminated: its workers are ended, and nobody waits for what is said of that."""
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
    ) -> Exit:
        """`host`: of a worker that was elsewhere."""
        where = host or os.uname().nodename
        exit = Exit(
            exitcode, *last.task(), last.item(), last.lines(), tuple(last.results()), where, why, met_limit
        )
        with self._changed:
            self._exits[pid] = exit
            self._exits.move_to_end(pid)
            if len(self._exits) > 100:
                self._exits.popitem(last=False)
            self._changed.notify_all()
        return exit

    def of(self, pid: int) -> Exit:
        """Waits for the news, which may be as fresh as the loss itself."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or pid in self._exits, self.WAIT_S)
            return self._exits.get(pid, Exit())
