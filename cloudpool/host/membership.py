"""One process's part in a session: its agent socket, its threads' channels, what it holds.

thread --channel()--> Channel --dial()--> server        (one connection a thread)
process --hello--> agent --"you are 1.7"                (once, before its first connection)
"""

from __future__ import annotations

import errno
import itertools
import marshal
import mmap
import os
import select
import socket
import threading
import time
from contextlib import closing, suppress
from multiprocessing import util
from typing import NoReturn

from cloudpool import methods, settings
from cloudpool.errors import BlobStoreError, ServerError, SessionLostError
from cloudpool.host import descriptors, folder as folders, identity, leftovers, mail
from cloudpool.host.ahead import Record
from cloudpool.host.holdings import Holdings
from cloudpool.host.interpreter import program_places
from cloudpool.host.parcels import Carrier, Parcels
from cloudpool.host.session import SessionInfo, sealer_of
from cloudpool.store import refusals, scripts, wire
from cloudpool.store.blobs import NO_ROOM, Blobs, no_room
from cloudpool.store.bucket import Bucket
from cloudpool.store.channel import Channel
from cloudpool.store.durable import Durable
from cloudpool.store.interruption import is_no_cut
from cloudpool.store.keys import SHARED_TTL_MS, Keys
from cloudpool.store.lookout import Lookout
from cloudpool.store.wire import Connection, NotYet, Reply, ReplyError

# With the server beyond a lease: the agent, who gives it a lease, says first what has become of it.
PATIENCE_S = 3.0
BURY_S = 5.0  # for the server's answer to who deletes a dead session's keys there; else they expire
CLEAR_S = 30.0  # for the storage to delete what it left there; the rest is left to gc
MOST_DROPPED = 1000  # objects that may be gone before that is looked up


