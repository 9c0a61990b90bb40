"""The agent's line to the server: made again after a cut, and sure each time that the session's state is what it was.

    beat      a counter in the server that only the agent raises, three times a lease: gone when the server was emptied,
              smaller when it came back with older data. It is the first of the session's keys to expire, too.
    identity  the server's run_id: another one says that it was restarted, or that a replica took its place

A server that takes connections and does not answer is frozen: it is waited for, however long. One that takes none for a
lease is gone. Time is this machine's monotonic clock; the server's clock only says when keys expire.
"""

from __future__ import annotations

import json
import os
import select
import time
from typing import NamedTuple

from cloudpool.errors import CloudpoolError, ServerError
from cloudpool.host import folder as folders
from cloudpool.store import refusals, scripts, wire
from cloudpool.store.keys import SHARED_TTL_MS, Keys
from cloudpool.store.rights import COMMANDS
from cloudpool.store.wire import Connection, CutError, NotYet, Reply, ReplyError

START_S, MOST_START_S = 8.0, 8.5  # for a server that is not ready yet; the root waits ten
CONNECT_S = 5.0
CONFIRM_S = 1.0  # for a replica, at the start
LOOK_S = 0.5  # between looks at the root while an answer is awaited
PAUSE_S = 0.1  # between attempts
CUT_PAUSE_S = 0.01  # where a cut says that the server is there
KEEPER_S = 2.0  # for who keeps the server to say why it is gone, when its patience ends at about the same time as ours


class LostError(Exception):
    """The session's state is gone, or may be: the argument says why."""


class RootEndedError(Exception):
    """The root has ended while the server did not answer."""


class Identity(NamedTuple):
    """What tells one life of a server from another."""

    run_id: str
    was_replica: bool
    keeps_all: bool  # in an append-only file


