"""What an agent does for processes of its host that have started others elsewhere: it passes on what is said of those.

process here --("far", ...) + exit pipe, stdout, stderr--> agent --launch--> fleet
exit pipe, stdout, stderr <-- agent <--output, exited, failed-- far host's agent
"""

from __future__ import annotations

import marshal
import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

from cloudpool.host import output
from cloudpool.host.output import Sink

DESCRIPTORS = 3  # that come with a launch: exit pipe, stdout, stderr
LOST = 255  # the exit code of a process of which nobody can tell, as forkserver's
MOST_UNWRITTEN = 32 << 20  # bytes of output for readers that are slow, before letters are left where they are


class End(NamedTuple):
    """What the exit pipe carries before it closes: how a process ended."""

    code: int
    host: str = ""  # where it was
    why: str = ""  # it did not end of its own doing, or, when it `was_refused`, could not begin
    was_refused: bool = False
    met_limit: bool = False  # of its host's time or memory
    last_words: bytes = b""

    def encode(self) -> bytes:
        return marshal.dumps(tuple(self))

    @classmethod
    def decode(cls, said: bytes) -> Self:
        """Whose agent has gone has nothing said of it."""
        try:
            return cls(*marshal.loads(said))
        except (EOFError, ValueError, TypeError):
            return cls(LOST)


class Started:
    """A far process as its parent's host sees it. `transits` are the handles on their way to it."""

    def __init__(
        self, method: str, parent: object, exit_pipe: int, sinks: dict[int, Sink], transits: list[str]
    ) -> None:
        self.transits = transits
        self.label = ""  # its name and its host's, once they are known
        self.method, self.parent = method, parent
        self.exit_pipe = exit_pipe
        self.sinks = sinks
        self.exit: bytes | None = None


class Dispatch:
    """The far processes whose parents are on this host. Owned by the agent, who is to watch sinks that are full."""

    def __init__(self, watch: Callable[[Sink, Callable[[], None]], None]) -> None:
        self._watch = watch
        self.is_labelled = False  # each line begins with whose it is
        self._started: dict[str, Started] = {}

    def start(
        self, process_id: str, method: str, parent: object, fds: list[int], transits: list[str]
    ) -> None:
        exit_pipe, stdout, stderr = fds
        sinks = {1: Sink(stdout), 2: Sink(stderr)}
        self._started[process_id] = Started(method, parent, exit_pipe, sinks, transits)

    def children(self, parent: object) -> list[tuple[str, str]]:
        """The far processes that it has started: method, id."""
        return [(far.method, i) for i, far in self._started.items() if far.parent is parent]

    def knows(self, process_id: str) -> bool:
        """Whether its end has not been said yet."""
        far = self._started.get(process_id)
        return far is not None and far.exit is None

    def of(self, method: str) -> list[str]:
        return [i for i, far in self._started.items() if far.method == method]

    def arrived(self, process_id: str) -> list[str]:
        """The handles that were on their way to it, which it has now: given once."""
        far = self._started.get(process_id)
        if far is None:
            return []
        transits, far.transits = far.transits, []
        return transits

    def name(self, process_id: str, label: str) -> None:
        if (far := self._started.get(process_id)) is not None:
            far.label = label

    def said(self, process_id: str, standard: int, data: bytes) -> None:
        if (far := self._started.get(process_id)) is not None:
            sink = far.sinks[standard]
            if self.is_labelled:
                data = output.labelled(data, far.label or process_id, sink.is_terminal)
            sink.write(data)
            if sink and not sink.is_watched:
                self._watch(sink, lambda: self._written(process_id, sink))

    def _written(self, process_id: str, sink: Sink) -> None:
        sink.flush()
        self._end_if_said(process_id)

    def ended(self, process_id: str, end: End) -> None:
        far = self._started.get(process_id)
        if far is not None and far.exit is None:
            far.exit = end._replace(host=far.label.rpartition("@")[2]).encode()
            self._end_if_said(process_id)

    def is_full(self) -> bool:
        return sum(s.size for far in self._started.values() for s in far.sinks.values()) > MOST_UNWRITTEN

    def _end_if_said(self, process_id: str) -> None:
        """Its exit is known once all that it printed has been written."""
        far = self._started.get(process_id)
        if far is None or far.exit is None or any(far.sinks.values()):
            return
        del self._started[process_id]
        with suppress(BrokenPipeError):  # its parent has ended
            os.write(far.exit_pipe, far.exit)
        os.close(far.exit_pipe)
        for sink in far.sinks.values():
            sink.close()
