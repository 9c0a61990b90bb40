"""The task protocol's messages, one by one, in simulated time: what the model leaves out, queues and bursts, is in here.

    root --put, up to 256--> server --a task--> worker --done--> server --results, up to 64--> root

Each of them does one thing at a time, for as long as that costs; where all share a machine's cores, also as cores are free.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable

from growth.model import MOST_SHOWN, Costs, Setting

MOST_PUT = 256  # tasks in one submission
Act = Callable[[], None]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Act]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, act: Act) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), act))

    def run(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self.now, _, act = heapq.heappop(self._events)
            act()


class Cores:
    """Who wants one waits for it in order."""

    def __init__(self, clock: Clock, count: float) -> None:
        self._clock, self._free = clock, count
        self._waiting: deque[tuple[float, Act]] = deque()

    def use(self, seconds: float, then: Act) -> None:
        self._waiting.append((seconds, then))
        self._start()

    def _start(self) -> None:
        while self._waiting and self._free > 0:
            seconds, then = self._waiting.popleft()
            self._free -= 1
            self._clock.after(seconds, lambda then=then: self._done(then))  # type: ignore[misc]

    def _done(self, then: Act) -> None:
        self._free += 1
        then()
        self._start()


class One:
    """A process that does one thing after the other."""

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._waiting: deque[tuple[float, Act]] = deque()
        self._is_busy = False

    def do(self, seconds: float, then: Act) -> None:
        self._waiting.append((seconds, then))
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            seconds, then = self._waiting.popleft()
            self._cores.use(seconds, lambda: self._done(then))

    def _done(self, then: Act) -> None:
        then()
        self._next()


class Pool:
    """A map of `count` tasks over workers that all wait at first."""

    def __init__(self, costs: Costs, setting: Setting, count: int) -> None:
        self.clock = Clock()
        cores = Cores(self.clock, setting.cores)
        self._costs, self._setting = costs, setting
        self._root, self._server = One(cores), One(cores)
        self._cores = cores
        self._hop_s = max(0.0, setting.trip_s - costs.server_done) / 2  # on the way, one way
        self._unsent, self._line, self._results = count, 0, 0
        self._idle, self._is_taking = setting.workers, False
        self.left = count

    def run(self) -> float:
        """Tasks a second."""
        count = self.left
        self._put()
        self.clock.run(lambda: self.left == 0)
        return count / self.clock.now

    def _put(self) -> None:
        some = min(MOST_PUT, self._unsent)
        if not some:
            return
        self._unsent -= some

        def arrived() -> None:
            self._line += some
            self._give()
            self._put()

        def sent() -> None:
            self.clock.after(self._hop_s, lambda: self._server.do(some * self._costs.server_put, arrived))

        self._root.do(some * self._costs.root_put, sent)

    def _give(self) -> None:
        while self._idle and self._line:
            self._idle -= 1
            self._line -= 1
            self.clock.after(self._hop_s, self._work)

    def _work(self) -> None:
        def called() -> None:
            self.clock.after(self._setting.task_s + self._hop_s, self._done)

        self._cores.use(self._costs.worker, called)

    def _done(self) -> None:
        def recorded() -> None:
            self._results += 1
            self._idle += 1
            self._give()
            self._take()

        self._server.do(self._costs.server_done, recorded)

    def _take(self) -> None:
        if self._is_taking or not self._results:
            return
        self._is_taking = True
        some = min(MOST_SHOWN, self._results)
        self._results -= some

        def taken() -> None:
            self._is_taking = False
            self.left -= some
            self._take()

        self.clock.after(
            2 * self._hop_s, lambda: self._root.do(some * self._costs.root_take, taken)
        )  # asked for, given


def rate(costs: Costs, setting: Setting, count: int) -> float:
    return Pool(costs, setting, count).run()