class Line:
    """Owned by the agent, and used by it alone."""

    def __init__(
        self, session_id: str, folder: str, url: str, lease_s: float, durable: bool, root_pidfd: int
    ) -> None:
        self.keys = Keys(session_id)
        self.ttl_ms = SHARED_TTL_MS if url else 0
        self.identity: Identity | None = None
        self._folder, self._url, self._lease_s, self._durable = folder, url, lease_s, durable
        self._root_pidfd = root_pidfd  # or what else is readable once this line's owner has nobody to serve
        self.keeper = -1  # what the program says on that keeps the server: why that is gone
        self.beat_key = self.keys.beat
        self.patience_s = lease_s  # how long nobody may take connections; or at home nobody raise the beat
        self._count = 1  # where the beat stands
        self._starts_by = time.monotonic() + START_S
        self.store = self._open_at_start()

    # -- the start --------------------------------------------------------------------------------------------------

    def begin(self) -> tuple[int, str]:
        """Make the session's own keys. The number of this host's life, and a warning. Raises CloudpoolError, OSError."""
        try:
            return self._begin()
        finally:
            self._starts_by = 0.0

    def _begin(self) -> tuple[int, str]:
        try:
            warning = self._check_server() if self._url else ""
            expiry = ("PX", self.ttl_ms) if self.ttl_ms else ()
            self._ask("SET", self.keys.beat, self._count, *expiry)
            epoch: int = self._ask("INCR", self.keys.hosts)
            if self._durable and self._ask("WAIT", 1, round(1000 * min(self._lease_s, CONFIRM_S))) < 1:
                raise ServerError(
                    "CLOUDPOOL_DURABLE is set, and the server has no replica that confirms what is written.\n"
                    "Start one, or unset CLOUDPOOL_DURABLE."
                )
        except ReplyError as error:
            ours = refusals.as_ours(error)
            if isinstance(ours, CloudpoolError):
                raise ours from None
            raise ServerError(f"the server refuses cloudpool's commands: {error}") from None
        return epoch, warning

    def _open_at_start(self) -> Connection:
        while True:
            try:
                left_s = max(MOST_START_S - START_S, self._starts_by - time.monotonic())
                return self.open(within_s=min(left_s, CONNECT_S))
            except (NotYet, CutError, ConnectionError) as error:
                if time.monotonic() > self._starts_by:
                    raise
                self._pause(PAUSE_S if isinstance(error, NotYet) else CUT_PAUSE_S)

    def _ask(self, *command: object) -> Reply:
        """As `_answer`; at the start again after a cut: all that is said there bears repetition."""
        while True:
            try:
                return self._answer(*command)
            except OSError:
                if time.monotonic() > self._starts_by:
                    raise
                self.store.close()
                self.store = self._open_at_start()

    def _check_server(self) -> str:
        """Raises ServerError when the server cannot serve. What it may do to the session's keys, as a warning."""
        hello = self._info("HELLO")
        mode = hello.get("mode", "standalone")
        if mode == "cluster":
            raise ServerError(refusals.CLUSTER)
        if mode == "sentinel":
            raise ServerError(
                "that is a Sentinel, which keeps no data.\nSet CLOUDPOOL_REDIS_URL to the server that it watches over."
            )
        self._check_rights()
        said = self._info("INFO")
        self.identity = self._identity_in(said)
        policy = said.get("maxmemory_policy", "noeviction")
        if policy == "noeviction" or said.get("maxmemory", "0") == "0":
            return ""
        return (
            f"the server drops keys when its memory is full (maxmemory-policy {policy}): queues and locks could vanish.\n"
            "Set it to noeviction: then a put that finds no room raises ServerOutOfMemory instead."
        )

    def _check_rights(self) -> None:
        try:
            refused = self._ask("EVAL", scripts.source("rights"), 1, self.keys.hosts, *COMMANDS)
        except ReplyError as error:
            if error.code != "NOPERM":
                raise
            refused = [str(error).encode()]
        if refused:
            raise ServerError(
                f"the server refuses commands that cloudpool needs ({b', '.join(refused).decode()}).\n"
                "Give the user of CLOUDPOOL_REDIS_URL the rights to them: `python -m cloudpool acl` prints "
                "the ACL SETUSER command for that."
            )

    def _info(self, *command: str) -> dict[str, str]:
        """What the server says of itself; nothing where this user may not ask, or it does not know the command."""
        try:
            reply = self._ask(*command)
        except ReplyError:
            return {}
        if isinstance(reply, list):
            words = [w.decode() if isinstance(w, bytes) else str(w) for w in reply]
            return dict(zip(words[::2], words[1::2], strict=False))
        return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)

    def _identity_in(self, said: dict[str, str]) -> Identity | None:
        """None where the user may not run INFO: then the beat alone tells."""
        if said.get("role", "master") != "master" or "run_id" not in said:
            return self.identity  # a replica refuses writes, and is asked again
        return Identity(
            said["run_id"], said.get("master_replid2", "0").strip("0") != "", said.get("aof_enabled") == "1"
        )

    # -- commands ---------------------------------------------------------------------------------------------------

    def call(self, *command: object) -> Reply:
        """One command, again after a cut: all that the agent sends is idempotent. Raises ReplyError, LostError, RootEndedError."""
        deadline = None
        while True:
            try:
                return self._answer(*command)
            except OSError:
                self._reconnect()
            except ReplyError as error:
                if error.code in refusals.NO_PRIMARY:
                    deadline = deadline or time.monotonic() + self.patience_s
                    if time.monotonic() > deadline:
                        raise LostError(
                            f"its server has been a replica, which takes no writes, for {self.patience_s:g} s"
                        ) from None
                    self.store.close()  # whoever asks again may be given another server
                elif error.code not in refusals.NOT_YET:
                    raise
                self._pause()

    def script(self, name: str, keys: tuple[str, ...], *arguments: object) -> Reply:
        return self.call("EVAL", scripts.source(name), len(keys), *keys, *arguments)

    def scripts(self, runs: list[tuple[str, tuple[str, ...], tuple[object, ...]]]) -> list[Reply]:
        """Several scripts (name, keys, arguments) in one trip, again after a cut. Error replies stand in the list."""
        loads = [("SCRIPT", "LOAD", scripts.source(name)) for name in {name for name, _, _ in runs}]
        calls = [("EVALSHA", scripts.digest(name), len(keys), *keys, *args) for name, keys, args in runs]
        while True:
            try:
                for command in (*loads, *calls):
                    self.store.send(*command)
                replies = [self._receive() for _ in (*loads, *calls)][len(loads) :]
            except OSError:
                self._reconnect()
            else:
                if not any(isinstance(r, ReplyError) and r.code in refusals.NOT_YET for r in replies):
                    return replies
                self._pause()

    def call_many(self, commands: list[tuple[object, ...]]) -> list[Reply]:
        """Several commands in one trip, again after a cut. Error replies stand in the list."""
        while True:
            try:
                for command in commands:
                    self.store.send(*command)
                return [self._receive() for _ in commands]
            except OSError:
                self._reconnect()

    def _answer(self, *command: object) -> Reply:
        """Raises ReplyError, RootEndedError, and OSError when cut."""
        self.store.send(*command)
        reply = self._receive()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def _receive(self) -> Reply:
        """The next reply, an error too. Raises RootEndedError, and OSError when cut."""
        while True:
            try:
                return self.store.receive()
            except TimeoutError:  # frozen: waited for, as long as anyone needs it
                if self._root_has_ended(0):
                    raise RootEndedError from None

    def _root_has_ended(self, within_s: float) -> bool:
        """Raises LostError when the program that keeps the server says that it is gone."""
        watched = [self._root_pidfd] if self.keeper < 0 else [self._root_pidfd, self.keeper]
        ready = select.select(watched, [], [], within_s)[0]
        if self.keeper in ready:
            raise LostError(self.keepers_words())
        return bool(ready)

    def keepers_words(self) -> str:
        said = os.read(self.keeper, 65536)
        self.keeper = -1
        try:
            return str(json.loads(said)["lost"])
        except (ValueError, KeyError):
            return "the program that kept its server has ended"

    def _pause(self, seconds: float = PAUSE_S) -> None:
        """Nothing tells when a server is ready; the root's end ends the pause."""
        if self._root_has_ended(seconds):
            raise RootEndedError

    # -- is it the same? ----------------------------------------------------------------------------------------------

    def beat(self, expiry_ms: int = 0) -> None:
        """Raise the counter. Raises LostError when it is not where it was left."""
        try:
            found = self.script("beat", (self.beat_key,), self._count, self._count + 1, expiry_ms)
        except ReplyError:  # it takes no writes now
            self._look_at_beat(self.call("GET", self.beat_key))
            return
        if found != 1:
            self._look_at_beat(b"older" if found else None)
        self._count += 1

    def _look_at_beat(self, found: bytes | None) -> None:
        if found is None:
            raise LostError(
                "its keys are gone from the server, which was emptied or restarted without its data"
            )
        if found not in (b"%d" % self._count, b"%d" % (self._count + 1)):
            raise LostError("the server has come back with older data: what was written last is missing")

    def verify(self, run_id: str) -> str:
        """Make sure of a server that a process has found in the place of the one it knew. Which one it is."""
        if self.identity is None or self.identity.run_id != run_id:
            self._reconnect()
        return self.identity.run_id if self.identity is not None else run_id

    def _verify(self) -> None:
        old, new = self.identity, self._identity_in(self._info("INFO"))
        if old is not None and new is not None and new != old:
            if new.was_replica and (new.run_id != old.run_id or not old.was_replica) and not self._durable:
                raise LostError(
                    "a replica has taken the server's place, and may lack what was written last (CLOUDPOOL_DURABLE=1 waits for it)"
                )
            if new.run_id != old.run_id and not new.was_replica and not new.keeps_all:
                raise LostError(
                    "its server was restarted without an append-only file, so what was written last may be missing"
                )
        self._look_at_beat(self._answer("GET", self.beat_key))
        self.identity = new

    # -- connections ------------------------------------------------------------------------------------------------

    def open(
        self, patience_s: float = LOOK_S, *, killing: int = 0, within_s: float = CONNECT_S
    ) -> Connection:
        """Another connection, on which an answer is awaited so long, after CLIENT KILL of `killing`: no late copy of what
        was said on that can run. Raises NotYet, OSError, ServerError; LostError where the session can end before its owner.
        """
        store = self._dial(patience_s, killing, within_s)
        try:
            self._admit(store)
        except BaseException:
            store.close()
            raise
        return store

    def _dial(self, patience_s: float, killing: int, within_s: float) -> Connection:
        if self._url:
            store = wire.open_url(self._url, within_s)
        else:
            store = wire.open_unix(os.path.join(self._folder, folders.SERVER_SOCKET))
        store.answers_within(patience_s)
        try:
            _, store.client_id = store.call_many([("CLIENT", "KILL", "ID", killing), ("CLIENT", "ID")])
        except TimeoutError:
            store.close()
            raise NotYet("the server takes connections and does not answer.") from None
        except BaseException:
            store.close()
            raise
        return store

    def _admit(self, store: Connection) -> None:
        """Before anything is said on it."""

    def _reconnect(self) -> None:
        deadline = time.monotonic() + self.patience_s
        killing = self.store.client_id
        while True:
            self.store.close()
            try:
                self.store = self._dial(LOOK_S, killing, CONNECT_S)
                killing = self.store.client_id
                self._verify()
                self._admit(self.store)
                return
            except NotYet as error:
                failure: Exception = error
                deadline = time.monotonic() + self.patience_s
            except (OSError, ServerError, ReplyError) as error:
                failure = error
                if not self._url and isinstance(error, FileNotFoundError | ConnectionRefusedError):
                    raise LostError("its server has ended") from None
                if isinstance(error, ReplyError) and error.code in refusals.NOT_YET:
                    deadline = time.monotonic() + self.patience_s
                if time.monotonic() > deadline:
                    if self.keeper >= 0:
                        self._pause(KEEPER_S)
                    said = str(error).splitlines()[0].rstrip(".:")
                    raise LostError(f"the server has been gone for {self.patience_s:g} s ({said})") from None
            is_there = isinstance(failure, (CutError, ConnectionResetError, BrokenPipeError))
            self._pause(CUT_PAUSE_S if is_there else PAUSE_S)


