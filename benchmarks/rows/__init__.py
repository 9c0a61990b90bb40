"""What compare.py times: a row is a function that, given a module with multiprocessing's API, does it and returns its cost.

A cost is in seconds a piece unless the row's `unit` says otherwise; less is better. Every row checks what it computed.
Functions that run in children are at module level and see the module by no global: some modules ship them by value.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Measure = Callable[[Any], float]


class Limit(NamedTuple):
    """What a cost may be at most: so many times the reference's (None: multiprocessing's), so much beyond it, or so much."""

    most: float
    kind: str
    reference: Callable[[], float] | None = None


class Row(NamedTuple):
    measure: Measure
    limits: tuple[Limit, ...]
    unit: str


ROWS: dict[str, Row] = {}


def times(most: float, reference: Callable[[], float] | None = None) -> Limit:
    return Limit(most, "times", reference)


def beyond(most: float) -> Limit:
    return Limit(most, "beyond")


def so_much(most: float) -> Limit:
    return Limit(most, "so much")


def row(*limits: Limit, unit: str = "s") -> Callable[[Measure], Measure]:
    def add(measure: Measure) -> Measure:
        ROWS[measure.__name__] = Row(measure, limits, unit)
        return measure

    return add


def check(is_right: bool, what: str = "a wrong answer") -> None:
    if not is_right:
        raise AssertionError(what)


def median_s(act: Callable[[], Any], count: int, expected: Any = None) -> float:
    """The median of the seconds that `act` takes; what it returns is compared with `expected`, untimed, unless that is None."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        answer = act()
        taken.append(time.perf_counter() - began)
        if expected is not None:
            check(list(answer) == expected if isinstance(expected, list) else answer == expected)
    return statistics.median(taken)


def each_s(act: Callable[[int], Any], least_s: float = 0.2) -> float:
    """Seconds that one of many calls takes: as many as need `least_s`, five times over, the median."""
    count = 1
    while (taken := _calls_s(act, count)) < least_s / 5:
        count = max(2 * count, int(count * least_s / 4 / max(taken, 1e-7)))
    return statistics.median([_calls_s(act, count) for _ in range(5)]) / count


def _calls_s(act: Callable[[int], Any], count: int) -> float:
    began = time.perf_counter()
    for i in range(count):
        act(i)
    return time.perf_counter() - began


def started(mp: Any, target: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    processes = [mp.Process(target=target, args=arguments) for arguments in calls]
    for process in processes:
        process.start()
    return processes


def joined(processes: list[Any]) -> None:
    for process in processes:
        process.join()
        try:
            code = process.exitcode
        except NotImplementedError:  # lithops': its join has raised what the child has
            code = 0
        check(code == 0, f"a child has ended with {code}")
