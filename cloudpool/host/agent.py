"""The agent: one small process per host that knows, from the kernel, who lives.

    root --exec--> agent --starts--> server (embedded only)
                     |  pidfd of the root and of every process: readable when it has died
                     |  agent.sock: hello, holds, born, ended, bye
                     v
      death -> name leaves `live` -> its connections have ended -> each object's reap script -> what only it held is freed

The order is the guarantee: once the server has no connection of the dead any more, all that it had sent has been executed
and nothing else of it can run, so a reap is final.
It ends with the root, whatever ended that, and takes processes, server, keys and folder with it.
"""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from cloudpool.errors import ServerError
from cloudpool.host import ahead, descriptors, folder as folders, leftovers, mail
from cloudpool.host.census import Census, Member
from cloudpool.host.inbox import host_id
from cloudpool.host.line import Line, LostError, RootEndedError
from cloudpool.store import blobs
from cloudpool.store.bucket import Place
from cloudpool.store.embedded import Server
from cloudpool.store.keys import CONTAINERS, MESSAGES, PARTS, kind_of
from cloudpool.store.wire import CutError, NotYet, ReplyError

if TYPE_CHECKING:
    from cloudpool.host.abroad import Abroad
    from cloudpool.host.home import Home

RETRY_S = 1.0
BEATS = 3  # in a lease
LEAST_BEAT_S = 0.1
LAST_S = 5.0  # for the server to answer at the end
END_S, PAUSE_S = 1.5, 0.01  # how long it is tried again when it is cut then: someone waits
MOST_ROUNDS = 100  # of reading messages before deaths are looked at
DRAIN_S = 0.2  # for the server to end a dead process's connections by itself; then it is told to
GRACE_S = 1.0  # between SIGTERM and SIGKILL for what the root has left running
Run = tuple[str, tuple[str, ...], tuple[object, ...]]  # of a script: its name, keys, arguments
REAPED = {kind: f"reap_{kind}" for kind in ("semaphore", "condition", "barrier", "queue", "pipe", "pool")}
REAPED.update(dict.fromkeys((*CONTAINERS, "event"), "reap_container"))


