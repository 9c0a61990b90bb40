"""The time that a host has: an invocation of a function is ended at its deadline, whatever it does.

    CLOSE      no more processes; workers of pools go home between two tasks, and fresh ones come elsewhere
    WARN       who is still at work is told what comes, and what to do about it
    TERMINATE  SIGTERM
    KILL       SIGKILL
    LEAVE      the host gives up its place, while it still can

And what it costs until then is reported at each beat.
"""

from __future__ import annotations

import math
import time
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudpool.host.line import Line
    from cloudpool.host.usage import Meter
    from cloudpool.sealing import Sealer


class Step(IntEnum):
    NONE = 0
    CLOSE = 1
    WARN = 2
    TERMINATE = 3
    KILL = 4
    LEAVE = 5


class Term:
    """Of one host, from its beginning on; `left_s` until its deadline."""

    MOST_BEAT_S = 1.0  # time costs: a host sees within that that its session is over

    def __init__(self, left_s: float, meter: Meter | None = None) -> None:
        now = time.monotonic()
        self.limit_s, self.ends_at = math.ceil(left_s), now + left_s
        self._meter, self._next_report = meter, now
        before_s = {Step.LEAVE: 0.7, Step.KILL: 1.0}
        before_s[Step.TERMINATE] = before_s[Step.KILL] + min(10.0, 0.1 * left_s)
        before_s[Step.WARN] = before_s[Step.TERMINATE] + min(20.0, 0.05 * left_s)
        before_s[Step.CLOSE] = before_s[Step.WARN] + min(30.0, 0.1 * left_s)
        self._at = {step: self.ends_at - before for step, before in before_s.items()}
        self._done = Step.NONE

    @property
    def closes_at(self) -> float:
        return self._at[Step.CLOSE]

    @property
    def is_closing(self) -> bool:
        return self._done >= Step.CLOSE

    def close_early(self) -> None:
        self._at[Step.CLOSE] = min(self._at[Step.CLOSE], time.monotonic())

    def step(self, now: float) -> Step:
        """What is to be done now that has not been; of several, one at a time."""
        following = Step(min(self._done + 1, Step.LEAVE))
        if following == self._done or now < self._at[following]:
            return Step.NONE
        self._done = following
        return following

    def next_at(self) -> float:
        following = self._at[Step(min(self._done + 1, Step.LEAVE))]
        return min(following, self._next_report)

    @property
    def reason(self) -> str:
        return f"at the deadline of its function, which may run for {self.limit_s} s"

    def warning(self, now: float) -> str:
        left_s = max(0.0, self._at[Step.TERMINATE] - now)
        return (
            f"this process gets SIGTERM in {left_s:.3g} s, at the deadline of its function, which may run for {self.limit_s} s.\n"
            "Give it less to do at a time, or have it done elsewhere: CLOUDPOOL_START_METHOD=kubernetes; for a Pool's tasks\n"
            "that take too long, CLOUDPOOL_OVERFLOW=lambda,kubernetes."
        )

    # -- what it costs ----------------------------------------------------------------------------------------------

    def is_report_due(self, now: float) -> bool:
        return now >= self._next_report

    def report(self, line: Line, sealer: Sealer | None, beat_s: float, *, is_over: bool = False) -> None:
        """What has been run so far. Raises what `line.call` does."""
        now = time.monotonic()
        self._next_report = now + beat_s if self._meter is not None and not is_over else math.inf
        if self._meter is not None:
            may_run_s = max(0.0, self.ends_at - now)
            self._meter.report(line.call, line.keys, line.ttl_ms, sealer, beat_s, may_run_s, is_over=is_over)
