"""An agent's dealings with other hosts: letters, and the processes there that were started from here.

process here --fleet, far, signal--> agent --letters--> fleet, other hosts' agents
                                           <--output, exited, failed--
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloudpool.host import mail
from cloudpool.host.blocks import Blocks
from cloudpool.host.descriptors import NO_DESCRIPTORS
from cloudpool.host.dispatch import DESCRIPTORS, LOST, Dispatch, End
from cloudpool.host.holders import Holders
from cloudpool.host.inbox import Inbox, Outbox, Post, fleet_id, host_id
from cloudpool.host.line import LostError
from cloudpool.host.output import Sink
from cloudpool.host.parcels import Carrier
from cloudpool.host.session import sealer_of
from cloudpool.store.wire import NotYet, ReplyError

if TYPE_CHECKING:
    from cloudpool.host.agent import Agent

MOST_UNREAD = 200  # letters that wait at a reader: then no more output is sent to it for a while
ASK_S = 1.0
SAID_S = 10.0  # what is said again within that time is not news
READY_MS = 60_000  # for all who wait for a blob to see that it is there
NOWHERE = errno.ENOENT  # why a block cannot be had
OTHERS = 0  # among hosts to be asked: no epoch, but all that there are then


class Abroad:
    """Made by an agent when the first process of its host wants to start one elsewhere; by a far host's at once."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.here = host_id(agent.epoch)
        sealer = sealer_of(agent.key)
        self.post = Post(agent.keys, agent.ttl_ms, sealer)
        self.carrier = Carrier(agent.keys, agent.ttl_ms, sealer, agent.place)
        name = agent.keys.client(self.here)
        self._outbox = Outbox(self.here, self.post, agent.line.call)
        self._next_errand = 0.0
        self._inbox = Inbox(self.here, self.post, agent.line.open, name)
        self._dispatch = Dispatch(self._watch_sink)
        self.blocks = Blocks(agent.folder, agent.epoch, agent.line, sealer)
        self.holders = Holders(agent.epoch, agent.line)
        self._wanted: dict[
            str, list[socket.socket]
        ] = {}  # blocks that are on their way here: who waits for them
        self.blocks.awaited = self._wanted
        self._asked: dict[str, list[int]] = {}  # of which hosts, the last one now
        self._wishes = 0  # for blocks, so far
        self._wish: dict[str, int] = {}  # by block; the same each time that it is asked for
        self._next_asking: dict[str, float] = {}
        self._refusals: dict[str, float] = {}  # what was said of late, and when
        self._heard = -1
        self._hear_inbox()

    def need_fleet(self, method: str, values: bytes) -> None:
        """A process of this host is about to start others by that start method, with these settings."""
        raise NotImplementedError

    # -- letters ----------------------------------------------------------------------------------------------------

    def send(self, reader: str, *letter: Any) -> None:
        self._agent._try("a letter", self._outbox.send, reader, letter)

    def hold(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have something done about holders, after what was sent before and before what is sent after."""
        self._agent._try("a holder", self._outbox.do, function, *arguments)

    def open_inbox(self, reader: str) -> None:
        """What is sent there waits for its reader."""
        for command in self.post.opening(reader):
            self._agent._try("an inbox", self._agent.line.call, *command)

    def _hear_inbox(self) -> None:
        if self._heard >= 0:
            self._agent.unhear(self._heard)
            self._heard = -1
        if not self._dispatch.is_full():
            self._heard = self._inbox.fileno()
            self._agent.hear(self._heard, self._read)

    def _read(self) -> None:
        try:
            letters = self._inbox.read()
        except (OSError, ReplyError):
            self._reopen()
            return
        for op, *rest in letters:
            getattr(self, "_letter_" + op)(*rest)
        if self._dispatch.is_full():
            self._hear_inbox()

    def _reopen(self) -> None:
        """Its line was cut: by the end of the session, it may be."""
        self._agent.unhear(self._heard)
        self._heard = -1
        self._agent._try("its beat", self._agent.line.beat)
        while not self._agent.is_over:
            try:
                self._inbox.reopen()
            except (NotYet, OSError):
                self._agent._try("its beat", self._agent.line.beat)
                continue
            except LostError as lost:
                self._agent._lose(str(lost))
                return
            self._hear_inbox()
            return

    def _letter_begin(self) -> None:
        """The stream is there."""

    def _letter_fleet_ended(self, method: str, why: str) -> None:
        """What it was to start, or watch, for processes of this host is lost."""
        for process_id in self._dispatch.of(method):
            self._letter_failed(process_id, why)

    def _letter_end(self, names: list[str]) -> None:
        """The pool whose workers these are is nobody's any more."""
        self._agent.end_members(names)

    # -- processes that were started from here ----------------------------------------------------------------------

    def start(
        self, parent: object, fds: list[int], transits: list[str], method: str, process_id: str, *rest: Any
    ) -> None:
        if len(fds) < DESCRIPTORS:
            self._refuse(process_id, fds, transits)
            return
        self._dispatch.start(process_id, method, parent, fds, transits)
        self.send(fleet_id(method), "launch", process_id, self._agent.epoch, *rest)

    def _refuse(self, process_id: str, fds: list[int], transits: list[str]) -> None:
        """The kernel has dropped descriptors of a launch, for want of room here: this one cannot be, the others go on."""
        print(f"cloudpool: {NO_DESCRIPTORS}", file=sys.stderr, flush=True)
        if fds:  # the first is its exit pipe; without that its parent sees the pipe's end
            with suppress(BrokenPipeError):
                os.write(fds[0], End(LOST, why=NO_DESCRIPTORS, was_refused=True).encode())
        for fd in fds:
            os.close(fd)
        for transit in transits:
            self._agent._free(self._agent.census.arrived(transit))
        self._agent._delete(process_id)

    def died(self, parent: object) -> None:
        """A process of this host has died: its children elsewhere are told, as a pipe tells those here."""
        for method, process_id in self._dispatch.children(parent):
            self.send(fleet_id(method), "orphan", process_id)

    def signal(self, method: str, process_id: str, signalnum: int) -> None:
        self.send(fleet_id(method), "signal", process_id, signalnum)

    def _letter_output(self, process_id: str, standard: int, data: bytes) -> None:
        self._dispatch.said(process_id, standard, data)

    def _letter_arrived(self, process_id: str, label: str) -> None:
        self._dispatch.name(process_id, label)
        self._take_over(process_id)

    def _take_over(self, process_id: str) -> None:
        """The handles that were on their way to a process are not any more."""
        for transit in self._dispatch.arrived(process_id):
            self._agent._free(self._agent.census.arrived(transit))

    def _letter_got(self, transit: str) -> None:
        """A handle in a message from here has arrived elsewhere."""
        self._agent._free(self._agent.census.arrived(transit))

    def _letter_exited(
        self, process_id: str, code: int, last_words: bytes, why: str = "", met_limit: bool = False
    ) -> None:
        self._take_over(process_id)
        self._forget_launch(process_id)
        self._dispatch.ended(process_id, End(code, why=why, met_limit=met_limit, last_words=last_words))

    def _forget_launch(self, process_id: str) -> None:
        """What it was started from is for nobody; its place in the registry goes with it."""
        if self._dispatch.knows(process_id):
            self._agent._delete(process_id)

    def _letter_failed(self, process_id: str, why: str) -> None:
        """Its host is gone."""
        self._take_over(process_id)
        self._forget_launch(process_id)
        self._dispatch.said(process_id, 2, f"cloudpool: {why}\n".encode())
        self._dispatch.ended(process_id, End(LOST, why=why))

    def _letter_refused(self, process_id: str, why: str) -> None:
        """No host could come for it. Said once of all that are refused at a time: a pool has many workers."""
        self._take_over(process_id)
        self._forget_launch(process_id)
        now = time.monotonic()
        if self._refusals.get(why, -math.inf) < now - SAID_S:
            self._refusals = {why: now}
            self._dispatch.said(process_id, 2, f"cloudpool: {why}\n".encode())
        self._dispatch.ended(process_id, End(LOST, why=why, was_refused=True))

    # -- large payloads ---------------------------------------------------------------------------------------------

    def _letter_wanted(self, name: str) -> None:
        """A process of another host is to read a blob that was made here."""
        agent = self._agent
        try:
            if agent._call(agent.line.call, "EXISTS", self._ready(name)):
                return  # asked for again before that was seen
            try:
                file = open(os.path.join(agent.folder, name), "rb")  # noqa: SIM115 - only what opening it raises says that it is gone
            except FileNotFoundError:  # whoever waits finds no content
                self._say_ready(name)
                return
            with file:
                size = os.fstat(file.fileno()).st_size
                if self.carrier.is_bulk(size):
                    self.upload(name, size)
                    return
                agent._call(self.carrier.send, agent.line.call_many, name, file.read())
        except OSError as error:  # no descriptor, no memory: it is there
            told = f"cloudpool: {name} cannot be read for another host, trying again: {error}"
            print(told, file=sys.stderr, flush=True)
            return  # it is asked for again
        except ReplyError as error:
            agent._complain("a blob", error)
            return  # it is asked for again
        self._say_ready(name)

    def upload(self, name: str, size: int) -> None:
        """Have it put into the session's bucket: at home. What a far host has made is there from the beginning, or gone."""
        self._say_ready(name)

    def _ready(self, name: str) -> str:
        return self.post.keys.base(name) + "ready"

    def _say_ready(self, name: str) -> None:
        agent = self._agent
        agent._try("a letter", agent.line.call, "RPUSH", self._ready(name), "1")
        agent._try("a letter", agent.line.call, "PEXPIRE", self._ready(name), READY_MS)

    def _letter_unwanted(self, name: str) -> None:
        """It has been read; what was put into the server after that, too, goes."""
        self._agent._unlink(name)
        self._agent._delete(name)

    # -- shared memory ----------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """What is written here is seen elsewhere, and the other way round."""
        if self.blocks:
            self._agent._try("shared memory", self.blocks.sync)

    def want_block(self, caller: socket.socket, block: str, makers_host: int) -> None:
        """A process here has come by a block that this host does not know. It is answered when that is here."""
        if self.blocks.is_here(block):
            self._answer(caller, 0)
            return
        first = block not in self._wanted
        self._wanted.setdefault(block, []).append(caller)
        if first:
            self._wishes += 1
            self._wish[block] = self._wishes
            self._asked[block] = [OTHERS, makers_host]
            self._ask_for(block)

    def _ask_for(self, block: str) -> None:
        """Ask the host where it was made; when that is gone, or has it no more, any other that may know it."""
        self._next_asking[block] = time.monotonic() + ASK_S
        try:
            self._agent._call(self.blocks.join)
            was_asked = self._ask_next(block)
        except ReplyError as error:
            self._agent._complain("shared memory", error)
            return  # it is tried again then
        if not was_asked:
            self._came(block, NOWHERE)

    def _ask_next(self, block: str) -> bool:
        """Whether there was one to be asked. Raises ReplyError."""
        agent, hosts = self._agent, self._asked[block]
        letter = ("block", block, agent.epoch, self._wish[block])
        while hosts:
            host = hosts[-1]
            if host == OTHERS:
                readers = agent._call(agent.line.call, "HKEYS", agent.keys.readers) or []
                hosts[-1:] = [int(reader) for reader in readers]
            elif host != agent.epoch and agent._call(
                agent.line.call, *self.post.command(host_id(host), letter)
            ):
                return True
            else:
                hosts.pop()
        return False

    def _letter_block(self, block: str, host: int, wish: int) -> None:
        try:
            size = self.blocks.publish_for(host, wish, block)
        except ReplyError as error:
            self._agent._complain("shared memory", error)
            return  # it is asked for again
        except OSError as error:
            told = f"cloudpool: {block} cannot be read for another host, trying again: {error}"
            print(told, file=sys.stderr, flush=True)
            return
        self.send(host_id(host), "published", block, size, self._agent.epoch)

    def _letter_published(self, block: str, size: int, host: int) -> None:
        if block not in self._wanted:
            return
        if size:
            why = NOWHERE
            try:
                self._agent._try("shared memory", self.blocks.adopt, block)
            except OSError as error:  # there is no room for it here
                why = error.errno or NOWHERE
            self._came(block, 0 if self.blocks.knows(block) else why)
        elif self._asked[block][-1] == host:  # else it had been asked twice, and now another is
            self._asked[block].pop()
            self._ask_for(block)

    def _came(self, block: str, why_not: int) -> None:
        for known in (self._asked, self._wish, self._next_asking):
            known.pop(block, None)
        for caller in self._wanted.pop(block, ()):
            self._answer(caller, why_not)
        self._agent._try("shared memory", self.blocks.part)

    @staticmethod
    def _answer(caller: socket.socket, why_not: int) -> None:
        """A block is here, or the number of the error that keeps it from being."""
        with suppress(OSError):  # it may have died since
            mail.send(caller, ("block", why_not))

    def idle(self, now: float) -> float:
        """What is to be done now and then; the time of the next."""
        if self._outbox and now >= self._next_errand:
            self._next_errand = now + ASK_S
            self._agent._try("a letter", self._outbox.run)
        if now >= self.blocks.next_look:
            self._agent._try("shared memory", self.blocks.look)
        for block in [block for block, at in self._next_asking.items() if now >= at]:
            self._ask_for(block)  # a host may have gone with the question
        errand = self._next_errand if self._outbox else math.inf
        return min([self.blocks.next_look, errand, *self._next_asking.values()])

    def _watch_sink(self, sink: Sink, written: Callable[[], None]) -> None:
        sink.is_watched = True
        fd = os.dup(sink.fd)  # several sinks may have one file; a poll knows each descriptor once

        def writable() -> None:
            written()
            if not sink:
                sink.is_watched = False
                self._agent.unhear(fd)
                os.close(fd)
            if self._heard < 0:
                self._hear_inbox()

        self._agent.hear(fd, writable, select.EPOLLOUT)

    def close(self) -> None:
        self._inbox.close()
