"""A thread's line to the server: it survives cuts, and says what became of a command that was under way.

        primitive --call(look=..)--> Channel --RESP--> server
                                       |  cut or interrupted
                                       v
              open a new connection, CLIENT KILL the old one, then `look`: did it take effect?

After CLIENT KILL has answered, nothing of the old connection can run any more, so what `look` sees is final.
That is why no command is ever repeated blindly: each is idempotent, or comes with its `look`.
"""

from __future__ import annotations

import math
import mmap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from cloudpool.errors import CloudpoolError, ServerError, ServerOutOfMemory
from cloudpool.store import scripts
from cloudpool.store.interruption import is_no_cut
from cloudpool.store.lookout import Lookout
from cloudpool.store.refusals import NO_PRIMARY, NOT_YET, SEND_AGAIN, as_ours
from cloudpool.store.wire import Connection, OnReply, Reply, ReplyError, packed

T = TypeVar("T")

# What the server refuses when it is out of memory, though it takes none or little and lets others go on: see relief.lua.
RELIEVING = frozenset({"LMOVE", "BLMOVE", "XADD", "RPUSH", "SADD"})
MOST_S = 1e6  # that poll and a lock can be asked to wait
PAUSE_S = 0.02  # before what was refused is sent again


class Dialer(Protocol):
    """Opens admitted connections; the session is one."""

    ttl_ms: int
    lookout: (
        Lookout | None
    )  # who confirms what idle threads have posted; None where no connection is ever cut

    # A byte: whether other hosts have shared memory that this process has, too. None: it has none.
    spread: mmap.mmap | None

    def sync(self) -> None:
        """What this host has written to such memory is seen on others, and here what they have."""

    def dial(self, killing: int = 0) -> Connection:
        """A connection that the session has admitted, after CLIENT KILL of `killing`. Raises SessionLostError."""

    def check(self) -> None:
        """Raises SessionLostError when the session is over."""


class Cut:
    """The reply to a posted command whose fate is unknown: the connection was cut."""


CUT = Cut()


@dataclass(slots=True)
class Account:
    """What a party has in its own list of an object, as far as it knows, and how many it knows that others have taken out.

    The sum changes by the party's own doing alone, in the server as well (account.lua): after a cut it tells what was done.
    """

    has: int = 0
    moved: int = 0

    @property
    def total(self) -> int:
        return self.has + self.moved


