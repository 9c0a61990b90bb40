"""How many descriptors an agent may have: a few for each process that it looks after, so as many as the kernel lets it."""

from __future__ import annotations

import resource
from contextlib import suppress

NO_DESCRIPTORS = "an agent has no descriptors left for one more process: raise its host's `ulimit -Hn`, or start fewer at once."

_before: tuple[int, int] | None = None


def raise_limit() -> None:
    global _before
    _before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox that forbids it
        resource.setrlimit(resource.RLIMIT_NOFILE, (_before[1], _before[1]))


def restore_limit() -> None:
    """In the user's processes it is what it was: select() and programs that close all there may be depend on it."""
    if _before is not None:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, _before)
