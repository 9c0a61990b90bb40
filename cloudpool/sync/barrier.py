"""Barrier: arrivals form a line; its end, passed or broken, is one entry of a stream that every waiter reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from multiprocessing import synchronize
from threading import BrokenBarrierError
from typing import Any

from cloudpool.store.channel import Channel
from cloudpool.sync.shared import Shared
from cloudpool.sync.timeout import check_of_semaphore

_arrivals = itertools.count(1)


class Barrier(Shared, synchronize.Barrier):
    """`multiprocessing.Barrier`: `threading.Barrier`'s semantics between processes. A dead party breaks it."""

    _kind = "barrier"

    def __init__(
        self,
        parties: int,
        action: Callable[[], Any] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        if parties < 1:
            raise ValueError("parties must be > 0")
        self._restore((parties, action, timeout))
        self._create(("HSET", "state", "phase", 1), ("SADD", "parties", ""))

    def _extra(self) -> Any:
        return self._parties, self._action, self._timeout

    def _restore(self, extra: Any) -> None:
        self._parties, self._action, self._timeout = extra

    def __repr__(self) -> str:
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {state}>"

    def wait(self, timeout: float | None = None) -> int:
        """Block until all parties are here. The order of arrival, from 0. Raises BrokenBarrierError, also on timeout."""
        if timeout is None:
            timeout = self._timeout
        channel = self._here().join(self._id)
        entry = f"{channel.party}:{next(_arrivals)}"
        arguments = (self._parties, entry, int(self._action is not None), self._session.ttl_ms)
        index, phase = self._arrive(channel, arguments)
        while index == -2:
            self._await(phase, entry, None)
            index, phase = self._arrive(channel, arguments)
        if index == -1:
            raise BrokenBarrierError
        if index < self._parties - 1:
            outcome = self._await(phase, entry, timeout)
        else:
            outcome = b"passed" if self._action is None else self._act(phase)
        if outcome != b"passed":
            raise BrokenBarrierError
        return int(index)

    def _arrive(self, channel: Channel, arguments: tuple[Any, ...]) -> tuple[int, int]:
        try:
            index, phase = channel.script("barrier_arrive", (self._base,), arguments)
        except BaseException:
            channel.script("barrier_leave", (self._base,), (arguments[1],))
            raise
        return index, phase

    def _act(self, phase: int) -> bytes:
        assert self._action is not None
        try:
            self._action()
        except BaseException:
            self._end(phase, "broken")
            raise
        return self._end(phase, "passed")

    def _await(self, phase: int, entry: str, timeout: float | None) -> bytes:
        """What became of the phase; it breaks when that takes longer than `timeout`."""

        def read(seconds: str) -> tuple[Any, ...]:
            block_ms = max(1, round(float(seconds) * 1000))
            return ("XREAD", "COUNT", "1", "BLOCK", block_ms, "STREAMS", self._base + "phases", f"{phase}-0")

        channel = self._session.channel()
        try:
            check_of_semaphore(timeout)
            found = channel.block(read, timeout)
        except BaseException:
            channel.script("barrier_leave", (self._base,), (entry,))
            raise
        if found is None:
            return self._end(phase, "broken")
        _id, fields = found[0][1][0]
        return bytes(fields[1])

    def _end(self, phase: int, outcome: str) -> bytes:
        channel = self._here().channel()
        arguments = (phase, outcome, self._session.ttl_ms, channel.party, next(_arrivals))
        return bytes(channel.script("barrier_end", (self._base,), arguments))

    def reset(self) -> None:
        """Make it empty and whole; who waits gets BrokenBarrierError."""
        self._end(0, "reset")

    def abort(self) -> None:
        """Break it: who waits, and who comes, gets BrokenBarrierError until `reset`."""
        self._end(0, "broken")

    @property
    def parties(self) -> int:
        return int(self._parties)

    @property
    def n_waiting(self) -> int:
        return int(self._here().channel().call("LLEN", self._base + "line"))

    @property
    def broken(self) -> bool:
        return bool(self._here().channel().call("HGET", self._base + "state", "broken") == b"1")