class Channel:
    """One thread's connection, made on first use, made again after a cut. `party` names the thread in the server.

    Owned by its thread; a forked child drops it with its process's other channels. While the owner is busy with other
    things the lookout may read what is due, hence the lock.
    """

    SLICE_S = 5.0  # a blocked command comes back that often, to see whether the session is still there

    def __init__(self, dialer: Dialer, party: str) -> None:
        self._dialer = dialer
        self._connection: Connection | None = None
        self.party = party
        self.is_busy = False  # in the middle of a command: nothing else may be sent
        self.joined: set[str] = set()  # objects that know of this party
        self._redo: list[Callable[[], object]] = []
        self._refused: Exception | None = None  # what the server answered to something posted; said once
        self._is_running_again = self._is_looked_after = False
        self._is_inner = False  # a call from within another: it says nothing of what was posted
        self._killing = 0  # the cut connection's id, until CLIENT KILL has answered
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}  # object id -> what this party has in its own list there
        self.numbered: dict[str, Any] = {}  # object id -> what this party has asked of it, or taken

    # -- commands ---------------------------------------------------------------------------------------------------

    def call(
        self, *command: Any, look: Callable[[], Any] | None = None, undo: Callable[[Any], Any] | None = None
    ) -> Reply:
        """Send a command and wait for its reply.

        After a cut, `look()` tells what it did: None means nothing, and it is sent again, as is a command without a
        `look`. When an exception (a signal handler's) interrupts the wait, what `look` finds is given to `undo`.
        Raises ReplyError, SessionLostError; what the server answered to something posted before: then nothing was sent.
        """
        with self.lock:
            try:
                return self._exchange(lambda connection: connection.call(*command), look, undo)
            except ReplyError as error:
                if error.code != "OOM" or command[0] not in RELIEVING:
                    raise as_ours(error) from None
            return self._relieve(command, look, undo)

    def call_many(self, commands: list[tuple[Any, ...]]) -> list[Reply]:
        """Send idempotent commands in one trip. Error replies stand in the list. Raises as `call`."""

        def send(connection: Connection) -> list[Reply]:
            replies = connection.call_many(commands)
            for reply in replies:
                if isinstance(reply, ReplyError) and reply.code in NOT_YET | NO_PRIMARY:
                    raise reply
            return replies

        with self.lock:
            replies: list[Reply] = self._exchange(send, None, None)
            return replies

    def _exchange(
        self,
        send: Callable[[Connection], Reply],
        look: Callable[[], Any] | None,
        undo: Callable[[Any], Any] | None,
    ) -> Reply:
        """`send` on a connection that works: again after a cut, and where the server asks for patience. Raises ReplyError."""
        self._run_again()
        self._raise_refused()
        is_inner = self._is_inner
        spread = None if is_inner else self._dialer.spread
        try:
            self._is_inner = True  # what is called from here on belongs to this
            if spread is not None and spread[0]:
                self._dialer.sync()  # who hears of this command sees what was written before it
            reply = self._send(send, look, undo)
        finally:
            self._is_inner = is_inner
            self.is_busy = False
        if spread is not None and spread[0]:
            self._dialer.sync()  # and here is seen what others wrote before they said what was waited for
        return reply

    def _send(
        self,
        send: Callable[[Connection], Reply],
        look: Callable[[], Any] | None,
        undo: Callable[[Any], Any] | None,
    ) -> Reply:
        is_cut = False
        while True:
            self.is_busy = not self._is_looked_after
            try:
                if is_cut:
                    is_cut = False
                    self._again()
                    self._run_again()  # what was posted before it
                    if look is not None and (found := look()) is not None:
                        return found
                    self.is_busy = not self._is_looked_after  # those have called, too
                return send(self._connection or self._dial())
            except OSError as error:
                if is_no_cut(error):
                    self._interrupted(look, undo)
                    raise
                is_cut = True
            except ReplyError as error:
                if not self._is_passing(error):
                    raise
                is_cut = error.code in NO_PRIMARY  # dialling waits until there is one, or gives up
            except CloudpoolError:  # nothing was sent: it cannot be, or there is no server
                raise
            except BaseException:
                self._interrupted(look, undo)
                raise

    def _is_passing(self, error: ReplyError) -> bool:
        """Whether the server did not run a command, but may by and by; then some time has passed."""
        if error.code in NOT_YET:
            self._dialer.check()
        elif error.code not in NO_PRIMARY:
            return False
        time.sleep(PAUSE_S)
        return True

    def _relieve(
        self, command: tuple[Any, ...], look: Callable[[], Any] | None, undo: Callable[[Any], Any] | None
    ) -> Reply:
        """Run a command that a server out of memory refuses as such. A script cannot block: the caller comes again."""
        name, *rest = command
        seconds = float(rest.pop()) if name == "BLMOVE" else 0.0
        name = "LMOVE" if name == "BLMOVE" else name
        reply = self.call("EVAL", scripts.source("relief"), 1, rest[0], name, *rest, look=look, undo=undo)
        if reply is None and seconds:
            time.sleep(min(seconds, PAUSE_S))
        return reply

    def script(
        self,
        name: str,
        keys: tuple[Any, ...],
        args: tuple[Any, ...] = (),
        *,
        look: Callable[[], Any] | None = None,
    ) -> Reply:
        """Run lua/`name`.lua. It is idempotent by a request id among `args`, or `look` tells (as for `call`)."""
        try:
            return self.call("EVALSHA", scripts.digest(name), len(keys), *keys, *args, look=look)
        except ReplyError as error:
            if error.code != "NOSCRIPT":
                raise
        return self.call("EVAL", scripts.source(name), len(keys), *keys, *args, look=look)

    def post(self, *command: Any, on_reply: OnReply | None = None) -> None:
        """Send and do not wait. `on_reply` gets the reply, or CUT when the connection broke before it came.

        Without `on_reply` it must be small, and do no harm when it is run again, however late: one that was cut, or that
        a server out of memory refuses, is.
        """
        if on_reply is None:
            again, relieve = lambda: self.call(*command), lambda: self._relieve(command, None, None)
            on_reply = partial(self.heard, again=again, relieve=relieve)
        self.post_packed(packed(command), on_reply)

    def post_packed(self, data: bytes, on_reply: OnReply) -> None:
        """As `post`, of a command that is packed (wire.packed)."""
        spread = self._dialer.spread
        if spread is not None and spread[0]:
            self._dialer.sync()
        with self.lock:
            self._run_again()
            self.is_busy = not self._is_looked_after
            try:
                (self._connection or self._dial()).post_packed(data, on_reply)
            except OSError as error:
                self._abandon()
                on_reply(CUT)
                self._again()
                if is_no_cut(error):
                    self._run_again()
                    raise
            except CloudpoolError:
                raise
            except BaseException:  # it may have been written in part
                self._abandon()
                on_reply(CUT)
                self._interrupted(None, None)
                raise
            finally:
                self.is_busy = False
            self._run_again()
        if self._dialer.lookout is not None:
            self._dialer.lookout.notice(self)

    def heard(
        self, reply: Reply, again: Callable[[], object], relieve: Callable[[], object] | None = None
    ) -> None:
        """The reply to a posted command: it is run again when it was cut, or refused for now."""
        if relieve is not None and isinstance(reply, ReplyError) and reply.code == "OOM":
            self.later(relieve)
        elif isinstance(reply, Cut) or (isinstance(reply, ReplyError) and reply.code in SEND_AGAIN):
            self.later(again)
        elif isinstance(reply, ReplyError):
            self._refused = self._refused or as_ours(reply)

    def post_script(
        self, name: str, keys: tuple[Any, ...], args: tuple[Any, ...], on_reply: OnReply | None = None
    ) -> None:
        """Run a script and do not wait, as `post`. It is numbered: run again after later ones, it does nothing.

        Scripts are loaded when a connection is made; NOSCRIPT (someone flushed them) comes to `on_reply` like any reply.
        """
        if on_reply is None:
            on_reply = partial(self.heard, again=lambda: self.script(name, keys, args))
        self.post("EVALSHA", scripts.digest(name), len(keys), *keys, *args, on_reply=on_reply)

    def settle(self, within_s: float = math.inf) -> None:
        """Wait for the replies of everything posted on this channel. Raises what the server answered to one of them.

        With a time: wait no longer. What is cut then is left to the lookout, where there is one.
        """
        if within_s == math.inf:
            with self.lock:
                self._settle(within_s, None)
            return
        within_s = min(within_s, MOST_S)
        if not self.lock.acquire(timeout=within_s):  # the lookout is at it, and is kept waiting
            return
        lookout = self._dialer.lookout
        try:
            self._settle(within_s, lookout)
        finally:
            self.lock.release()
        if lookout is not None and self._redo:
            lookout.notice(self)

    def _settle(self, within_s: float, lookout: Lookout | None) -> None:
        self.is_busy = not self._is_looked_after
        try:
            if self._connection is not None:
                self._connection.settle(within_s)
        except OSError as error:
            if is_no_cut(error):
                self._interrupted(None, None)
                raise
            if lookout is None:
                self._again()
            else:
                self._abandon()
        except BaseException:
            self._interrupted(None, None)
            raise
        finally:
            self.is_busy = False
        if lookout is None:
            self._run_again()
        self._raise_refused()

    def look_after(self) -> bool:
        """The lookout's: while the owner is at other things, read replies that have come, and send again what was cut.

        Whether anything is still out. Raises as the owner's next command will.
        """
        if not self.lock.acquire(blocking=False):  # its owner is at it
            return True
        self._is_looked_after = True
        try:
            connection = self._connection
            if connection is not None and connection.has_unread:
                try:
                    if connection.readable():
                        connection.settle()  # an error is the owner's
                except OSError:  # cut, or closed with its session
                    self._again()
            self._run_again()
            return self._connection is not None and self._connection.has_unread
        finally:
            self._is_looked_after = False
            self.lock.release()

    def later(self, redo: Callable[[], object]) -> None:
        """Run `redo` before the next command, or when settling: not now, as another command's reply is being waited for."""
        self._redo.append(redo)

    def _run_again(self) -> None:
        """In the order in which it was posted; what it calls itself does not come here again.

        What the server refuses for good is left out, and said once.
        """
        if self._is_running_again or not self._redo:
            return
        is_inner = self._is_inner
        try:
            self._is_running_again = self._is_inner = True
            self._run_all_again()
        finally:
            self._is_running_again, self._is_inner = False, is_inner

    def _run_all_again(self) -> None:
        # A loop of its own: where a loop begins anew, what a handler raises passes by the `finally` around it (Python 3.12).
        while self._redo:
            try:
                self._redo[0]()
            except (ReplyError, ServerError, ServerOutOfMemory) as error:
                if not self.is_open:  # it was not asked
                    raise
                self._refused = self._refused or error
            del self._redo[0]

    def _raise_refused(self) -> None:
        """What the server has answered to something posted: before a command, never instead of its reply."""
        if not self._is_inner and self._refused is not None:
            refused, self._refused = self._refused, None
            try:
                raise refused
            finally:
                del refused  # else it and this frame hold each other

    def block(
        self,
        command: Callable[[str], tuple[Any, ...]],
        timeout_s: float | None,
        *,
        look: Callable[[], Any] | None = None,
        undo: Callable[[Any], Any] | None = None,
    ) -> Reply:
        """Run a blocking command, made by `command(seconds)`, until it answers or `timeout_s` has passed (then None).

        It blocks in the server, in slices, so that a thread whose session has ended notices.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        left = deadline - time.monotonic()
        while True:  # once at least, however short the timeout: what is there is got
            seconds = f"{max(0.001, min(left, self.SLICE_S)):.3f}"  # 0 would mean "for ever"
            reply = self.call(*command(seconds), look=look, undo=undo)
            if reply is not None:
                return reply
            self._dialer.check()
            left = deadline - time.monotonic()
            if left <= 0:
                return None

    def expire(self, *keys: str) -> None:
        """Give keys that a native command may just have made their expiry; nothing on the embedded server."""
        if self._dialer.ttl_ms:
            for key in keys:
                self.post("PEXPIRE", key, self._dialer.ttl_ms)

    # -- life -------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is a connection; else nothing can have been sent since the last was cut."""
        return self._connection is not None

    def has_reply(self) -> bool:
        """Whether something has come, or nothing can come: the connection is closed."""
        return self._connection is None or self._connection.readable()

    def account(self, object_id: str) -> Account:
        """This party's, of an object."""
        try:
            return self.accounts[object_id]
        except KeyError:
            return self.accounts.setdefault(object_id, Account())

    def forget(self, object_id: str) -> None:
        """An object is gone from the server."""
        self.joined.discard(object_id)
        self.accounts.pop(object_id, None)
        self.numbered.pop(object_id, None)

    def close(self) -> None:
        """Close; what was posted and not settled is left to chance. Used after `settle`, or in a forked child."""
        # Taken away first: the lookout, which finds it closed, must not take that for a cut and open another.
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _dial(self) -> Connection:
        self._connection = self._dialer.dial(killing=self._killing)
        self._killing = 0
        return self._connection

    def _abandon(self) -> None:
        """Close a broken connection, and tell the posted commands' callbacks that they were cut."""
        old = self._connection
        if old is not None:
            self._killing = old.client_id
            old.abandon(CUT)
            self._connection = None  # only now: interrupted, it is abandoned the next time

    def _again(self) -> None:
        """Replace a broken connection."""
        self._abandon()
        if self._killing:
            self._dial()
        else:
            self._dialer.check()

    def _interrupted(self, look: Callable[[], Any] | None, undo: Callable[[Any], Any] | None) -> None:
        """A signal handler raised while a reply was awaited: its late reply must not be taken for another's. What was posted
        before had returned, and is not to wait for what its thread does next.
        """
        self._again()
        self._run_again()
        if look is not None and undo is not None and (found := look()) is not None:
            undo(found)
