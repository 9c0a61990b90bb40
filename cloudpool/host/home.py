"""What the root's agent does about other hosts: it keeps the fleets, and says which hosts are dead.

A host's agent raises the counter of its life three times a lease. It is dead when that has stood still for a lease in
which the server answered all the while; or when the engine says so.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloudpool.errors import BlobStoreError
from cloudpool.host.abroad import Abroad
from cloudpool.host.inbox import fleet_id, host_id
from cloudpool.host.interpreter import import_places
from cloudpool.host.porter import Porter
from cloudpool.store.bucket import Place
from cloudpool.store.wire import ReplyError

if TYPE_CHECKING:
    from cloudpool.host.agent import Agent

MOST_HOSTS = 1_000_000  # of one fleet in its life: the hosts of two have different numbers
END_S = 10.0  # for a fleet to take away what it has started
CLEAR_S = 30  # for the storage to delete what is left there


class EnoughError(BaseException):
    """It has taken too long. No OSError, which a request would be tried again for."""


def _enough(*_: object) -> None:
    raise EnoughError


class FleetProcess:
    """The program that drives one runner; `cloudpool.runners.fleet`."""

    def __init__(self, method: str, order: bytes) -> None:
        program = f"import sys; sys.path[:0] = {import_places()!r}; from cloudpool.runners.fleet import main; main()"
        self.method, self.order = method, order
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pidfd = os.pidfd_open(self.process.pid)
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(order)
            self.process.stdin.flush()  # it stays open: its end tells the fleet that the session is over

    def end(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()


class Life:
    """What is known of a far host's."""

    def __init__(self, now: float, method: str) -> None:
        self.method = method
        self.count: bytes | None = None
        self.since = now


