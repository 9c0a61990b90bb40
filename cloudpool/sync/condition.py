"""Condition: a line of waiters, each with a wake key of its own.

    wait:    join line -> release lock -> block on wake:<party> -> take lock
    notify:  pop the first of the line, push to its wake key

A waiter that times out leaves the line; if it has been popped meanwhile, it counts as woken: no wake-up is lost. Its wake
key stays until it has the lock again: when it dies before, the next one is woken in its stead.
"""

from __future__ import annotations

import itertools
from multiprocessing import synchronize
from typing import Any

from cloudpool.store.channel import Channel
from cloudpool.sync.semaphore import RLock
from cloudpool.sync.shared import Shared
from cloudpool.sync.timeout import check_of_semaphore

EVERYONE = 2**31
_waits = itertools.count(1)


class Condition(Shared, synchronize.Condition):
    """`multiprocessing.Condition`, on any Lock or RLock of the session (an RLock of its own by default)."""

    _kind = "condition"

    def __init__(self, lock: Any = None, *, ctx: Any = None) -> None:
        self._restore(lock or RLock(ctx=ctx))
        self._create(("SADD", "parties", ""))

    def _extra(self) -> Any:
        return self._lock

    def _restore(self, extra: Any) -> None:
        self._lock = extra
        self._make_methods()

    def __repr__(self) -> str:
        return f"<Condition({self._lock}, {self._here().channel().call('LLEN', self._base + 'line')})>"

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, block until notified or `timeout` seconds have passed, take the lock. False on timeout."""
        assert self._lock._semlock._is_mine(), "must acquire() condition before using wait()"
        check_of_semaphore(timeout)
        channel = self._here().join(self._id)
        entry = f"{channel.party}:{next(_waits)}"
        try:
            channel.script("condition_wait", (self._base,), (channel.party, entry, self._session.ttl_ms))
        except BaseException:
            self._leave(channel, entry, "pass")
            raise
        depth = self._lock._semlock._count()
        try:
            for _ in range(depth):
                self._lock.release()
        except BaseException:
            self._leave(channel, entry, "pass")
            for _ in range(depth - self._depth()):
                self._lock.acquire()
            raise
        try:
            woken = self._wait_woken(channel, entry, timeout)
        finally:
            for _ in range(depth):
                self._lock.acquire()
        if woken:
            # Not DEL: run again late, it leaves the next wait's alone.
            channel.post("LREM", f"{self._base}wake:{channel.party}", 0, entry)
        return woken

    def _depth(self) -> int:
        """How often this thread has the lock."""
        semlock = self._lock._semlock
        return int(semlock._count()) if semlock._is_mine() else 0

    def _wait_woken(self, channel: Channel, entry: str, timeout: float | None) -> bool:
        wake = f"{self._base}wake:{channel.party}"
        try:
            # Looks and leaves it there: repeatable after a cut.
            woken = channel.block(lambda seconds: ("BLMOVE", wake, wake, "LEFT", "LEFT", seconds), timeout)
        except BaseException:
            self._leave(channel, entry, "pass")
            raise
        return woken is not None or self._leave(channel, entry, "")

    def _leave(self, channel: Channel, entry: str, how: str) -> bool:
        """Leave the line; whether it had been woken (and, with `pass`, another is in its stead)."""
        arguments = (channel.party, entry, how, self._session.ttl_ms)
        return bool(channel.script("condition_leave", (self._base,), arguments))

    def notify(self, n: int = 1) -> None:
        """Wake up to `n` waiters."""
        assert self._lock._semlock._is_mine(), "lock is not owned"
        channel = self._here().join(self._id)
        channel.script(
            "condition_notify", (self._base,), (n, self._session.ttl_ms, channel.party, next(_waits))
        )

    def notify_all(self) -> None:
        self.notify(n=EVERYONE)