class Session:
    """One process's part in a session: its agent socket, its threads' channels, the objects that it holds.

    Made by `current()`; a forked child makes its own on first use; closed at the root's exit, or with the process.
    """

    def __init__(self, info: SessionInfo, is_root: bool) -> None:
        self.info = info
        self.is_root = is_root
        self.pid = os.getpid()
        self.keys = Keys(info.id)
        self.ttl_ms = SHARED_TTL_MS if info.redis_url else 0
        self.lookout = Lookout() if info.redis_url else None
        self._lock = threading.RLock()
        self.holdings = Holdings(self._tell, self.wait_for_agent, self.name, self._lock)
        self._agent: socket.socket | None = None
        # Of a forked child that has not spoken for itself: while it is open, what the parent held is held.
        self._parents_line: socket.socket | None = None
        self._parents_socket = 0  # its inode
        self._is_asking = False
        self._owed = 0  # answers of the agent that nobody waits for any more
        self._process = ""
        self._server = ""  # its run_id: another one may lack what was written last
        self._local = threading.local()
        self._channels: dict[Channel, threading.Thread] = {}
        self._idle: list[Channel] = []  # of threads that have ended, without a connection
        self._lent: set[Connection] = set()
        self._numbers = itertools.count(1)
        self._over: str | None = None
        self._has_left = False
        self._parked: frozenset[threading.Thread] = frozenset()  # or to be, as the process ends
        self._most_dropped = MOST_DROPPED
        self.spread: mmap.mmap | None = None
        self._fleets: set[str] = set()  # start methods whose hosts this process has asked for
        self._blobs: Blobs | None = None
        self.sealer = sealer_of(info.key)  # None: nothing is sealed
        self.carrier = Carrier(self.keys, self.ttl_ms, self.sealer, info.place)

    @property
    def is_spread(self) -> bool:
        """Whether processes of other hosts may read what this one writes, as far as it knows."""
        return self.info.is_far or bool(self._fleets)

    @property
    def blobs(self) -> Blobs:
        """Large payloads."""
        if self._blobs is None:
            self._blobs = Parcels(self)
        return self._blobs

    def send(self, name: str, data: memoryview | bytes) -> None:
        """Have a payload where other hosts find it. Raises BlobStoreError, ServerError, ServerOutOfMemory, SessionLostError."""
        try:
            self.carrier.send(self.channel().call_many, name, data)
        except ReplyError as error:
            raise self.refusal(error) from None

    def fetch(self, name: str) -> list[bytes]:
        """Its pieces. Raises FileNotFoundError when it is gone, AuthenticationError, and as `send`."""
        return self.carrier.fetch(self.channel().call_many, name)

    # -- channels ---------------------------------------------------------------------------------------------------

    def channel(self) -> Channel:
        """The calling thread's line to the server. Raises SessionLostError.

        Asked for while the thread's own is in the middle of a command (by a signal's handler, or a finalizer), it is
        another one: what runs in between must not take the reply that is being waited for.
        """
        local = self._local
        try:
            channel: Channel = local.channel
        except AttributeError:
            local.nested = []
            channel = local.channel = self._new_channel(threading.current_thread())
        if not channel.is_busy:
            return channel
        for nested in local.nested:
            if not nested.is_busy:
                return nested  # type: ignore[no-any-return] # of a threading.local
        local.nested.append(self._new_channel(threading.current_thread()))
        return local.nested[-1]  # type: ignore[no-any-return] # of a threading.local

    def _new_channel(self, owner: threading.Thread) -> Channel:
        """A channel: one whose owner has ended, if there is any, as its party is known to objects already.

        Else each of a process's many short threads would leave a party at every object that it has used.
        """
        self._park()
        with self._lock:
            ended = [other for other, thread in self._channels.items() if not thread.is_alive()]
            for other in ended:
                del self._channels[other]
        try:
            for other in ended:
                other.settle()  # what is not known to have arrived might be lost with the connection
            for other in ended[1:]:
                other.close()
        finally:
            with self._lock:
                self._idle += reversed(ended)  # the one that has its connection is taken first
        process = self.process
        with self._lock:
            channel = self._idle.pop() if self._idle else Channel(self, f"{process}/{next(self._numbers)}")
            self._channels[channel] = owner
        return channel

    def open_line(self) -> Channel:
        """A channel besides the threads' own, for an object; whoever opened it closes it. A forked child lets go of it."""
        return self._new_channel(threading.main_thread())  # which outlives it

    def close_line(self, line: Channel) -> None:
        with self._lock:
            self._channels.pop(line, None)
        with line.lock:  # the lookout may be opening its connection again
            line.close()

    def channels(self) -> list[Channel]:
        """All lines of this process, to look at their accounts."""
        return [*self._channels, *self._idle]

    def join(self, object_id: str) -> Channel:
        """The thread's channel, with its party written down at the object: what it takes there can be reaped."""
        channel = self.channel()
        if object_id not in channel.joined:
            parties = self.keys.base(object_id) + "parties"
            channel.post("SADD", parties, channel.party)
            channel.expire(parties)
            channel.joined.add(object_id)
            self._forget_gone()
        return channel

    def _forget_gone(self) -> None:
        """Now and then: what threads know of objects that this process dropped goes, once those are gone from the server.

        Not before: what a thread has done to an object counts there, should its handle come back in a message.
        """
        if len(self.holdings.dropped) < self._most_dropped:
            return
        dropped, self.holdings.dropped = self.holdings.dropped, []
        ids = list({held.partition("/")[0] for held in dropped})  # of a pipe its ends are held
        there = self.channel().call("HMGET", self.keys.objects, *ids)
        for object_id in [i for i, about in zip(ids, there, strict=True) if about is None]:
            for channel in self.channels():
                channel.forget(object_id)
        left = [i for i, about in zip(ids, there, strict=True) if about is not None]
        self.holdings.dropped += left
        self._most_dropped = MOST_DROPPED + 2 * len(left)

    def name(self) -> str:
        """As `process`."""
        return self.process

    @property
    def process(self) -> str:
        """This process's name in the session, given by the agent."""
        if not self._process:
            self._hello()
        return self._process

    def new_id(self, kind: str) -> str:
        self._forget_gone()
        return f"{kind}.{self.process}.{next(self._numbers)}"

    def dial(self, killing: int = 0) -> Connection:
        """A connection that the session has admitted, after CLIENT KILL of `killing`. Waits for a server that is frozen, and
        a lease for one that is gone. Raises SessionLostError; ServerError when the server refuses.
        """
        process = self.process
        began = time.monotonic()
        pause = threading.Event()
        for attempt in itertools.count():
            self.check()
            try:
                return self._admitted(process, killing)
            except NotYet:
                began = time.monotonic()
            except (OSError, ServerError) as error:
                if is_no_cut(error):
                    raise
                self.check()
                if time.monotonic() - began > max(self.info.lease_s, self.info.patience_s) + PATIENCE_S:
                    if isinstance(error, ServerError):
                        raise
                    why = str(error).partition("\n")[0].rstrip(".")  # what to do is not the same any more
                    gone_s = max(self.info.lease_s, self.info.patience_s)
                    self._lost(f"the server has been gone for {gone_s:g} s ({why})")
                # A cut says that it is there. Nothing tells when one is back: ask again, ever later.
                is_there = isinstance(error, wire.CutError | ConnectionResetError | BrokenPipeError)
                pause.wait(0.01 if is_there else min(0.01 * 2**attempt, 1.0))
        raise AssertionError

    def lend(self, connection: Connection) -> None:
        """An object has this connection for itself; a forked child must let go of it."""
        self._lent.add(connection)

    def unlend(self, connection: Connection) -> None:
        self._lent.discard(connection)

    def _admitted(self, process: str, killing: int) -> Connection:
        connection = self._open()
        commands: list[tuple[object, ...]] = [
            ("CLIENT", "SETNAME", self.keys.client(process)),
            ("CLIENT", "ID"),
            ("INFO", "server") if self.info.redis_url else ("PING",),
        ]
        if killing:
            commands.append(("CLIENT", "KILL", "ID", killing))
        commands += scripts.load_commands()
        commands.append(("EVAL", scripts.source("admit"), 1, self.keys.live, process))
        try:
            replies = connection.call_many(commands)
            admitted = replies[-1]
            if isinstance(admitted, ReplyError):
                raise self.refusal(admitted)
            self._make_sure(replies[2])
            if not admitted:
                self.doubt()
                self._lost(
                    "this process has been declared dead, or the session's keys are gone from the server"
                )
        except OSError:
            said = connection.last_word()
            connection.close()
            if said is not None:  # the server has said why it hangs up
                raise self.refusal(said) from None
            raise
        except BaseException:
            connection.close()
            raise
        connection.client_id = replies[1]
        return connection

    def _open(self) -> Connection:
        info = self.info
        if not info.redis_url:
            return wire.open_unix(os.path.join(info.folder, folders.SERVER_SOCKET))
        connection = wire.open_url(info.redis_url)
        return Durable.instead_of(connection, info.lease_s) if info.durable else connection

    def refusal(self, error: ReplyError) -> ServerError:
        if error.code in refusals.NOT_YET:
            return NotYet(str(error))
        ours = refusals.as_ours(error)
        if isinstance(ours, ServerError):
            return ours
        return ServerError(f"the server refuses cloudpool's commands: {error}")

    def _make_sure(self, info: Reply) -> None:
        """Where another server has taken the place of the one that was there, the agent says whether all goes on."""
        if not isinstance(
            info, bytes
        ):  # the embedded one; or this user may not ask: the agent's beat must do
            return
        _, _, rest = info.partition(b"run_id:")
        found = rest.partition(b"\r\n")[0].decode()
        if found and found != self._server:
            answer = self._ask("moved", found)
            self.check()
            if answer is None or answer[1] != found:
                raise NotYet("it is not clear yet which server is the session's")
            self._server = found

    def check(self) -> None:
        """Raises SessionLostError when the session is over."""
        self._park()
        if self._over is None:
            if self._agent_hung_up(0):
                self._over = folders.read_over(self.info.folder) or self._bury()
            elif not os.path.exists(os.path.join(self.info.folder, mail.SOCKET)):
                self._over = folders.read_over(self.info.folder) or "its root program has ended"
        if self._over is not None:
            self._lost(self._over)

    def doubt(self) -> None:
        """What should be in the server is not there. Raises SessionLostError if the session's state is lost."""
        self._ask("doubt")  # the agent may not have seen yet that the keys are gone, and says why
        self.check()

    def _bury(self) -> str:
        """The agent has gone and not said why. If it was killed, do what it would have done: whoever is first."""
        if folders.sweep_one(self.info.folder, self._bury_in_server):
            return "its agent, which watched over its processes, was killed"
        # Another session's sweep may have come first, which knows no more than the folder.
        if not os.path.exists(self.info.folder):
            self._bury_in_server()
        return "its root program has ended, or its agent, which watched over its processes, was killed"

    def _bury_in_server(self) -> None:
        if self.info.place is not None:
            with suppress(BlobStoreError):
                Bucket(self.info.place).clear(CLEAR_S)
        if self.info.redis_url:
            # Gone, or out of reach: then the keys expire.
            with (
                suppress(OSError, ServerError, ReplyError),
                closing(wire.open_url(self.info.redis_url)) as store,
            ):
                store.answers_within(BURY_S)
                leftovers.clear(store, self.keys)

    def _lost(self, why: str) -> NoReturn:
        self._over = why
        raise SessionLostError(f"the session {self.info.id} is over: {why}.") from None

    # -- the agent --------------------------------------------------------------------------------------------------

    def _hello(self) -> None:
        with self._lock:
            if self._process:
                return
            first, *more = mail.batches(self.holdings.ids())
            try:
                agent = mail.connect(self.info.folder)
                try:
                    pidfd = os.pidfd_open(identity.kernels_pid())
                    try:
                        with suppress(BrokenPipeError):  # it has hung up, and said why
                            mail.send(agent, ("hello", first, self.info.is_guest, os.getpid()), [pidfd])
                    finally:
                        os.close(pidfd)
                    try:
                        answer, _ = mail.receive(agent)
                    except ConnectionResetError:  # it has not read that; what it said comes next
                        answer, _ = mail.receive(agent)
                except BaseException:
                    agent.close()
                    raise
            except OSError as error:
                if is_no_cut(error):
                    raise
                self._lost(f"its agent does not answer ({error.strerror})")
            if answer is None:
                agent.close()
                self._lost("its agent ended")
            if answer[0] == "refused":
                agent.close()
                raise OSError(errno.EMFILE, descriptors.NO_DESCRIPTORS)
            if self._agent is not None:  # a garbage collection within has come first
                agent.close()
                return
            self._agent = agent
            self._close_parents_line()
            self._process, self._server = answer[1:]
            for ids in more:
                self._tell("holds", ids)
            # Before the root's own end (below), and before a child's exit: what was posted has been executed.
            util.Finalize(None, self.settle, exitpriority=-50)

    def _tell(self, *message: object, fds: tuple[int, ...] = ()) -> None:
        """Send the agent a message that has no answer. A dead agent hears nothing: `check` finds out."""
        self._send(message, fds)

    def _send(self, message: mail.Message, fds: tuple[int, ...] = ()) -> bool:
        """Whether the message has gone off."""
        if self._over is not None or self._has_left:
            return False
        if self._agent is None:
            self._hello()
        assert self._agent is not None
        try:
            mail.send(self._agent, message, fds)
        except OSError as error:
            if is_no_cut(error):
                raise
            return False
        return True

    def let_go(self, object_id: str) -> None:
        """Drop a handle, and wait until its object's end, if that was it, has taken effect in the server."""
        if self.holdings.drop(object_id):
            self.wait_for_agent()

    def wait_for_agent(self) -> None:
        """Until it has dealt with what it was told."""
        self._ask("settle")

    def _ask(self, *message: object) -> mail.Message | None:
        """Send the agent a message and wait for its answer; a dead agent gives none."""
        with self._lock:
            if self._is_asking:  # what a signal's handler has interrupted: each would take the other's answer
                return self._ask_apart(message)
            try:
                self._is_asking = True
                for _ in range(self._owed):  # no `while`, see Channel._run_all_again
                    self._owed -= 1
                    self._answer()
                return self._answer() if self._send(message) else None
            finally:
                self._is_asking = False

    def _ask_apart(self, message: mail.Message) -> mail.Message | None:
        """On a socket of its own: the agent reads all of them before it answers."""
        with suppress(OSError), closing(mail.connect(self.info.folder)) as agent:
            mail.send(agent, message)
            return mail.receive(agent)[0]
        return None

    def _answer(self) -> mail.Message | None:
        """The agent's next answer. One that a handler's exception keeps from being read is read before the next question."""
        try:
            return mail.receive(self._agent)[0] if self._agent is not None else None
        except OSError as error:
            if is_no_cut(error):
                self._owed += 1
                raise
            return None
        except BaseException:
            self._owed += 1
            raise

    def born(self, pid: int, ticket: str | None, ids: list[str]) -> None:
        """Tell the agent of a child that was started: by fork (it holds what `ticket` stands for) or afresh (`ids`)."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended and another thread has waited for it
            self._tell("void", ticket)
            return
        try:
            for batch in mail.batches(ids):
                self._tell("born", pid, ticket, batch, fds=(pidfd,))
                ticket = None
        finally:
            os.close(pidfd)

    # -- shared memory ----------------------------------------------------------------------------------------------

    def has_blocks(self) -> None:
        """This process has shared memory from now on."""
        if self.spread is None:
            fd = os.open(os.path.join(self.info.folder, folders.SPREAD), os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.spread = mmap.mmap(fd, 1, prot=mmap.PROT_READ)
            finally:
                os.close(fd)

    def sync(self) -> None:
        """Both ways, for this host: what is written here is seen elsewhere, and what is written elsewhere here."""
        self._ask("sync")

    def is_block_here(self, block: str) -> bool:
        """Whether it is on this host, and stays. Once blocks are spread only the agent knows: it takes away what nobody here
        holds any more.
        """
        is_spread = self.info.is_far or (self.spread is not None and self.spread[0])
        return not is_spread and os.path.exists(os.path.join(self.info.folder, block))

    def fetch_block(self, block: str, makers_host: int) -> bool:
        """Have a block of another host's here. Blocks until it is; False when it is nowhere any more. Raises OSError when
        there is no room for it.
        """
        self.holdings.tell_all()  # of this one as well: from here on it stays
        answer = self._ask("block", block, makers_host)
        number = int(answer[1]) if answer is not None else errno.ENOENT
        if number in (0, errno.ENOENT):
            return number == 0
        error = OSError(number, os.strerror(number), os.path.join(self.info.folder, block))
        if number in NO_ROOM:
            raise no_room(error, "the shared memory of another host", self.info.folder)
        raise error

    # -- other hosts ------------------------------------------------------------------------------------------------

    def start_far(self, method: str, ids: list[str], fds: tuple[int, ...], *launch: object) -> None:
        """Have the agent start a process elsewhere: `fds` are its exit pipe and where what it prints goes.

        Raises what the storage, or the runner's `check`, does: for the first process of each method.
        """
        if method not in self._fleets:
            if not self.info.is_far and (check := getattr(methods.runner(method), "check", None)) is not None:
                check(settings.current())
            if self.info.place is not None and not self.info.is_far:
                Bucket(self.info.place).try_out()
            self._fleets.add(method)
            paths = [] if self.info.is_far else program_places()  # those of another host are not the root's
            self._tell("fleet", method, marshal.dumps((settings.current().values(), paths)))
        for batch in mail.batches(ids)[1:]:
            self._tell("take", launch[0], batch)
        if not self._send(("far", method, ids[: mail.MOST_IDS], *launch), fds):
            self.check()
            self._lost("its agent does not answer")

    def retire_host(self) -> None:
        """This host, whose time is limited, is to take no more processes: what they would do takes longer than it has."""
        self._tell("retire")

    def arrived(self, process_id: str, name: str) -> None:
        """This is that far process, which has taken over all handles that were sent with it."""
        self.holdings.tell_all()
        self._tell("arrived", process_id, name)

    def signal_far(self, method: str, process_id: str, signalnum: int) -> None:
        self._tell("signal", method, process_id, int(signalnum))

    # -- ends -------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until the server has executed what this thread, and threads that have ended, have posted.

        Another living thread's replies are its own to read; what it has posted is under way.
        """
        mine = threading.current_thread()
        for channel in [c for c, t in self._channels.items() if t is mine or not t.is_alive()] + self._idle:
            channel.settle()

    def ended(self) -> None:
        """The process has come to its orderly end: what it holds is not passed on, as with the stdlib."""
        self._leave_daemons()
        with suppress(SessionLostError):
            self.settle()
        if self._process:
            self.holdings.tell_all()
            for used in mail.batches(self._used()):
                self._tell("ended", used)
        self._has_left = True
        self.drop()

    def _leave_daemons(self) -> None:
        """The process ends: its daemon threads are not to hear that the session does, as with the stdlib they hear nothing."""
        if self.lookout is not None:
            self.lookout.stop()  # `drop` waits for its thread
        others = set(threading.enumerate()) - {threading.current_thread()}
        self._parked = frozenset(thread for thread in others if thread.daemon)
        # Their next command asks for a channel, and is not sent.
        mine, self._local = self._local, threading.local()
        vars(self._local).update(vars(mine))

    def _park(self) -> None:
        """Does not return to a daemon thread that the process leaves behind."""
        if self._parked and threading.current_thread() in self._parked:
            never = threading.Lock()
            never.acquire()
            never.acquire()

    def _used(self) -> list[tuple[str, str, int]]:
        """The objects that know of this process; and what each thread rightly has there: object, party, number."""
        lines = self.channels()
        joined = set().union(*(line.joined for line in lines))
        return [(i, "", 0) for i in joined] + [
            (i, line.party, account.has)
            for line in lines
            for i, account in line.accounts.items()
            if account.has
        ]

    def farewell(self) -> None:
        """Tell the agent that the root is coming to its orderly end, and wait (2 s at most) until all is taken away.

        Where other processes of the program still run (another package's pool, a daemon of its own making), the session
        goes on, and ends with the root itself.
        """
        if os.getpid() != self.pid or self._agent is None:
            return
        self._leave_daemons()
        self._tell("bye")
        poller = select.poll()
        poller.register(self._agent, select.POLLIN)
        answers = poller.poll(2000)
        if answers and not answers[0][1] & select.POLLHUP:
            mail.receive(self._agent)  # it stays for the others
            return
        self._over = "the root program has ended it"
        self.drop()
        # Only where the agent had died before: nobody else would do it.
        folders.sweep_one(self.info.folder, self._bury_in_server)

    def close(self) -> None:
        """End the session now, and wait (2 s at most) until the agent has taken everything away. For its root."""
        if os.getpid() != self.pid or self._agent is None:
            return
        self._tell("end")
        self._agent_hung_up(2000)
        self._over = "the root program has ended it"
        self.drop()
        folders.sweep_one(self.info.folder, self._bury_in_server)

    def _agent_hung_up(self, timeout_ms: int) -> bool:
        """Whether the agent has ended, within that time."""
        if self._agent is None:
            return False
        poller = select.poll()
        poller.register(self._agent, 0)  # POLLHUP is always heard: answers are not of interest
        return bool(poller.poll(timeout_ms))

    def drop(self) -> None:
        """Close this process's descriptors, and nothing else: in a forked child they are the parent's as well."""
        if self.lookout is not None and os.getpid() == self.pid:
            self.lookout.stop()
        for channel in self.channels():
            channel.close()
            channel.numbered.clear()  # what is read ahead has a descriptor
        if os.getpid() != self.pid:
            for record in list(Record.open_ones):
                record.drop()
        self._channels.clear()
        self._idle.clear()
        for connection in list(self._lent):
            connection.close()
        self._lent.clear()
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        self._close_parents_line()

    def descend(self, parent: Session, *, keeps_line: bool) -> None:
        """Be a forked child's: with its parent's shared memory, and line to the agent, which is taken from `parent`."""
        self.spread = parent.spread
        if keeps_line and parent._agent is not None:
            self._parents_line, parent._agent = parent._agent, None
            self._parents_socket = os.fstat(self._parents_line.fileno()).st_ino

    def _close_parents_line(self) -> None:
        line, self._parents_line = self._parents_line, None
        if line is None:
            return
        try:
            is_it = os.fstat(line.fileno()).st_ino == self._parents_socket
        except OSError:
            is_it = False
        if is_it:
            line.close()
        else:  # the program has closed all descriptors: its number is nobody's, or another's
            line.detach()