class Home(Abroad):
    """The root's agent's dealings."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        # What is under way in messages may be read elsewhere from now on.
        self.hold(self.holders.enter, agent.census.held())
        self._fleets: dict[str, FleetProcess] = {}
        self._values: dict[str, bytes] = {}  # by start method: the settings of who first used it
        self._started = 0  # fleets
        self._buried: set[int] = set()  # hosts that were declared dead
        self._may_have_readers = False  # hosts that read the log of shared memory
        self._lives: dict[int, Life] = {}
        self._looked = time.monotonic()
        self._porter = Porter(agent, self.carrier, self._uploaded) if agent.place else None

    # -- fleets -----------------------------------------------------------------------------------------------------

    def need_fleet(self, method: str, values: bytes) -> None:
        chosen, paths = marshal.loads(values)
        self._dispatch.is_labelled = chosen["prefix"]
        if method in self._fleets:
            return
        agent = self._agent
        self._values.setdefault(method, values)
        self.open_inbox(fleet_id(method))
        order = marshal.dumps({
            "method": method, "first": self._started * MOST_HOSTS, "values": chosen, "paths": paths, "session": agent.session_id, "folder": agent.folder,
            "url": str(agent.url or ""), "far_url": str(agent.far_url or ""), "key": bytes(agent.key), "home": agent.epoch,
            "lease_s": agent.lease_s, "patience_s": agent.line.patience_s, "durable": agent.durable,
            "place": Place.encode(agent.place),
        })  # fmt: skip
        fleet = self._fleets[method] = FleetProcess(method, order)
        self._started += 1
        agent.hear(fleet.pidfd, lambda: self._fleet_ended(fleet))

    def _letter_fleet(self, method: str, values: bytes) -> None:
        """A process on another host wants to start some by a method that was not used yet."""
        self.need_fleet(method, values)

    def _fleet_ended(self, fleet: FleetProcess) -> None:
        """It fell over (who ends it is this agent): what it was to start, or watch, is told to be lost."""
        self._agent.unhear(fleet.pidfd)
        os.close(fleet.pidfd)
        code = fleet.process.wait()
        del self._fleets[fleet.method]
        why = f"the program that keeps the hosts of {fleet.method} has ended with status {code}"
        for process_id in self._dispatch.of(fleet.method):
            self._letter_failed(process_id, why)
        for epoch, life in self._lives.items():
            if life.method == fleet.method:
                self.send(host_id(epoch), "leave")
            else:  # processes there may have started some by that fleet
                self.send(host_id(epoch), "fleet_ended", fleet.method, why)
        # What it has not read is not for the next one.
        agent, inbox = self._agent, self.post.key(fleet_id(fleet.method))
        agent._try("a letter", self._outbox.do, agent.line.call, "XTRIM", inbox, "MAXLEN", 0)

    def start(
        self, parent: object, fds: list[int], transits: list[str], method: str, process_id: str, *rest: Any
    ) -> None:
        self.need_fleet(method, self._values[method])  # another, if that has fallen over
        super().start(parent, fds, transits, method, process_id, *rest)

    # -- hosts ------------------------------------------------------------------------------------------------------

    def _letter_host(self, epoch: int, method: str) -> None:
        """A host has come."""
        self._may_have_readers = True
        self._lives.setdefault(epoch, Life(time.monotonic(), method))

    def _letter_gone(self, epoch: int) -> None:
        """A host has ended, it says itself, or its engine does: what was running there is dead."""
        if self._lives.pop(epoch, None) is not None:
            self._agent.bury_host(epoch)
            self._close_inbox(epoch)

    def look(self) -> None:
        """Look at the hosts' lives; called at each beat."""
        if self._may_have_readers:
            self._agent._try("shared memory", self._trim)
        if not self._lives:
            return
        agent, before = self._agent, self._looked
        self._looked = now = time.monotonic()
        is_gap = now - before > agent.lease_s  # nobody looked: nothing can be said of the time between
        lives = list(self._lives.items())
        asked = [("GET", self.post.keys.base(host_id(epoch)) + "life") for epoch, _ in lives]
        counts = agent._call(agent.line.call_many, asked)  # in one trip, however many hosts there are
        if counts is None or any(isinstance(count, ReplyError) for count in counts):
            return
        for (epoch, life), count in zip(lives, counts, strict=True):
            if count != life.count or is_gap:
                life.count, life.since = count, now
            elif now - life.since > agent.lease_s:
                del self._lives[epoch]
                agent.bury_host(epoch)
                self._close_inbox(epoch)
                for method in self._fleets:
                    self.send(fleet_id(method), "lost", epoch, f"its host was silent for {agent.lease_s:g} s")

    def _trim(self) -> None:
        """What all hosts have read of the log of shared memory is not needed any more."""
        line, keys = self._agent.line, self._agent.keys
        said = line.call("HGETALL", keys.readers)
        after = []
        for epoch, entry in zip(said[::2], said[1::2], strict=True):
            if int(epoch) in self._buried:  # one of which no letter has told yet may be there already
                line.call("HDEL", keys.readers, epoch)
            else:
                after.append(tuple(map(int, entry.split(b"-"))))
        if not after:
            line.script("log_empty", (keys.readers, keys.blocks))
        elif len(oldest := min(after)) == 2:
            line.call("XTRIM", keys.blocks, "MINID", "{}-{}".format(*oldest))
        self._may_have_readers = bool(self._lives or after)

    def _close_inbox(self, epoch: int) -> None:
        """Nobody reads it any more: who asks there is to know."""
        self._buried.add(epoch)
        self._agent._delete(host_id(epoch))

    # -- large payloads ---------------------------------------------------------------------------------------------

    def upload(self, name: str, size: int) -> None:
        assert self._porter is not None
        self._porter.upload(name, size)

    def _uploaded(self, name: str, size: int, why: str) -> None:
        said = self.carrier.failed(name, why) if why else self.carrier.stowed(name, size)
        for command in said:
            if not self._agent._try("a blob", self._agent.line.call, *command):
                return  # it is asked for again
        self._say_ready(name)

    def clear_bucket(self) -> None:
        """Once all hosts are taken away. What cannot be deleted is left to gc, and to the bucket's own rule; so is what a
        function's environment, which nobody can end from here, writes after this.
        """
        if self._porter is None:
            return
        self._porter.close()
        signal.signal(signal.SIGALRM, _enough)
        with suppress(BlobStoreError, EnoughError):
            signal.alarm(CLEAR_S)
            try:
                self.carrier.bucket().clear()
            finally:
                signal.alarm(0)

    # -- the end ----------------------------------------------------------------------------------------------------

    def ask_to_go(self) -> None:
        """User code stops at once; a fleet takes away its hosts at their engine's pace."""
        for fleet in self._fleets.values():
            fleet.end()

    def await_end(self) -> None:
        """Until all hosts are taken away. A fleet that does not come to an end is ended."""
        left = {fleet.pidfd for fleet in self._fleets.values()}
        deadline = time.monotonic() + END_S
        while left:
            poll = select.poll()
            for pidfd in left:
                poll.register(pidfd, select.POLLIN)
            ready = poll.poll(1000 * max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            left -= {fd for fd, _ in ready}
        for fleet in self._fleets.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fleet.pidfd, signal.SIGKILL)
            fleet.process.wait()

    def ends(self) -> Any:
        return list(self._lives)
