"""The stdlib's results of a pool's calls, as they wait here: any wait ends by Ctrl-C, and leaves nothing locked behind."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.pool import IMapIterator
from operator import attrgetter
from typing import Any

# A signal that comes when the main thread is about to sleep, or that another thread takes, does not wake it: it looks.
LOOK_S = 1.0


def _acquired(waiter: Any, deadline: float) -> bool:
    """Wait for the lock until then, looking for signals now and then."""
    if waiter.acquire(blocking=False):
        return True
    while (left := deadline - time.monotonic()) > 0:
        if waiter.acquire(timeout=min(left, LOOK_S)):
            return True
    return False


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else time.monotonic() + timeout


class Event:
    """`threading.Event`, but for `clear`. Without a lock, which a signal handler's exception might leave held."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: deque[Any] = deque()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        with suppress(IndexError):
            while True:
                self._waiters.popleft().release()

    def wait(self, timeout: float | None = None) -> bool:
        if self._is_set:
            return True
        deadline = _deadline(timeout)
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            if not self._is_set:  # looked at behind the append: `set` has seen the waiter, or is seen here
                _acquired(waiter, deadline)
        finally:
            with suppress(ValueError):  # taken out by `set`
                self._waiters.remove(waiter)
        return self._is_set


class Condition(threading.Condition):
    """Whose wait, of any length, ends by Ctrl-C within LOOK_S. Its `with` is in C, as that of a lock is: no handler runs in it."""

    __enter__ = property(attrgetter("_lock.__enter__"))
    __exit__ = property(attrgetter("_lock.__exit__"))

    def wait(self, timeout: float | None = None) -> bool:
        deadline = _deadline(timeout)
        waiter, woken = threading.Lock(), False
        waiter.acquire()
        self._waiters.append(waiter)  # type: ignore[attr-defined] # private: `notify` of the stdlib wakes whoever is there
        try:
            self.release()  # a handler may raise behind it: then it is to be taken again, too
            woken = _acquired(waiter, deadline)
        finally:
            self.acquire()
            if not woken:
                with suppress(ValueError):  # it has been notified meanwhile
                    self._waiters.remove(waiter)  # type: ignore[attr-defined] # as above
        return woken


class Cache(dict[int, Any]):
    """The results that are waited for, by job. Calls `on_empty` when the last one goes."""

    def __init__(self, on_empty: Callable[[], None]) -> None:
        super().__init__()
        self._on_empty = on_empty

    def __setitem__(self, job: int, result: Any) -> None:
        """The stdlib's results come here from their __init__, before anybody can wait for them: how they wait is set here."""
        if isinstance(result, IMapIterator):
            result._cond.__class__ = Condition
        else:
            result._event = Event()
        super().__setitem__(job, result)

    def __delitem__(self, job: int) -> None:
        self.pop(job, None)  # it may have been taken out to be set for the last time
        if not self:
            self._on_empty()
