"""How a test waits for something that nothing tells of: another process's end, what a server has come to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LONG_S = 90.0  # for processes to end, on a machine that has other things to do


def until(
    is_so: Callable[[], object], timeout_s: float = 20.0, left: Callable[[], object] | None = None
) -> None:
    """`left` tells what it still waits for."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {left() if left else ''}"
        time.sleep(0.01)


def ended_well(*processes: Any) -> None:
    """Wait until these have ended, all of them with exit code 0."""
    for process in processes:
        process.join(LONG_S)
    assert [process.exitcode for process in processes] == [0] * len(processes)
