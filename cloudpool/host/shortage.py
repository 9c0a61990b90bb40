"""Whether the kernel has killed a process of this container for want of memory, and how much it has used, as its cgroup tells."""

from __future__ import annotations

import re
from contextlib import suppress

MIB = 1 << 20
_NUMBER = r"^(\d+)$"
# cgroup v2's file or v1's: where the container's own cgroup is mounted.
_KILLS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
_LIMIT = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PEAK = ("/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes")
_NO_LIMIT = 1 << 60  # v1 says so by a number near the largest


class Shortage:
    """Counts the kills. Owned by a far host's agent."""

    def __init__(self) -> None:
        self._kills = _kills()

    def new(self) -> str:
        """What to say of it when another process was killed since; "" when none was."""
        before, self._kills = self._kills, _kills()
        if self._kills <= before:
            return ""
        limit, most = _first(_LIMIT, _NUMBER), peak()
        if not 0 < limit < _NO_LIMIT:
            return "its host has no more"
        return f"its host has {limit / MIB:g} MiB" + (f", and has used {most / MIB:.0f}" if most else "")


def peak() -> int:
    """The most bytes that this container has had at a time, with what is in its shared memory; 0 when nothing tells."""
    return _first(_PEAK, _NUMBER)


def _kills() -> int:
    return _first(_KILLS, r"^oom_kill (\d+)$")


def _first(paths: tuple[str, ...], pattern: str) -> int:
    for path in paths:
        with suppress(OSError), open(path) as file:
            if found := re.search(pattern, file.read(), re.MULTILINE):
                return int(found[1])
    return 0
