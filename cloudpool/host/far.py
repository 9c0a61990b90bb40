"""The agent of a far host: its first process. What it does for the session here, the root's agent does at home.

    letters from the fleet: launch, signal, leave        letters to parents' hosts: output, exited
        |                                                        ^
        v                                                        |
      agent --fork--> zygote --fork--> processes of the user's --pipes (stdout, stderr)
        ^--------------- hello, holds, ended (mail) ---------------'

It ends when it is told to leave, or when the session is over.
"""

from __future__ import annotations

import marshal
import math
import os
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

from cloudpool.host import descriptors, folder as folders, mail, zygote
from cloudpool.host.abroad import MOST_UNREAD, Abroad
from cloudpool.host.agent import Agent
from cloudpool.host.card import Card
from cloudpool.host.census import Member
from cloudpool.host.dispatch import LOST
from cloudpool.host.inbox import fleet_id, host_id
from cloudpool.host.line import ClaimedError, FarLine, LostError, RootEndedError
from cloudpool.host.output import Source
from cloudpool.host.session import sealer_of
from cloudpool.host.shortage import Shortage, peak
from cloudpool.host.term import Step, Term
from cloudpool.store.bucket import Place
from cloudpool.store.wire import ReplyError

LAST_WORDS = "last."  # and the process's id: a file in the host's folder
PAUSE_S = 0.02  # before a full reader is looked at again


class FarProcess:
    """One process that was started here for a parent elsewhere: its pipes, and what is left to say of it."""

    def __init__(self, process_id: str, parent: int) -> None:
        self.process_id = process_id
        self.parent = parent  # the epoch of its parent's host
        self.sources: list[Source] = []
        self.pid = 0  # the kernel's
        self.exitcode: int | None = None
        self.why = ""  # it was killed: what its host had, of time or memory, was too little
        self.signals: list[int] = []  # that came before it was forked
        self.parent_sentinel = self.parents_end = -1  # a pipe that is closed when its parent has died

    def is_over(self) -> bool:
        return self.exitcode is not None and not self.sources


