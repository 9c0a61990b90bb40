"""A bar where a person waits for a pool's call. tqdm is imported only when one is drawn."""

from __future__ import annotations

import sys
from typing import Protocol


class Bar(Protocol):
    """What the pool needs of tqdm."""

    def update(self, n: float | None = 1) -> object: ...

    def close(self) -> None: ...


def bar(total: int | None) -> Bar | None:
    """A bar on stderr (a widget in a notebook) of `total` items; None where no one could see it."""
    in_notebook = "ipykernel" in sys.modules
    if not in_notebook and (sys.stderr is None or not sys.stderr.isatty()):
        return None
    from tqdm.auto import tqdm

    class Quiet(tqdm):
        monitor_interval = 0  # no thread that wakes up to look after bars

    made: Bar = Quiet(total=total)
    return made
