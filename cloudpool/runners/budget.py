"""What a session's functions may cost: how many may be asked for, and when all must end so that it is not passed.

That all end takes some seconds (a look a second, the grace between two signals), which are kept in reserve for each.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from cloudpool.host import usage
from cloudpool.host.line import Line
from cloudpool.runners.costs import MB_IN_GB, Cost, price, total
from cloudpool.settings import Settings

if TYPE_CHECKING:
    from cloudpool.sealing import Sealer

AHEAD_S = 4.0  # until those have ended that are told to, and the last of them has been asked for
UNSEEN_S = usage.MOST_INIT_S + AHEAD_S  # of one that has not reported yet: it does at once when it is there


class Make(NamedTuple):
    """What a function is, as far as its price goes by that."""

    region: str
    architecture: str
    memory_mb: int


class Budget:
    """Of one fleet. `make` is what its runner knows of the function; None: what the settings say, until a host has reported.
    `silence_s`: how long a host goes on that cannot reach the server.
    """

    def __init__(
        self, chosen: Settings, line: Line, sealer: Sealer | None, silence_s: float, make: Make | None = None
    ) -> None:
        assert chosen.budget_usd is not None
        self._usd, self._prices = chosen.budget_usd, chosen.lambda_prices
        self._make = make or Make("", "x86_64", chosen.lambda_memory)
        self._line, self._sealer, self._silence_s = line, sealer, silence_s

    def room(self, hosts: int) -> int:
        """How many more may be asked for, beside those that are there or coming. Raises what the line does."""
        at_most, each = self._reserve(hosts)
        return max(0, int((self._usd - at_most) / each))

    def is_short(self, hosts: int) -> bool:
        """Whether they must end now."""
        return self._reserve(hosts)[0] > self._usd

    def words(self, hosts: int) -> str:
        """Of what was spent, and what was done about it."""
        spent = self._spent()
        what = (
            f"its hosts, {hosts}, were told to end, and no more are started"
            if hosts
            else "no host is started"
        )
        return (
            f"the budget of ${self._usd:g} (CLOUDPOOL_BUDGET_USD) could be passed: {spent.invocations} invocations of "
            f"{spent.function or 'the function'}\nhave cost ${spent.usd:.6f} at most so far, and to end them costs as well. "
            f"So {what}."
        )

    def _reserve(self, hosts: int) -> tuple[float, float]:
        """What these may have cost when they have ended, and what one more may."""
        found = usage.reports(self._line.call, self._line.keys, self._sealer)
        spent = self._of(found, AHEAD_S)
        makes = [self._make, *(Make(one.region, one.architecture, one.memory_mb) for one in found)]
        like = max(makes[1:] or makes, key=lambda make: make.memory_mb)
        each = UNSEEN_S * like.memory_mb / MB_IN_GB * price(self._prices, like.region, like.architecture)
        each += price(self._prices, like.region, "requests") / 1e6
        return spent.usd + max(0, hosts - spent.running) * each, each

    def _spent(self) -> Cost:
        return self._of(usage.reports(self._line.call, self._line.keys, self._sealer), 0.0)

    def _of(self, found: list[usage.Report], ahead_s: float) -> Cost:
        return total(found, self._prices, now=time.time(), silence_s=self._silence_s, ahead_s=ahead_s)
