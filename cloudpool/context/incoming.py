"""The results of a call whose caller waits: the calling thread takes them itself, which saves the hand-over."""

from __future__ import annotations

from dataclasses import dataclass

from cloudpool.context.tasks import Tasks

MOST_LEFT = 32  # results that were handled and are still in the server


@dataclass(slots=True)
class _Left:
    """What a thread has handled and left in the server; -1: it was interrupted."""

    results: int = 0


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
        left, self._left.results = self._left.results, -1
        if not 0 <= left < MOST_LEFT:
            self._tasks.forget_collected(self.to)
            left = 0
        element = self._tasks.next_result(left, timeout_s, self.to)
        self._left.results = left + (element is not None)
        return element