class ClaimedError(ServerError):
    """Another host has the number that this one came for."""


class _GuestLine(Line):
    """Of an agent or a fleet that may still be there when the session is over: late, cut off or frozen. Nothing that it says
    then is to make keys anew. Its connections have a name under which the end of the session closes them, and what is
    opened after that finds no session.
    """

    def _admit(self, store: Connection) -> None:
        """Raises LostError when the session is over; NotYet, OSError, ServerError."""
        try:
            # In this order: either it is closed, or it sees the end.
            store.call("CLIENT", "SETNAME", self.keys.client("line"))
            is_there = store.call("EXISTS", self.keys.beat)
        except TimeoutError:
            raise NotYet("the server takes connections and does not answer.") from None
        except ReplyError as error:
            raise (NotYet if error.code in refusals.NOT_YET else ServerError)(str(error)) from None
        if not is_there:
            raise LostError("its root program has ended, or the server is not its own")


class FarLine(_GuestLine):
    """A far host's. What it raises is the life of its own host; by the beat it knows whether the root's agent lives."""

    _at_home: bytes | None = None
    _seen = 0.0  # when that was new
    claim: int | None = None  # the number of this host, where several may come that were asked for by one

    def begin(self) -> tuple[int, str]:
        """As above. Raises LostError, or ServerError, when the session is over; ClaimedError."""
        try:
            if self._url:
                self._check_server()
            if self.claim is not None:
                self._claim(self.claim)
            epoch: int = self._ask("INCR", self.keys.hosts)
            host = f"host.{epoch}"
            self.beat_key = self.keys.base(host) + "life"
            expiry = ("PX", self.ttl_ms) if self.ttl_ms else ()
            self._ask("HSET", self.keys.objects, host, "")
            self._ask("SET", self.beat_key, self._count, *expiry)
        except ReplyError as error:
            raise ServerError(f"the server refuses cloudpool's commands: {error}") from None
        finally:
            self._starts_by = 0.0
        return epoch, ""

    def _claim(self, number: int) -> None:
        """Be the host of that number, unless another is. Raises ClaimedError; ServerError when the session is over."""
        name = os.urandom(8).hex()  # after a cut it is claimed by the same again
        where = scripts.source("session_set"), 2, self.keys.beat, self.keys.claims
        said = self._ask("EVAL", *where, number, name, self.ttl_ms, "NX")
        if said == -1:  # it has ended since: nothing of it is to be made anew
            raise ServerError("the session is over.")
        if said != 1:
            raise ClaimedError(f"host {number} of the session is another one, which came first.")

    def beat(self, expiry_ms: int = 0) -> None:
        """Raises LostError also when the root's agent has been silent for a lease in which the server answered."""
        super().beat(expiry_ms)
        found, now = self.call("GET", self.keys.beat), time.monotonic()
        if found is None:
            raise LostError("its root program has ended")
        if found != self._at_home:
            self._at_home, self._seen = found, now
        elif now - self._seen > self.patience_s:
            raise LostError(f"the host of its root program has been silent for {self.patience_s:g} s")

    def _reconnect(self) -> None:
        super()._reconnect()
        self._at_home = None  # in a gap of the answers nobody can be seen to be silent


class FleetLine(_GuestLine):
    """A fleet's, which keeps no beat of its own."""

    def begin(self) -> tuple[int, str]:
        self._starts_by = 0.0
        return 0, ""

    def _look_at_beat(self, found: bytes | None) -> None:
        if found is None:
            raise LostError("the session is over")
