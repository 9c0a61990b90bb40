"""Tasks that are too much for the hosts of one start method (their deadline, their memory) run on those of the next.

    overflow = ["lambda", "kubernetes"]       a pool on lambda --task--> a pool on kubernetes
                                                    results <--outcome--'

The second pool is made when there is the first such task, and ends with the first pool.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import util
from multiprocessing.pool import mapstar, starmapstar
from typing import Any

from cloudpool import settings
from cloudpool.context import tasks as protocol

Done = Callable[[bool, Any], None]


class Overflow:
    """Of one pool, used by its collector thread, ended by its supervisor. `make` makes the pool that comes next."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._pool: Any = None
        self._is_over = False

    def send(self, mode: bytes, function: Any, given: Any, done: Done) -> None:
        """Have a task's function called there, as `worker` calls it; `done(success, value)` comes from another thread."""
        pool = self._pool
        if pool is None and not self._is_over:
            pool = self._pool = self._make()
            util.debug("tasks overflow to %s", pool._ctx.get_start_method())
        # Looked at after it was stored, and `end` looks the other way round: one of both sees the other. No lock, as a
        # garbage collection may end the first pool in this very thread.
        if self._is_over:
            self.end()
            return
        args, kwds = (given,), {}
        if mode == protocol.APPLY:
            args, kwds = given
        elif mode != protocol.ONE:
            args = ((function, given),)
            function = mapstar if mode == protocol.MAP else starmapstar
        pool.apply_async(
            function, args, kwds, lambda value: done(True, value), lambda error: done(False, error)
        )

    def end(self) -> None:
        self._is_over = True
        if (pool := self._pool) is not None:
            pool.terminate()
            pool.join()


def following(method: str) -> str | None:
    """The start method that comes after this one in the setting `overflow`."""
    chain = settings.current().overflow or ()
    at = chain.index(method) if method in chain else len(chain)
    return chain[at + 1] if at + 1 < len(chain) else None
