"""The results of a call whose caller waits: the calling thread takes them itself, which saves the hand-over."""

from __future__ import annotations

from dataclasses import dataclass

from cloudpool.context.tasks import Tasks

MOST_LEFT, MOST_BYTES = 32, 1 << 16  # of results that were handled and are still in the server


@dataclass(slots=True)
class _Left:
    """What a thread has handled and left in the server."""

    results: int = 0
    size: int = 0
    is_certain: bool = True  # else the thread was interrupted


class Incoming:
    """What comes to the calling thread, for one call."""

    __slots__ = ("_left", "_tasks", "to")

    def __init__(self, tasks: Tasks) -> None:
        channel = tasks._here().join(tasks._id)
        if tasks._id not in channel.numbered:
            channel.numbered[tasks._id] = _Left()
        self._tasks = tasks
        self._left: _Left = channel.numbered[tasks._id]
        self.to = channel.party.encode()

    def next(self, timeout_s: float) -> bytes | None:
        """Wait for a result and take it; None after the timeout. Raises SessionLostError."""
        left = self._left
        if not left.is_certain or left.results >= MOST_LEFT or left.size >= MOST_BYTES:
            self._tasks.forget_collected(self.to, is_handled=left.is_certain)
            left.results = left.size = 0
        left.is_certain = False
        element = self._tasks.next_result(left.results, timeout_s, self.to)
        if element is not None:
            left.results += 1
            left.size += len(element)
        left.is_certain = True
        return element
