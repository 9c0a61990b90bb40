"""Event: a stream with one entry while it is set, so that any number of waiters can read it and none takes it away."""

from __future__ import annotations

import itertools
import math
from multiprocessing import synchronize
from typing import Any

from cloudpool.sync.shared import Shared
from cloudpool.sync.timeout import check_of_semaphore

_requests = itertools.count(1)


class Event(Shared, synchronize.Event):
    """`multiprocessing.Event`. To ask is one native command, to change one script that runs once."""

    _kind = "event"

    def __init__(self, *, ctx: Any = None) -> None:
        self._create()

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"

    def is_set(self) -> bool:
        return bool(self._here().channel().call("EXISTS", self._base + "flag"))

    def set(self) -> None:
        """Set; wakes everyone who waits."""
        self._change("set")

    def clear(self) -> None:
        self._change("clear")

    def _change(self, how: str) -> None:
        channel = self._here().channel()
        channel.joined.add(self._id)
        arguments = (channel.party, next(_requests), how, self._session.ttl_ms)
        channel.script("event_change", (self._base,), arguments)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until set, `timeout` seconds at most. Whether it was set."""
        flag = self._base + "flag"
        if timeout is not None and timeout <= 0:
            return self.is_set()
        if timeout is not None and math.isnan(timeout) and self.is_set():  # nothing to wait for
            return True
        check_of_semaphore(timeout)

        def read(seconds: str) -> tuple[Any, ...]:
            return ("XREAD", "BLOCK", max(1, round(float(seconds) * 1000)), "STREAMS", flag, "0")

        return self._here().channel().block(read, timeout) is not None
