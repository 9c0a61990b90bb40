"""What a pool has done: the result of its `stats()`."""

from __future__ import annotations

from typing import NamedTuple

from cloudpool import settings
from cloudpool.runners.costs import METERED, Cost, of_session


class Stats(NamedTuple):
    """Of a pool up to now; `after - before` is what came between, as of one call of `map`."""

    method: str  # start method
    workers: int
    tasks: int  # chunks whose result has come
    time_s: float  # since the pool was made
    cost: Cost | None  # of all functions of the session, other pools' too; None where none are billed

    def __sub__(self, earlier: Stats) -> Stats:
        cost = self.cost - earlier.cost if self.cost is not None and earlier.cost is not None else self.cost
        return self._replace(tasks=self.tasks - earlier.tasks, time_s=self.time_s - earlier.time_s, cost=cost)


def of_pool(method: str, workers: int, tasks: int, time_s: float) -> Stats:
    """Raises SessionLostError."""
    cost = of_session(settings.current()) if method in METERED else None
    return Stats(method, workers, tasks, time_s, cost)