class Agent:
    """The loop. Single-threaded: one event at a time, so no two deaths are dealt with at once."""

    def __init__(
        self,
        session_id: str,
        folder: str,
        url: str,
        server: Server | None,
        root_pid: int,
        lease_s: float,
        durable: bool = False,
        key: bytes = b"",
        far_url: str = "",
        patience_s: float = 0.0,
        place: Place | None = None,
    ) -> None:
        self.far_url = far_url or url  # the server's, for other hosts
        self.root: Member | None
        self.server: Server | None
        root = Member(root_pid, os.pidfd_open(root_pid))
        if server is not None:
            with open(os.path.join(folder, folders.SERVER_PID), "w") as file:
                file.write(str(server.pid))
            server.await_ready()
        line = Line(session_id, folder, url, lease_s, durable, root.pidfd)
        line.patience_s = max(lease_s, patience_s)
        self._begin(session_id, folder, url, line, lease_s, durable, key, place)
        self.root, self.server = root, server
        self._watch(root)
        if server is not None:
            self._poll.register(server.log, select.EPOLLIN)

    def _begin(
        self, session_id: str, folder: str, url: str, line: Line, lease_s: float, durable: bool, key: bytes,
        place: Place | None,
    ) -> None:  # fmt: skip
        """What the agent of any host has."""
        self.folder, self.url = folder, url
        self.lease_s, self.durable, self.key, self.place = lease_s, durable, key, place  # for guests, who ask
        self.session_id = session_id
        self.census = Census()
        self.root, self.server = None, None
        self.line = line
        self.keys, self.ttl_ms = self.line.keys, self.line.ttl_ms
        self.epoch, self.warning = self.line.begin()
        self._beat_s = max(LEAST_BEAT_S, lease_s / BEATS)
        self._epoch_name = str(self.epoch)
        self._named = 0
        self._callers: dict[int, tuple[socket.socket, Member | None]] = {}
        self._members_by_fd: dict[int, Member] = {}
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._taken: dict[str, list[str]] = {}  # by launch: the handles that go with it
        self._home: Home | None = None  # what the root's agent does about other hosts
        folders.make_spread(folder)
        self._listener = mail.listen(folder)
        self._poll.register(self._listener, select.EPOLLIN)
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # for when there is none left
        self._watched = -1  # the line's socket, whose end is heard of at once
        self._over = False
        self._is_lost = False  # the server's state is gone; what is left is to end with the root
        self._was_orderly = False
        self._is_leaving = False  # the root waits for word
        self._doubtful: dict[str, None] = {}  # objects that nobody seems to hold
        self._settling: list[socket.socket] = []  # who waits until those are dealt with
        # What the server has refused, to be done by and by:
        self._refused: list[Run] = []
        self._unnamed: list[tuple[socket.socket, Member]] = []
        self._dead: list[Member] = []
        self._is_told_to_end = False
        signal.signal(signal.SIGTERM, self._told_to_end)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def watch_server(self, said: int) -> None:
        """A program keeps the session's server, and says on this pipe when it is gone."""

        def heard() -> None:
            self.unhear(said)
            if self.line.keeper >= 0:
                self._lose(self.line.keepers_words())
            os.close(said)

        self.line.keeper = said
        self.hear(said, heard)

    def run(self) -> None:
        """Until the root is gone. A shared server's keys are renewed three times in their lifetime."""
        next_renewal = 0.0 if self.ttl_ms else math.inf
        next_beat = time.monotonic() + self._beat_s
        while not self._over:
            self._watch_line()
            wait_s = min(next_renewal, next_beat) - time.monotonic()
            if self._refused or self._unnamed or self._dead:
                wait_s = min(wait_s, RETRY_S)
            wait_s = min(wait_s, self.idle())
            if self._is_lost:
                wait_s, next_beat, next_renewal = math.inf, math.inf, math.inf
            if self._is_told_to_end:
                raise SystemExit
            events = self._poll.poll(None if wait_s == math.inf else max(0.0, wait_s))
            self._died(self._hear_out(events))
            self._deal_with_refused()
            self._free_doubtful()
            if self._is_leaving:
                self._is_leaving = False
                self._say_goodbye()
            now = time.monotonic()
            if now >= next_renewal:
                next_renewal = now + (self.ttl_ms / 3000 if self._renew() else RETRY_S)
                next_beat = now + self._beat_s
            elif now >= next_beat:
                self._try("its beat", self.line.beat)
                self._has_beaten()
                next_beat = now + self._beat_s

    def _told_to_end(self, _signum: int, frame: FrameType | None) -> None:
        """By SystemExit, through the poll, which would go on waiting: `end` is run by whoever called `run`.

        Out of an object's `__del__` it would not come, but as words on stderr: then `run` sees to it.
        """
        self._is_told_to_end = True
        while frame is not None:
            if frame.f_code.co_name == "__del__":
                return
            frame = frame.f_back
        raise SystemExit

    def idle(self) -> float:
        """What is to be done now and then; seconds until the next time."""
        if not self._is_abroad:
            return math.inf
        now = time.monotonic()
        return max(0.0, self.abroad().idle(now) - now)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do but to end."""
        return self._over or self._is_lost

    def hear(self, fd: int, handler: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call `handler` whenever this descriptor is ready."""
        self._handlers[fd] = handler
        self._poll.register(fd, events)

    def unhear(self, fd: int) -> None:
        del self._handlers[fd]
        with suppress(OSError):  # closed: then the poll has forgotten it by itself
            self._poll.unregister(fd)

    def _watch_line(self) -> None:
        """Hear of the line's end at once; a new one is another descriptor, and a closed one has left the poll."""
        fd = -1 if self._is_lost else self.line.store.fileno()
        if fd != self._watched:
            self._watched = fd
            if fd >= 0:
                with suppress(FileExistsError):  # the same number as before
                    self._poll.register(fd, select.EPOLLIN)

    def _deal_with_refused(self) -> None:
        dead, self._dead = self._dead, []
        if dead:
            self._bury(dead)
        unnamed, self._unnamed = self._unnamed, []
        for caller, member in unnamed:
            self._welcome(caller, member)
        refused, self._refused = self._refused, []
        for script in refused:
            self._script(*script)

    def _say_goodbye(self) -> None:
        """End with the root that waits, unless processes are left that may need the session until it is gone."""
        if not self.census.members:
            self._over = True
            return
        for caller, member in self._callers.values():
            if member is self.root:
                with suppress(OSError):  # it may have died since: the pidfd tells
                    mail.send(caller, ("later",))

    def _hear_out(self, events: list[tuple[int, int]]) -> list[Member]:
        """Deal with all messages that are there, then give the dead.

        What a process said is dealt with before its death. And sockets have no order among them: what has caused a
        message was sent before it, so it is dealt with once nothing is left to read.
        """
        # Not descriptors: what is heard meanwhile may close one, and open it for another.
        dead: dict[Member, None] = {}
        for _ in range(MOST_ROUNDS):
            dead.update((self._members_by_fd[fd], None) for fd, _ in events if fd in self._members_by_fd)
            heard = [fd for fd, _ in events if fd not in self._members_by_fd]
            if not heard:
                break
            for fd in heard:
                self._event(fd)
            events = self._poll.poll(0)
        else:
            self._hear_last_words(dead)
        return [member for member in dead if self._members_by_fd.get(member.pidfd) is member]

    def _hear_last_words(self, dead: dict[Member, None]) -> None:
        """Others may go on and on; what the dead have said themselves, that they end in order, comes to an end."""
        while True:
            theirs = [fd for fd, (_, member) in self._callers.items() if member is None or member in dead]
            ready = _ready([self._listener.fileno(), *theirs], 0)
            if not ready:
                return
            for fd in ready:
                self._event(fd)

    def _event(self, fd: int) -> None:
        if fd == self._listener.fileno():
            self._accept()
        elif fd in self._callers:
            self._heard(fd)
        elif self.server is not None and fd == self.server.log and not os.read(fd, 65536):
            self._poll.unregister(fd)  # the end of its log is its end
            self._lose("its server has ended")
        elif fd in self._handlers:
            self._handlers[fd]()
        elif fd == self._watched:
            self._watched = -1
            self._try("its beat", self.line.beat)  # finds the line cut, and makes it again
            self._watch_line()

    def _accept(self) -> None:
        try:
            caller, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            with self._one_more():
                caller, _ = self._listener.accept()
                with caller:
                    self._refuse(caller)
            return
        self._callers[caller.fileno()] = (caller, None)
        self._poll.register(caller, select.EPOLLIN)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """There is room for one more descriptor meanwhile."""
        os.close(self._spare)
        try:
            yield
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    @staticmethod
    def _refuse(caller: socket.socket) -> None:
        """A process whose life cannot be watched, for want of a descriptor, has no part in the session."""
        with suppress(OSError):  # it may have died since
            mail.send(caller, ("refused",))

    def _heard(self, fd: int) -> None:
        caller, member = self._callers[fd]
        try:
            message, fds = mail.receive(caller)
        except OSError:
            message, fds = None, []
        if message is None:
            self._poll.unregister(fd)
            del self._callers[fd]
            caller.close()
            if member is not None:
                self._free(self.census.hung_up(member))
            return
        op, *rest = message
        if op == "hello" and not fds:
            self._refuse(caller)
        elif op == "hello":
            member = self._member(fds.pop())
            member.has_spoken = True
            member.lines += 1
            member.is_guest, member.known_as = rest[1:]
            self._hold(member, rest[0])
            self._callers[fd] = (caller, member)
            self._welcome(caller, member)
        elif op == "where":
            with suppress(OSError):
                said = (str(self.url), self.lease_s, self.durable, bytes(self.key), Place.encode(self.place))
                mail.send(caller, ("there", *said))
        elif op == "settle":
            self._settling.append(caller)
        elif op == "sync":
            if self._is_abroad:
                self.abroad().sync()
            with suppress(OSError):  # it may have died since
                mail.send(caller, ("synced",))
        elif op == "block":
            self.abroad().want_block(caller, *rest)
        elif op == "moved":
            found = self._call(self.line.verify, rest[0])
            with suppress(OSError):  # it may have died since
                mail.send(caller, ("here", found or ""))
        elif op == "doubt":
            self._try("its beat", self.line.beat)  # finds out if the state is lost
            with suppress(OSError):
                mail.send(caller, ("looked",))
        elif member is not None:
            getattr(self, "_on_" + op)(member, fds, *rest)
        for unused in fds:
            os.close(unused)

    # -- what processes say ------------------------------------------------------------------------------------------

    def _on_holds(self, member: Member, _fds: list[int], ids: list[str]) -> None:
        self._hold(member, ids)

    def _hold(self, member: Member, ids: list[str]) -> None:
        """A process here has these; those that come from another host are held by this one then. One of its own may: it has
        left that when nobody here had it any more.
        """
        if self._is_abroad:
            foreign = [i for i in ids if not self._is_own(i) or self._has_come_back(member, i)]
            self.abroad().hold(self.abroad().holders.enter, foreign)
        self.census.hold(member.holds, ids)

    def _has_come_back(self, member: Member, object_id: str) -> bool:
        """Whether nobody here held it; its maker, who tells of a new one, is not asked for what is its own."""
        return self.census.is_free(object_id) and f".{member.name}." not in object_id

    def _is_own(self, object_id: str) -> bool:
        """Whether it was made on this host."""
        return object_id.split(".")[1] == self._epoch_name

    def _on_drop(self, member: Member, _fds: list[int], object_id: str) -> None:
        self._free(self.census.drop(member, object_id))

    def _on_pin(self, _member: Member, _fds: list[int], object_id: str) -> None:
        self.census.pin(object_id)

    def _on_send(self, member: Member, _fds: list[int], object_id: str, transit: str, into: str) -> None:
        if self._is_abroad:
            self.abroad().hold(self.abroad().holders.depart, object_id, transit)
        self.census.depart(member, object_id, transit, into)

    def _on_got(self, member: Member, _fds: list[int], object_id: str, transit: str) -> None:
        origin = transit.partition(">")[2].partition(".")[0]
        if origin == self._epoch_name:
            if self._is_abroad and self.abroad().holders.knows(object_id):
                self.abroad().hold(self.abroad().holders.arrive, object_id, transit)
            self._free(self.census.arrive(member, object_id, transit))
            return
        self.census.hold(member.holds, [object_id])
        self.abroad().hold(self.abroad().holders.arrive, object_id, transit)
        self.abroad().send(host_id(int(origin)), "got", transit)

    def _on_ticket(self, member: Member, _fds: list[int], ticket: str) -> None:
        self.census.ticket(member, ticket)

    def _on_void(self, _member: Member, _fds: list[int], ticket: str | None) -> None:
        if ticket:
            self._free(self.census.void(ticket))

    def _on_born(self, member: Member, fds: list[int], _pid: int, ticket: str | None, ids: list[str]) -> None:
        self._hold(member, ids)  # what it sent, it held
        if not fds:
            print(f"cloudpool: {descriptors.NO_DESCRIPTORS}", file=sys.stderr, flush=True)
            for object_id in ids:  # nobody hears of that child's death: a leak, as its ticket is, not a loss
                self.census.pin(object_id)
            return
        child = self._member(fds.pop())
        self._hold(child, ids)
        if ticket:
            self._free(self.census.redeem(child, ticket))

    def _on_ended(self, member: Member, _fds: list[int], used: list[tuple[str, str, int]]) -> None:
        # Reaped at its death: a thread of it may still wait for something.
        member.ended = [*(member.ended or ()), *used]

    def _on_fleet(self, _member: Member, _fds: list[int], method: str, values: bytes) -> None:
        """A process is about to start others by that start method, whose hosts another program brings."""
        self.abroad().need_fleet(method, values)

    def _on_far(self, member: Member, fds: list[int], method: str, ids: list[str], *launch: Any) -> None:
        self._on_take(member, [], launch[0], ids)
        self.abroad().start(member, fds[:], self._taken.pop(launch[0], []), method, *launch)
        fds.clear()

    def _on_take(self, member: Member, _fds: list[int], launch: str, ids: list[str]) -> None:
        """These handles go off with a process that is to be started elsewhere."""
        self.abroad().hold(self.abroad().holders.enter, ids)
        for object_id in dict.fromkeys(ids):
            transit = f"{object_id}>{self._epoch_name}.{launch}"
            self.census.depart(member, object_id, transit)
            self._taken.setdefault(launch, []).append(transit)

    def _on_signal(
        self, _member: Member, _fds: list[int], method: str, process_id: str, signalnum: int
    ) -> None:
        self.abroad().signal(method, process_id, signalnum)

    @property
    def _is_abroad(self) -> bool:
        """Whether it has anything to do with other hosts."""
        return self._home is not None

    def abroad(self) -> Abroad:
        """What it does about other hosts, from when there is first something to do."""
        if self._home is None:
            from cloudpool.host.home import Home  # few sessions have other hosts

            self._home = Home(self)
        return self._home

    def bury_host(self, epoch: int) -> None:
        """Another host is dead: deal with the death of all its processes."""
        found = self._call(self.line.call, "SMEMBERS", self.keys.live) or []
        said = self._call(self.line.call, "HGETALL", self.keys.base(host_id(epoch)) + "pids") or []
        pids = dict(zip(said[::2], map(int, said[1::2]), strict=True))
        dead = []
        for name in sorted(n for n in found if n.startswith(b"%d." % epoch)):
            member = Member(-1, -1)
            member.name, member.known_as = name.decode(), pids.get(name, -1)
            dead.append(member)
        self._bury(dead)
        with suppress(ReplyError):
            held = self._call(self.abroad().holders.bury, epoch, self._objects()) or []
            for object_id in filter(self.census.is_free, held):
                self._end_of(object_id)

    def _on_bye(self, member: Member, _fds: list[int]) -> None:
        """The root ends in order: it has waited for its children, and what others it has left is left alone."""
        if member is self.root:
            self._was_orderly = self._is_leaving = True

    def _on_end(self, member: Member, _fds: list[int]) -> None:
        """The root wants the session to end before itself."""
        if member is self.root:
            self._over = self._was_orderly = True

    # -- members ----------------------------------------------------------------------------------------------------

    def _member(self, pidfd: int) -> Member:
        """The member behind a pidfd, which is kept; a second pidfd of a known one is closed."""
        with self._one_more():
            pid = _pid_of(pidfd)
        is_root = self.root is not None and pid == self.root.pid
        known = self.root if is_root else self.census.members.get(pid)
        # One that has died may be told of a second time: what it said itself is then still to be heard.
        if known is not None and _ready([known.pidfd], 0) and not _ready([pidfd], 0):
            self._died([known])  # and its number is another's by now
            known = None
        if known is not None:
            os.close(pidfd)
            return known
        member = Member(pid, pidfd)
        self.census.members[pid] = member
        self._watch(member)
        return member

    def _watch(self, member: Member) -> None:
        self._members_by_fd[member.pidfd] = member
        self._poll.register(member.pidfd, select.EPOLLIN)

    def _welcome(self, caller: socket.socket, member: Member) -> None:
        """Give the member its name, which admits its connections. When the server refuses that, by and by."""
        if not member.name:
            name, keys = f"{self.epoch}.{self._named + 1}", (self.keys.beat, self.keys.live)
            if not self._try("name", self.line.script, "name", keys, name, self.ttl_ms):
                self._unnamed.append((caller, member))
                return
            self._named += 1
            member.name = name
        identity = self.line.identity
        with suppress(OSError):  # it may have died since: the pidfd tells
            mail.send(caller, ("welcome", member.name, identity.run_id if identity is not None else ""))

    def _died(self, members: list[Member]) -> None:
        """Deal with deaths. All of one moment are silenced first: what one held must not go to another of them."""
        for member in members:
            self._poll.unregister(member.pidfd)
            del self._members_by_fd[member.pidfd]
            os.close(member.pidfd)
        if self.root in members:
            self._over = True
            return
        for member in members:
            self.census.members.pop(member.pid, None)  # its number may be another's soon
        self._bury(members)

    def _bury(self, members: list[Member]) -> None:
        """Deal with deaths. When the server refuses, by and by: until then it is as if the processes stood still."""
        named = [member for member in members if member.name]
        try:
            if named:
                self._call(self._silence, [member.name for member in named])
            there = self._objects() if any(member.ended is None for member in named) else []
        except ReplyError as error:
            self._complain("a death", error)
            self._dead.extend(members)
            return
        taken = tuple(blobs.taken_by(member.name) for member in named)
        for name in os.listdir(self.folder) if named else ():
            if name.startswith(taken):
                self._unlink(name)
        for member in named:
            if member.ended is None:
                self._reap(member, "dead", {object_id: [] for object_id in there})
            else:
                self._reap(member, "ended", _rightly(member.ended))
        for member in members:
            if self._is_abroad:
                self.abroad().died(member)
            self._free(self.census.bury(member))
            if member.ended is None:
                self._free(_made_by(member, there))  # it may not have told of them: nobody else has them then

    def _silence(self, names: list[str]) -> None:
        """After this, no command of the dead can run: they are not admitted again, and their connections have ended.

        The kernel has closed those, so the server ends them by itself when it has executed what was sent by them: an
        acknowledgement of what a process had got before it died must count. One that another process has as well, a
        fork that has not let go of it, is ended by force.
        """
        self.line.call("SREM", self.keys.live, *names)
        clients = {self.keys.client(name) for name in names}
        deadline = time.monotonic() + DRAIN_S
        while (left := leftovers.connections(self.line, clients)) and time.monotonic() < deadline:
            time.sleep(0.0005)  # nothing tells when the server has come to the end of a connection
        for client_id in left:
            self.line.call("CLIENT", "KILL", "ID", client_id)

    # -- objects ----------------------------------------------------------------------------------------------------

    def _objects(self) -> list[str]:
        return leftovers.known(self._call(self.line.call, "HKEYS", self.keys.objects))

    def _reap(self, member: Member, how: str, used: dict[str, list[object]]) -> None:
        """Run each object's own reap script for a process that is `dead`, or has `ended` in order."""
        runs: list[Run] = []
        records: dict[str, str] = {}  # by the base of their queue's keys
        for object_id, rightly in used.items():
            kind, base = kind_of(object_id), self.keys.base(object_id)
            if kind == "queue":
                record = ahead.file_name(object_id)
                left = ahead.left_by(os.path.join(self.folder, record), member.name)
                if left is not None:
                    records[base] = record
                    runs.append(("queue_left", (base,), left))
            script = REAPED.get(kind)
            if script:
                arguments = (member.name, how, self.ttl_ms, member.known_as or member.pid, *rightly)
                runs.append((script, (base,), arguments))
        for run, error in self._run_all(runs):  # run again by and by, as by `_script`
            self._complain(run[0], error)
            self._refused.append(run)
            records.pop(run[1][0], None)
        for record in records.values():  # what is left is in the queue again: another one may read ahead
            self._unlink(record)
        for object_id in used if how == "dead" else ():
            if object_id.startswith(f"pool.{member.name}."):
                self._end_workers(object_id)

    def _end_workers(self, pool: str) -> None:
        """The process of a pool has died: what its workers do is for nobody."""
        found = self._script("pool_orphan", (self.keys.base(pool),), (self.ttl_ms,))
        names = [name.decode() for name in found] if isinstance(found, list) else []
        self.end_members(names)
        elsewhere = {name.partition(".")[0] for name in names} - {self._epoch_name}
        for epoch in elsewhere if self._is_abroad else ():
            theirs = [name for name in names if name.startswith(f"{epoch}.")]
            self.abroad().send(host_id(int(epoch)), "end", theirs)

    def end_members(self, names: list[str]) -> None:
        """SIGTERM for those of these processes that are here."""
        for member in self.census.members.values():
            if member.name in names:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(member.pidfd, signal.SIGTERM)

    def _free(self, ids: Iterable[str]) -> None:
        """Nobody holds these, as far as is known; see `_free_doubtful`."""
        self._doubtful.update(dict.fromkeys(ids))

    def _free_doubtful(self) -> None:
        """Now that everything has been heard: a pipe's end hangs up, any other object's keys and segment go."""
        while self._doubtful:  # what goes may have been the last to hold others
            doubtful, self._doubtful = self._doubtful, {}
            for object_id in filter(self.census.is_free, doubtful):
                if self._is_free_everywhere(object_id):
                    self._end_of(object_id)
        settling, self._settling = self._settling, []
        for caller in settling:
            with suppress(OSError):  # it may have died since
                mail.send(caller, ("settled",))

    def _is_free_everywhere(self, object_id: str) -> bool:
        if self._is_abroad and self.abroad().holders.knows(object_id):
            if kind_of(object_id) == "block":
                self.abroad().sync()  # what was written here stays
                self._unlink(object_id)  # here nobody has it
                self._try("shared memory", self.abroad().blocks.forget, object_id)
            try:
                return bool(self._call(self.abroad().holders.leave, object_id))
            except ReplyError as error:
                self._complain("a holder", error)
                return False
        return self._is_own(object_id)

    def _end_of(self, object_id: str) -> None:
        if kind_of(object_id) == "pipe":
            pipe, _, side = object_id.rpartition("/")
            self._drop_blobs(pipe, (side,))
            if self._script("pipe_hang_up", (self.keys.base(pipe),), (side,)):  # the other end is gone, too
                self._delete(pipe)
        else:
            self._delete(object_id)
        self._free(self.census.gone(object_id))

    def _delete(self, object_id: str) -> None:
        kind = kind_of(object_id)
        if kind in MESSAGES:
            self._drop_blobs(object_id, MESSAGES[kind])
        if kind == "queue":
            self._unlink(ahead.file_name(object_id))
        if kind == "block":
            self._unlink(object_id)  # its segment
            if self._is_abroad:
                self._try("shared memory", self.abroad().blocks.forget, object_id)
                self._delete(self.abroad().blocks.parcel(object_id))
        parts = PARTS[kind]
        arguments = (len(parts.own), *parts.own, *parts.party)
        self._script("free", (self.keys.base(object_id),), arguments)
        self._try("HDEL", self.line.call, "HDEL", self.keys.objects, object_id)

    def _drop_blobs(self, object_id: str, parts: tuple[str, ...]) -> None:
        found = self._script("blobs", (self.keys.base(object_id),), parts)
        for message in found if isinstance(found, list) else ():
            if (name := blobs.named(message)) is not None:
                self._unlink(name)
                if self._is_abroad:  # it may have been on its way to another host
                    self._delete(name)

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.folder, name))

    def _has_beaten(self) -> None:
        if self._home is not None:
            self._home.look()

    def _renew(self) -> bool:
        """Put off the expiry of every key: of the beat first, so that it is the first to go, and tells."""
        if not self._try("its beat", self.line.beat, self.ttl_ms):
            return False
        keys = self.keys
        for key in (
            keys.objects,
            keys.live,
            keys.hosts,
            keys.pids,
            keys.blocks,
            keys.readers,
            keys.usage,
            keys.claims,
        ):
            if not self._try("PEXPIRE", self.line.call, "PEXPIRE", key, self.ttl_ms):
                return False
        try:
            objects = self._objects()
        except ReplyError as error:
            self._complain("HKEYS", error)
            return False
        runs: list[Run] = []
        for object_id in objects:
            parts = PARTS[kind_of(object_id)]
            arguments = (self.ttl_ms, len(parts.own), *parts.own, *parts.party)
            runs.append(("renew", (self.keys.base(object_id),), arguments))
        refusals = self._run_all(runs)
        if refusals:
            self._complain("PEXPIRE", refusals[0][1])
        return not refusals

    # -- the server -------------------------------------------------------------------------------------------------

    def _call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Something that is said on the line; None once the session's state, or the root, is gone. Raises ReplyError."""
        if self._over or self._is_lost:
            return None
        try:
            return function(*arguments)
        except LostError as lost:
            self._lose(str(lost))
        except RootEndedError:
            self._over = True
        return None

    def _try(self, what: str, function: Callable[..., Any], *arguments: object) -> bool:
        """False when the server refuses it (no memory, no disk): it is to be tried again."""
        try:
            self._call(function, *arguments)
        except ReplyError as error:
            self._complain(what, error)
            return False
        return True

    def _complain(self, what: str, error: ReplyError) -> None:
        if not (self._refused or self._dead or self._unnamed):
            print(
                f"cloudpool: the server refuses {what}, trying again: {error}",
                file=sys.stderr,
                flush=True,
            )

    def _script(self, name: str, keys: tuple[str, ...], arguments: tuple[object, ...]) -> object:
        """Run a script; one that the server refuses (no memory, read-only) is run again by and by, and gives None."""
        try:
            return self._call(self.line.script, name, keys, *arguments)
        except ReplyError as error:
            self._complain(name, error)
            self._refused.append((name, keys, arguments))
            return None

    def _run_all(self, runs: list[Run]) -> list[tuple[Run, ReplyError]]:
        """Run scripts, some hundred a trip: a session may have many thousands of objects. Those that the server refuses."""
        refused: list[tuple[Run, ReplyError]] = []
        for n in range(0, len(runs), leftovers.MOST_AT_ONCE):
            some = runs[n : n + leftovers.MOST_AT_ONCE]
            replies = self._call(self.line.scripts, some) or []
            refused += [(run, r) for run, r in zip(some, replies, strict=False) if isinstance(r, ReplyError)]
        return refused

    def _lose(self, why: str) -> None:
        """The session's state is gone. Every process finds that out, and why, when it looks: those that are blocked in the
        server for long are sent to look. The agent stays, to end what is left with the root.
        """
        if self._is_lost:
            return
        self._is_lost = True
        folders.write_over(self.folder, why)
        self._close_door()
        for caller, _ in self._unnamed:
            with suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)
        self._send_to_look()

    def _send_to_look(self) -> None:
        """Whoever is blocked in the server: its connection ends."""
        with suppress(OSError, ReplyError, ServerError), closing(self.line.open(LAST_S)) as store:
            leftovers.end_connections(store, self.keys)

    def _close_door(self) -> None:
        """From now on nobody joins, and who looks finds the session over."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.folder, mail.SOCKET))

    # -- the end ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Take away, in this order: processes, keys or server, folder. Only then do callers see the end."""
        if not self._was_orderly:
            self._end_processes()
        self._close_door()
        home = self._home
        if home is not None:
            home.ask_to_go()
        if self.server is not None:
            self.server.stop()
        else:
            deadline = time.monotonic() + END_S
            while not self._delete_keys() and time.monotonic() < deadline:
                time.sleep(PAUSE_S)
        if home is not None:
            home.await_end()
            home.clear_bucket()
        elif self.place is not None:  # tried out, it may be, and no more
            self.place.remove_folder()
        folders.remove(self.folder)

    def _delete_keys(self) -> bool:
        """False when it was cut. When the server is gone, out of reach or frozen, the keys expire."""
        with suppress(NotYet, ServerError, ReplyError):
            try:
                # Afresh: this may come in the middle of a command.
                with closing(self.line.open(LAST_S, killing=self.line.store.client_id)) as store:
                    leftovers.clear(store, self.keys)
            except (OSError, CutError):
                return False
        return True

    def _end_processes(self) -> None:
        """SIGTERM, and SIGKILL for what is left after that. What they start meanwhile is told of, and ends too."""
        told: set[int] = set()
        deadline = time.monotonic() + GRACE_S
        while True:
            self._hear_of_births()
            left = {
                m.pidfd
                for m in self.census.members.values()
                if m.pidfd in self._members_by_fd and not m.is_guest
            }
            left -= _ready(left, 0)
            if not left:
                return
            is_last = time.monotonic() >= deadline
            for pidfd in left if is_last else left - told:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL if is_last else signal.SIGTERM)
            told |= left
            wait_s = GRACE_S if is_last else max(0.0, deadline - time.monotonic())
            _ready([*left, self._listener.fileno(), *self._callers], wait_s)

    def _hear_of_births(self) -> None:
        """Messages are read for what they tell of new processes; nothing is said to the server any more."""
        self._over = True
        for _ in range(MOST_ROUNDS):
            events = [fd for fd, _ in self._poll.poll(0) if fd not in self._members_by_fd]
            if not events:
                return
            for fd in events:
                self._event(fd)


def _rightly(used: list[tuple[str, str, int]]) -> dict[str, list[object]]:
    """By object: party, number, of each party that had taken something there and not given it back."""
    found: dict[str, list[object]] = {}
    for object_id, party, number in used:
        found.setdefault(object_id, []).extend((party, number) if party else ())
    return found


def _made_by(member: Member, objects: list[str]) -> list[str]:
    """What counts holders of the objects that a process has made: of a pipe its ends."""
    # Its messages outlive it, and so do their blobs.
    mine = [i for i in objects if i.split(".")[1:3] == member.name.split(".") and kind_of(i) != "blob"]
    return [held for i in mine for held in ((f"{i}/a", f"{i}/b") if kind_of(i) == "pipe" else (i,))]


def _ready(fds: Iterable[int], within_s: float) -> set[int]:
    """Which of these can be read, within that time. By poll: select knows no more than 1,024 descriptors."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(1000 * within_s)}


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    raise OSError("not a pidfd")
