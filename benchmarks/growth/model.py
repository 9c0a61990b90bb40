"""How many tasks a second one server carries, and what is the first wall: the least of what each who handles a task can do."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_SHOWN = 64  # results that the root takes in one trip


@dataclass(frozen=True)
class Costs:
    """Processor seconds of one task: the root puts it and takes its result, the server keeps both, a worker calls the function."""

    root_put: float
    root_take: float
    server_put: float
    server_done: float
    worker: float

    @property
    def root(self) -> float:
        return self.root_put + self.root_take

    @property
    def server(self) -> float:
        return self.server_put + self.server_done


@dataclass(frozen=True)
class Setting:
    """Where tasks run. `trip_s` is from a worker to the server and back; `cores`, what all share (inf: each has its own)."""

    workers: int
    task_s: float
    trip_s: float
    cores: float = math.inf
    pools: int = 1  # each with a root of its own
    servers: int = 1  # of a Cluster: a pool is on one of them


def walls(costs: Costs, setting: Setting) -> dict[str, float]:
    """Tasks a second that each could do, were it alone."""
    return {
        "workers": setting.workers / (setting.task_s + costs.worker + setting.trip_s),
        "root": setting.pools / (costs.root + setting.trip_s / MOST_SHOWN),
        "server": min(setting.servers, setting.pools) / costs.server,
        "cores": setting.cores / (costs.root + costs.server + costs.worker),
    }


def rate(costs: Costs, setting: Setting) -> float:
    return min(walls(costs, setting).values())


def workers_at_wall(costs: Costs, task_s: float, trip_s: float, **where: int) -> tuple[float, str]:
    """How many workers one pool's root and server keep busy, and which of the two is the wall."""
    limits = walls(costs, Setting(1, task_s, trip_s, **where))
    wall = min(("root", "server"), key=limits.__getitem__)
    return limits[wall] / limits["workers"], wall
