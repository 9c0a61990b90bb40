"""Who goes where: a process goes to a host with a free slot; while hosts are still to come it waits for one; when all there
can be are there, it goes to the least loaded. Slots are a preference, never a limit: no program waits for room that never
comes.

Pure: no clock, no server, no engine; the fleet acts on what it says.
"""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass, field

# Signals that end no process by default.
HARMLESS = frozenset({
    0, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
    signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
})  # fmt: skip


@dataclass(eq=False)
class Host:
    """A host that has reported itself."""

    epoch: int
    number: int
    slots: int
    running: set[str]
    idle_since: float
    is_closing: bool = False  # it has only so long, and takes no more processes

    def load(self) -> float:
        return len(self.running) / self.slots


@dataclass
class Launch:
    """A process to be started: the letter's rest goes to the host as it is."""

    process_id: str
    parent: int  # the epoch of its parent's host
    rest: tuple[object, ...]
    signals: list[int] = field(default_factory=list)  # that were sent after it
    declines: int = 0  # by hosts that were closing when it came

    def ended_by(self) -> int | None:
        """The first of its signals that ends what does not begin any more."""
        return next((signalnum for signalnum in self.signals if signalnum not in HARMLESS), None)


class Plan:
    """Hosts that are there, hosts that are to come, processes that run and processes that wait."""

    MOST_FAILURES = 3  # hosts in a row that end before they are ready, until nobody waits for another

    def __init__(self, most_hosts: int, slots: int) -> None:
        self.most_hosts, self.slots = most_hosts, slots
        self._room = most_hosts  # what there may be while hosts come
        self.hosts: dict[int, Host] = {}
        self.coming: dict[int, float] = {}  # numbers of hosts that were asked for, and when
        self._repeated: dict[int, int] = {}  # how often again
        self.waiting: dict[str, Launch] = {}
        self.places: dict[str, tuple[Host, Launch]] = {}
        self.failures = 0

    def is_busy(self) -> bool:
        return bool(self.waiting or self.coming or self.places)

    def knows(self, process_id: str) -> bool:
        return process_id in self.places or process_id in self.waiting

    def to_start(self) -> int:
        """How many hosts are to be asked for, beyond those that are coming."""
        there = self._open()
        room = sum(max(0, h.slots - len(h.running)) for h in there) + len(self.coming) * self.slots
        needed = math.ceil(max(0, len(self.waiting) - room) / self.slots)
        return max(0, min(needed, self.most_hosts - len(there) - len(self.coming)))

    def _open(self) -> list[Host]:
        return [host for host in self.hosts.values() if not host.is_closing]

    def cancel(self, process_id: str, signalnum: int) -> Launch | None:
        """A process that waits for its place gets a signal: what does not begin any more, when that would have ended it."""
        return None if signalnum in HARMLESS else self.waiting.pop(process_id, None)

    def late(self, asked_before: float) -> list[int]:
        """The hosts that were asked for before then, and have not come."""
        return [number for number, asked in self.coming.items() if asked < asked_before]

    def unheard(self, now: float, after_s: float) -> list[int]:
        """The hosts to be asked for again: after so long, then after twice as long, and so on."""
        self._repeated = {number: self._repeated.get(number, 0) for number in self.coming}
        found = []
        for number, asked in self.coming.items():
            if now - asked > after_s * (2 ** (self._repeated[number] + 1) - 1):
                self._repeated[number] += 1
                found.append(number)
        return found

    def shrink(self) -> None:
        """No more hosts come than those that are there or still to come: it has to do with them."""
        self.most_hosts = max(1, len(self._open()) + len(self.coming))

    def grow(self) -> None:
        """More may be asked for again."""
        self.most_hosts, self.failures = self._room, 0

    def assign(self) -> list[tuple[Host, Launch]]:
        """What can be sent to hosts now."""
        sent = []
        for launch in list(self.waiting.values()):
            host = min(self._open(), key=Host.load, default=None)
            if host is None or (host.load() >= 1 and (self.coming or self.to_start())):
                break
            del self.waiting[launch.process_id]
            host.running.add(launch.process_id)
            self.places[launch.process_id] = host, launch
            sent.append((host, launch))
        return sent

    def ended(self, process_id: str) -> Host | None:
        """The host that it was on."""
        host, _ = self.places.pop(process_id, (None, None))
        if host is not None:
            host.running.discard(process_id)
        return host

    def declined(self, process_id: str) -> Launch | None:
        """Its host takes no more: it waits for another. What is to be told to be ended instead, by a signal meanwhile."""
        host, launch = self.places.pop(process_id, (None, None))
        if host is None or launch is None:
            return None
        host.running.discard(process_id)
        launch.declines += 1
        if launch.declines <= self.MOST_FAILURES and launch.ended_by() is None:
            self.waiting[process_id] = launch
            return None
        return launch

    def gone(self, host: Host) -> list[Launch]:
        """A host is not there any more; what was running on it."""
        self.hosts.pop(host.epoch, None)
        return [self.places.pop(process_id)[1] for process_id in sorted(host.running)]
