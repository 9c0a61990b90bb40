"""What functions cost: prices, the sum of what invocations have reported, and a line at the program's end.

Figures are upper bounds of what invocations have reported, by a list of prices without free tiers or savings: what runs
counts with the time that it may still run before anybody looks again. Not in it is who never reports: what Lambda delivers
when the session is over, or where the server is not reached; a trial (`aws_lambda.py`). A bill has storage, traffic and the
server besides.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import util
from typing import Any, NamedTuple

from cloudpool.host import session as sessions
from cloudpool.host.usage import Report, reports
from cloudpool.settings import Settings

METERED = ("lambda",)  # start methods whose hosts are billed by what they run
MB_IN_GB = 1024
# Of Lambda, when this was written: USD a GB-second, and a million requests. Other regions: what the dearest takes.
# AWS changes its list, and a setting (lambda_prices) goes before this one.
PRICES = {"x86_64": 0.0000166667, "arm64": 0.0000133334, "requests": 0.20}
DEAREST = {"x86_64": 0.0000229200, "arm64": 0.0000183400, "requests": 0.28}
USUAL = frozenset({
    "us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1",
    "eu-west-2", "eu-west-3", "ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "sa-east-1",
})  # fmt: skip
EVERYWHERE = "*"  # in the setting: any region


class Cost(NamedTuple):
    """Of a session's invocations so far, at most. `later - earlier` is what came between."""

    function: str
    invocations: int
    running: int
    memory_mb: int  # of one; the most, where they differ
    run_s: float  # that is billed, of all together
    gb_s: float
    usd: float

    def __sub__(self, earlier: Cost) -> Cost:
        return self._replace(
            invocations=self.invocations - earlier.invocations,
            run_s=self.run_s - earlier.run_s,
            gb_s=self.gb_s - earlier.gb_s,
            usd=self.usd - earlier.usd,
        )

    def line(self, job: str) -> str:
        average_s = self.run_s / max(1, self.invocations)
        return (
            f"Job {job}, Function {self.function or 'none'}, Invocations {self.invocations}, Memory {self.memory_mb} MB, "
            f"Avg run time {average_s:.3f} s, Cost ${self.usd:.6f}"
        )


def price(prices: Mapping[str, Any] | None, region: str, what: str) -> float:
    """USD a GB-second of an architecture, or a million "requests": the setting's, else AWS's list."""
    listed = PRICES if region in USUAL else DEAREST
    for table in ((prices or {}).get(region), (prices or {}).get(EVERYWHERE)):
        if table and what in table:
            return float(table[what])
    return listed.get(what, max(listed["x86_64"], listed["arm64"]))


def total(
    invocations: Iterable[Report],
    prices: Mapping[str, Any] | None,
    *,
    now: float,
    silence_s: float,
    ahead_s: float = 0.0,
) -> Cost:
    """Of all of them by `now` and `ahead_s` more. `silence_s`: how long a host goes on that cannot reach the server."""
    found = list(invocations)
    gb_s = usd = run_s = 0.0
    running = 0
    for report in found:
        report = report._replace(may_run_s=min(report.may_run_s, silence_s))
        billed_s = report.at_most_ms(now, ahead_s) / 1000
        used = billed_s * report.memory_mb / MB_IN_GB
        run_s, gb_s = run_s + billed_s, gb_s + used
        usd += used * price(prices, report.region, report.architecture)
        usd += price(prices, report.region, "requests") / 1e6
        running += report.is_running(now)
    names = {report.function for report in found}
    return Cost(
        ", ".join(sorted(names)),
        len(found),
        running,
        max((report.memory_mb for report in found), default=0),
        run_s,
        gb_s,
        usd,
    )


# -- at the root ----------------------------------------------------------------------------------------------------


def of_session(chosen: Settings) -> Cost | None:
    """What this process's session has cost so far; None when it has none. Raises SessionLostError."""
    session = sessions.existing()
    if session is None:
        return None
    found = reports(session.channel().call, session.keys, session.sealer)
    silence_s = max(session.info.lease_s, session.info.patience_s)
    return total(found, chosen.lambda_prices, now=time.time(), silence_s=silence_s)


def say_at_end(chosen: Settings, say: Callable[[str], object] | None = None) -> None:
    """Print a line when this process, a session's root, ends: after its processes, before its session."""
    global _says
    session = sessions.existing()
    if not _says and session is not None and session.is_root:
        _says = True
        util.Finalize(None, _say, args=(chosen, say or _print), exitpriority=-900)


_says = False


def _say(chosen: Settings, say: Callable[[str], object]) -> None:
    from cloudpool.errors import CloudpoolError

    session = sessions.existing()
    if session is None:
        return
    try:
        cost = of_session(chosen)
    except CloudpoolError as error:
        say(f"cloudpool: what it has cost is not known: {error}")
        return
    if cost is not None:
        say(f"cloudpool: {cost.line(session.info.id)}")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
