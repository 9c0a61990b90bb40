"""Lock, RLock, Semaphore, BoundedSemaphore: tokens that move between lists.

    avail --BLMOVE--> held:<party> --LMOVE--> avail

Taking is one native command that blocks in the server, in the order of arrival; giving back is one that hands over to
the first waiter. A token is always in some list, so a cut loses none (the list says whether the move took place), and
the tokens in a dead process's lists are what it held.

    t            a token
    d<pid>       one whose holder died; whoever takes it warns, and makes it a `t` again
    s<release>   a signal, from a process that held none. Nobody holds a signal: whoever takes it says so, and it is gone
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import warnings
from contextlib import suppress
from multiprocessing import synchronize, util
from typing import Any

from cloudpool import settings
from cloudpool.errors import CloudpoolError, SessionLostError
from cloudpool.store.channel import Channel
from cloudpool.store.wire import ReplyError
from cloudpool.sync.shared import Shared
from cloudpool.sync.timeout import check_of_semaphore

RECURSIVE, NUMBERED = 0, 1
MINT = 1000  # tokens that are made at once; the rest of a large value is a number until it is needed

_requests = itertools.count(1)


class Tokens(Shared):
    """The semaphore itself, with the methods of `_multiprocessing.SemLock`, whose semantics these are.

    `count` and `owner` are this process's: how often it has taken it through this handle, and by which thread last.
    """

    _kind = "semaphore"

    def __init__(self, kind: int, value: int, maxvalue: int) -> None:
        self.kind, self.maxvalue = kind, maxvalue
        self._large = value > MINT
        commands: list[tuple[Any, ...]] = [("DEL", "avail"), ("SADD", "parties", "")]
        if value:
            commands.append(("RPUSH", "avail", *["t"] * min(value, MINT)))
        if self._large:
            commands.append(("HSET", "state", "spare", value - MINT))
        self._create(*commands)
        self._begin()

    def _begin(self) -> None:
        self._taken = 0
        self._owner_thread = 0
        util.register_after_fork(self, Tokens._after_fork)

    def _after_fork(self) -> None:
        self._taken = 0

    def _extra(self) -> Any:
        return self.kind, self.maxvalue, self._large

    def _restore(self, extra: Any) -> None:
        self.kind, self.maxvalue, self._large = extra
        self._begin()

    @property
    def name(self) -> str:
        return self._id

    @property
    def handle(self) -> str:
        return self._id

    # -- taking and giving back -------------------------------------------------------------------------------------

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take a token; blocks up to `timeout` seconds (None: for ever; negative: as 0). True when taken."""
        if self.kind == RECURSIVE and self._is_mine():
            self._taken += 1
            return True
        channel = self._here().join(self._id)
        token = self._take(channel, 0.0 if not block else timeout if timeout is None else max(0.0, timeout))
        if token is None:
            if block:
                check_of_semaphore(timeout)
            return False
        if token.startswith(b"s"):
            # Heard. Until the server knows, it goes on to the next should this process die.
            # No other is the same: repeatable.
            channel.post("LREM", f"{self._base}held:{channel.party}", 0, token)
        else:
            channel.account(self._id).has += 1
        self._owner_thread = (
            threading.get_ident()
        )  # before it counts: else the last owner's thread would take it for its own
        self._taken += 1
        if token.startswith(b"d"):
            self._inherit(channel, token)
        return True

    def _take(self, channel: Channel, timeout: float | None) -> bytes | None:
        avail, held = self._base + "avail", f"{self._base}held:{channel.party}"
        before = channel.account(self._id).total

        def look() -> bytes | None:
            total, last = self._account(channel)
            return last if total > before else None

        def undo(_token: bytes) -> None:
            is_undone = lambda: None if self._account(channel)[0] > before else b"t"  # noqa: E731
            channel.call("LMOVE", held, avail, "RIGHT", "LEFT", look=is_undone)
            channel.expire(avail)

        token: bytes | None = None
        if timeout == 0.0 or self._large:
            token = channel.call("LMOVE", avail, held, "LEFT", "RIGHT", look=look, undo=undo)
            if (
                token is None
                and self._large
                and channel.script("semaphore_mint", (self._base,), (MINT, self._session.ttl_ms))
            ):
                token = channel.call("LMOVE", avail, held, "LEFT", "RIGHT", look=look, undo=undo)
        if token is None and timeout != 0.0:
            token = channel.block(
                lambda seconds: ("BLMOVE", avail, held, "LEFT", "RIGHT", seconds),
                timeout,
                look=look,
                undo=undo,
            )
        if token is not None:
            channel.expire(held)
        return token

    def _inherit(self, channel: Channel, token: bytes) -> None:
        """Warn that the holder before died. Where warnings are errors, the lock goes on, still marked, to the next."""
        try:
            warnings.warn(
                f"Process {token[1:].decode()} died while it held this {self._what()} ({self._id}), which was passed on.\n"
                "What it protects may be half-written.",
                RuntimeWarning,
                stacklevel=settings.outside(),
            )
        except BaseException:
            self.release()
            raise
        with suppress(ReplyError):  # another thread has released it meanwhile
            channel.call("LSET", f"{self._base}held:{channel.party}", -1, "t")

    def _what(self) -> str:
        if self.kind == RECURSIVE:
            return "RLock"
        return "Lock or Semaphore" if self.maxvalue == 1 else "Semaphore"

    def release(self) -> None:
        """Give a token back; another thread's or process's too. Raises ValueError at the bound, AssertionError for an RLock not owned."""
        if self.kind == RECURSIVE:
            if not self._is_mine():
                self._here().check()  # a Condition's wait has lost it with the session: that is to be told
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self._taken > 1:
                self._taken -= 1
                return
        channel = self._here().join(self._id)
        self._taken -= 1  # before another thread can have it, and count
        try:
            if not (channel.account(self._id).has and self._give_back(channel)):
                self._release_elsewhere(channel)
        except (ValueError, CloudpoolError):
            self._taken += 1
            raise

    def _give_back(self, channel: Channel) -> bool:
        """The short way, for a token that this thread took; False when another process has released it meanwhile."""
        avail, held = self._base + "avail", f"{self._base}held:{channel.party}"
        account = channel.account(self._id)
        before = account.total

        def look() -> bytes | None:
            return b"t" if self._account(channel)[0] < before else None

        try:
            token = channel.call("LMOVE", held, avail, "LEFT", "RIGHT", look=look)
        except CloudpoolError:
            raise
        except BaseException:  # a signal handler's: it goes through, but the lock does not stay taken for it
            if look() is None:
                channel.call("LMOVE", held, avail, "LEFT", "RIGHT", look=look)
            account.has -= 1
            raise
        if token is None:
            account.has, account.moved = 0, before
            return False
        account.has -= 1
        channel.expire(avail)
        return True

    def _account(self, channel: Channel) -> tuple[int, bytes]:
        """The thread's account and the last token that it took, as the server has them."""
        total, last = channel.script("account", (self._base,), ("held", "state", channel.party))
        return int(total), last

    def _release_elsewhere(self, channel: Channel) -> None:
        """Release what another thread or process took: the long way, which also sees the bound."""
        bound = self.maxvalue if self.maxvalue < synchronize.SEM_VALUE_MAX else 0
        arguments = (channel.party, bound, self._session.ttl_ms, next(_requests))
        try:
            released = channel.script("semaphore_release", (self._base,), arguments)
        except CloudpoolError:
            raise
        except BaseException:  # as above; the request is numbered, so it runs once
            channel.script("semaphore_release", (self._base,), arguments)
            raise
        if not released:
            raise ValueError("semaphore or lock released too many times")

    # -- the rest of SemLock ----------------------------------------------------------------------------------------

    def _count(self) -> int:
        return self._taken

    def _is_mine(self) -> bool:
        return self._taken > 0 and self._owner_thread == threading.get_ident()

    def _get_value(self) -> int:
        channel = self._here().channel()
        free: int = channel.call("LLEN", self._base + "avail")
        if self._large:
            free += int(channel.call("HGET", self._base + "state", "spare") or 0)
        return free

    def _is_zero(self) -> bool:
        try:
            return self._get_value() == 0
        except SessionLostError:  # nothing can be had; the stdlib's executor is told by what it waits for
            return True

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class SemLock(synchronize.SemLock):
    """What Lock, RLock and the semaphores share; an instance of the stdlib's class, so that isinstance checks hold."""

    def __init__(self, kind: int, value: int, maxvalue: int, *, ctx: Any = None) -> None:
        if value < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # the stdlib's, of sem_open
        self._semlock = Tokens(kind, value, maxvalue)
        self._make_methods()

    def __getstate__(self) -> Any:
        return (self._semlock,)  # a tuple, as the stdlib's: subclasses add to it

    def __setstate__(self, state: Any) -> None:
        (self._semlock,) = state
        self._make_methods()


class Semaphore(SemLock, synchronize.Semaphore):
    """`multiprocessing.Semaphore`: `value` tokens, more by release()."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        SemLock.__init__(self, NUMBERED, value, synchronize.SEM_VALUE_MAX)


class BoundedSemaphore(Semaphore, synchronize.BoundedSemaphore):
    """`multiprocessing.BoundedSemaphore`: ValueError when released above its initial value."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        SemLock.__init__(self, NUMBERED, value, value)


class Lock(SemLock, synchronize.Lock):
    """`multiprocessing.Lock`: not recursive; whoever has it may release it."""

    def __init__(self, *, ctx: Any = None) -> None:
        SemLock.__init__(self, NUMBERED, 1, 1)


class RLock(SemLock, synchronize.RLock):
    """`multiprocessing.RLock`: the thread that has it may take it again, and only it may release it."""

    def __init__(self, *, ctx: Any = None) -> None:
        SemLock.__init__(self, RECURSIVE, 1, 1)