class FarAgent(Agent):
    """A host's agent that a runner has started. Raises ServerError, LostError at the start when the session is over."""

    def __init__(
        self,
        card: Card,
        folder: str,
        number: int,
        run: zygote.Run,
        preloaded: tuple[str, ...],
        term: Term | None = None,
    ) -> None:
        # A line looks for the end of whom it serves, which here letters and lives tell: it gets a pipe that stays open.
        never, self._stays_open = os.pipe()
        line = FarLine(card.session, folder, card.url, card.lease_s, card.durable, never)
        line.patience_s = card.patience_s
        line.claim = number if term is not None else None
        try:
            self._begin(
                card.session, folder, card.url, line, card.lease_s, card.durable, card.key, card.place
            )
        except ClaimedError:
            if term is not None:  # it is billed all the same
                with suppress(LostError, RootEndedError, ReplyError):
                    term.report(line, sealer_of(card.key), 0.0, is_over=True)
            raise
        self._card, self._run_process, self._preloaded = card, run, preloaded
        self._files = folders.files(folder)
        self._shortage = Shortage()
        self._used = 0
        self._term, self._is_closed = term, False
        if term is not None:
            self._beat_s = min(self._beat_s, term.MOST_BEAT_S)
        self._processes: dict[str, FarProcess] = {}
        self._zygote: socket.socket | None = None
        self._zygote_pid = 0
        self._paused: dict[int, float] = {}
        self._sealer = sealer_of(card.key)
        self._letters = Letters(self)
        self._has_beaten()
        self._letters.send(fleet_id(card.method), "up", self.epoch, number)

    _is_abroad = True

    def _on_arrived(self, _member: Member, _fds: list[int], process_id: str, name: str) -> None:
        self._letters.say_arrived(process_id, name)

    def closed(self) -> None:
        """Nothing more is sent here."""
        self._is_closed = True

    def _on_retire(self, _member: Member, _fds: list[int]) -> None:
        if self._term is not None:
            self._term.close_early()

    def abroad(self) -> Abroad:
        return self._letters

    @property
    def _pids(self) -> str:
        return self.keys.base(host_id(self.epoch)) + "pids"

    def _welcome(self, caller: socket.socket, member: Member) -> None:
        super()._welcome(caller, member)
        if member.name:  # for whoever buries this host
            keys = self.keys.beat, self._pids
            self._try(
                "a pid", self.line.script, "session_set", keys, member.name, member.known_as, self.ttl_ms, ""
            )

    def _bury(self, members: list[Member]) -> None:
        super()._bury(members)
        if names := [member.name for member in members if member.name]:
            self._try("a pid", self.line.call, "HDEL", self._pids, *names)

    def _has_beaten(self) -> None:
        """For whoever tells of this host's death, when there is nobody left here to tell."""
        used = peak()
        if used > self._used:
            expiry = ("PX", self.ttl_ms) if self.ttl_ms else ()
            key = self.keys.base(host_id(self.epoch)) + "used"
            if self._try("its memory", self.line.call, "SET", key, used, *expiry):
                self._used = used

    # -- processes --------------------------------------------------------------------------------------------------

    def launch(self, process_id: str, parent: int, pid: int, ppid: int, modules: list[str]) -> None:
        if process_id in self._processes:
            return  # a letter that came twice
        if self._term is not None and self._term.is_closing:
            self._letters.send(fleet_id(self._card.method), "declined", self.epoch, process_id)
            return
        far = self._processes[process_id] = FarProcess(process_id, parent)
        if self._zygote is None:
            self._start_zygote(modules)
        assert self._zygote is not None
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in (1, 2)]
        far.parent_sentinel, far.parents_end = os.pipe2(os.O_CLOEXEC)
        last_words = os.open(self._last_words(process_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(last_words)
        request = ("fork", process_id, pid, ppid, self._files, self._card.method, self._card_here())
        mail.send(self._zygote, request, [*(w for _, w in pipes), far.parent_sentinel])
        os.close(far.parent_sentinel)
        for standard, (r, w) in zip((1, 2), pipes, strict=True):
            os.close(w)
            source = Source(standard, r)
            far.sources.append(source)
            self.hear(r, partial(self._printed, far, source))

    def kill(self, process_id: str, signalnum: int) -> None:
        far = self._processes.get(process_id)
        if far is None or far.exitcode is not None:
            return
        if not far.pid:
            far.signals.append(signalnum)
            return
        with suppress(ProcessLookupError):
            os.kill(far.pid, signalnum)

    def _card_here(self) -> bytes:
        """What a process needs to join the session here; by the zygote's socket, which nobody else reads."""
        card = self._card
        return marshal.dumps(
            (
                card.session, self.folder, str(card.url), card.lease_s, card.durable, bytes(card.key), Place.encode(card.place),
                self._term.closes_at if self._term is not None else math.inf,
            )
        )  # fmt: skip

    def _last_words(self, process_id: str) -> str:
        return os.path.join(self.folder, LAST_WORDS + process_id)

    def _start_zygote(self, modules: list[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                self._let_go()
                descriptors.restore_limit()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                zygote.serve(theirs, [*self._preloaded, *modules], self._run_process)
            finally:
                os._exit(0)
        theirs.close()
        self._zygote, self._zygote_pid = ours, pid
        self.hear(ours.fileno(), self._zygote_said)

    def _let_go(self) -> None:
        """In a fork of the agent: its descriptors are not the child's."""
        self._letters.close()
        self.line.store.close()
        self._listener.close()
        self._poll.close()

    def _zygote_said(self) -> None:
        assert self._zygote is not None
        try:
            message, _ = mail.receive(self._zygote)
        except OSError:
            message = None
        if message is None:  # it has died, and what it had to say of its children with it
            self.unhear(self._zygote.fileno())
            self._zygote.close()
            self._zygote = None
            for far in list(self._processes.values()):
                if far.exitcode is None:
                    self._ended(far, LOST)
            return
        op, process_id, number = message
        known = self._processes.get(process_id)
        if known is None:
            return
        if op == "forked":
            known.pid = number
            signals, known.signals = known.signals, []
            for signalnum in signals:
                self.kill(process_id, signalnum)
        else:
            self._ended(known, number)

    # -- what they print --------------------------------------------------------------------------------------------

    def _printed(self, far: FarProcess, source: Source) -> None:
        """Send home what it has printed; at the pipe's end, what is left, and its exit when that is known."""
        data = source.read()
        if data and not self._letters.output(far.parent, far.process_id, source.standard, data):
            self._pause(source.fd)
        if source.is_over:
            self.unhear(source.fd)
            self._paused.pop(source.fd, None)
            os.close(source.fd)
            far.sources.remove(source)
            self._report_if_over(far)

    def _pause(self, fd: int) -> None:
        """Whoever prints faster than is read at home waits, as it would at a pipe."""
        self._poll.modify(fd, 0)
        self._paused[fd] = time.monotonic() + PAUSE_S

    def idle(self) -> float:
        self._reap_orphans()
        now = time.monotonic()
        for fd, until in list(self._paused.items()):
            if until <= now:
                del self._paused[fd]
                self._poll.modify(fd, 1)
        term_s = self._heed(self._term, now) if self._term is not None else math.inf
        return min(super().idle(), min(self._paused.values(), default=math.inf) - now, term_s)

    def _heed(self, term: Term, now: float) -> float:
        """What the host's term asks for by now; seconds until it asks for more."""
        step = term.step(now)
        if step == Step.CLOSE:
            self._letters.send(fleet_id(self._card.method), "closing", self.epoch)
        elif step in (Step.WARN, Step.TERMINATE, Step.KILL):
            for far in self._processes.values():
                if far.exitcode is None:
                    self._heed_for(far, term, step, now)
            for member in (
                self.census.members.values() if step == Step.KILL else ()
            ):  # what those have started here
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(member.pidfd, signal.SIGKILL)
        if (self._is_closed and not self._processes) or step == Step.LEAVE:
            self.leave()
            return 0.0
        if term.is_report_due(now):
            self._try("a report", term.report, self.line, self._sealer, self._beat_s)
        return term.next_at() - now

    def _heed_for(self, far: FarProcess, term: Term, step: Step, now: float) -> None:
        if step == Step.WARN:
            self._letters.output(far.parent, far.process_id, 2, f"cloudpool: {term.warning(now)}\n".encode())
            return
        far.why = term.reason
        self.kill(far.process_id, signal.SIGTERM if step == Step.TERMINATE else signal.SIGKILL)

    def _reap_orphans(self) -> None:
        """As a container's first process it inherits what others leave behind, and nobody else buries that."""
        with suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                if pid == self._zygote_pid:
                    self._zygote_pid = 0  # its number may be another's now

    def _ended(self, far: FarProcess, code: int) -> None:
        self._letters.sync()  # who joins it sees what it has written
        for source in list(
            far.sources
        ):  # what it printed is in the pipe; a process that it left behind may keep it open
            source.hurry()
            self._printed(far, source)
        if code == -signal.SIGKILL and (why := self._shortage.new()):
            setting = f"CLOUDPOOL_{self._card.method.upper()}_MEMORY"
            far.why = f"for want of memory: {why} ({setting})"
            told = f"cloudpool: a process was killed {far.why}.\n"
            self._letters.output(far.parent, far.process_id, 2, told.encode())
        far.exitcode = code  # not before: all that is said of it comes before its end
        self._report_if_over(far)

    def _report_if_over(self, far: FarProcess) -> None:
        if not far.is_over() or self._processes.pop(far.process_id, None) is None:
            return
        path = self._last_words(far.process_id)
        if far.parents_end >= 0:
            os.close(far.parents_end)
        with open(path, "rb") as file:
            last_words = file.read()
        os.unlink(path)
        self._letters.send(
            host_id(far.parent), "exited", far.process_id, far.exitcode, last_words, far.why, bool(far.why)
        )
        self._letters.send(fleet_id(self._card.method), "ended", self.epoch, far.process_id)

    # -- the end ----------------------------------------------------------------------------------------------------

    def orphan(self, process_id: str) -> None:
        """The parent of that process has died."""
        far = self._processes.get(process_id)
        if far is not None and far.parents_end >= 0:
            os.close(far.parents_end)
            far.parents_end = -1

    def _lose(self, why: str) -> None:
        super()._lose(why)
        self._over = True

    def _send_to_look(self) -> None:
        """The processes here are ended; other hosts look for themselves."""

    def _renew(self) -> bool:
        """Its own life alone: all else the root's agent renews, or each host would renew what all hosts have."""
        return self._try("its beat", self.line.beat, self.ttl_ms)

    def leave(self) -> None:
        self._over = self._was_orderly = True

    def end(self) -> None:
        """End the processes here, then the host's folder; the session's keys are the root's agent's."""
        self._end_processes()
        if self._term is not None and self._was_orderly and not self._is_lost:
            self._take_leave(self._term)
        elif not self._is_lost:
            with suppress(OSError):
                self._letters.say_left()
        if self._zygote_pid:
            with suppress(ProcessLookupError):
                os.kill(self._zygote_pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self._zygote_pid, 0)
        self._close_door()
        folders.remove(self.folder)

    def _take_leave(self, term: Term) -> None:
        """As `say_left`, and until the server has heard it: what comes next may be that this environment is frozen."""
        with suppress(LostError, RootEndedError, ReplyError):
            term.report(self.line, self._sealer, self._beat_s, is_over=True)
            self.line.call(*self._letters.left())


class Letters(Abroad):
    """A far agent's dealings with other hosts."""

    def __init__(self, agent: FarAgent) -> None:
        super().__init__(agent)
        self._far = agent

    def need_fleet(self, method: str, values: bytes) -> None:
        if method != self._far._card.method:
            self.open_inbox(fleet_id(method))
            self.send(host_id(self._far._card.home), "fleet", method, values)

    def output(self, parent: int, process_id: str, standard: int, data: bytes) -> bool:
        """False when its reader is slow: then no more is to be sent for a while."""
        reader = host_id(parent)
        self.send(reader, "output", process_id, standard, data)
        try:
            unread = self._agent._call(self._agent.line.call, "XLEN", self.post.key(reader))
        except ReplyError:
            return True
        return (unread or 0) < MOST_UNREAD

    def say_left(self) -> None:
        """No process is left here: what they had may go on. Not waited for: this may come in the middle of a command, and
        the server may be gone; then the host's silence tells.
        """
        self._agent.line.store.send(*self.left())

    def left(self) -> tuple[object, ...]:
        return self.post.command(fleet_id(self._far._card.method), ("left", self._agent.epoch))

    def say_arrived(self, process_id: str, name: str) -> None:
        far = self._far._processes.get(process_id)
        if far is not None:
            self.send(host_id(far.parent), "arrived", process_id, f"{name}@{os.uname().nodename}")

    def _letter_launch(self, *launch: Any) -> None:
        self._far.launch(*launch)

    def _letter_signal(self, process_id: str, signalnum: int) -> None:
        self._far.kill(process_id, signalnum)

    def _letter_orphan(self, process_id: str) -> None:
        self._far.orphan(process_id)

    def _letter_closed(self) -> None:
        self._far.closed()

    def _letter_leave(self) -> None:
        self._far.leave()
