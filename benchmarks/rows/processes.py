"""Processes: starting and joining."""

from __future__ import annotations

from typing import Any

from rows import joined, median_s, row, started, times


def nothing() -> None:
    """What a process does that only starts and ends."""


@row(times(1.15))
def process(mp: Any) -> float:
    joined(started(mp, nothing, [()]))
    return median_s(lambda: joined(started(mp, nothing, [()])), 30)


@row(times(1.2))
def process_burst_of_50(mp: Any) -> float:
    joined(started(mp, nothing, [()]))
    return median_s(lambda: joined(started(mp, nothing, [()] * 50)), 5) / 50
