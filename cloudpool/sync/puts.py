"""A thread's puts into a queue: in order, each once, whatever becomes of its connection.

    Puts         a script for each, numbered: sent again, it is put once
    NativePuts   on the private server: the same by native commands, in half the time. They count, so who is interrupted in the
                 middle of one counts anew before the next
    BoundedPuts  where there may be no room: each waits for its answer

All but the bounded ones do not wait for an answer: it is read before the thread's next command, and by the process's end.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NoReturn

from cloudpool.errors import ServerError, ServerOutOfMemory, SessionLostError
from cloudpool.host.membership import Session
from cloudpool.store import wire
from cloudpool.store.channel import Channel
from cloudpool.store.refusals import as_ours
from cloudpool.store.wire import OnReply, Reply, ReplyError
from cloudpool.sync import payload

MISSING = -1  # what queue_put.lua answers when an earlier put of the party is not there
EXEC = ("EXEC",)
_EXEC = wire.packed(EXEC)


class Puts:
    """`put` raises what the server answered to an earlier one that it has not taken (ServerOutOfMemory)."""

    __slots__ = ("_base", "_channel", "_is_unsure", "_number", "_refused", "_session", "_unconfirmed")

    def __init__(self, session: Session, channel: Channel, base: str) -> None:
        self._session, self._channel, self._base = session, channel, base
        self._number = 0  # of the last one
        self._unconfirmed: deque[tuple[int, bytes]] = deque()
        self._is_unsure = False  # one did not take effect, or its reply is lost: all must be sent again
        self._refused: Exception | None = None  # why the server has not taken one of them

    def put(self, message: bytes, timeout: float | None) -> bool:
        """True: there is room, so `timeout` is of no use."""
        channel = self._channel
        with channel.lock:  # against the lookout, which sends again whatever is unconfirmed
            if self._is_unsure:
                channel.settle()
            self.raise_refused()
            number = self._number = self._number + 1
            try:
                self._unconfirmed.append((number, message))
                channel.post_script("queue_put", (self._base,), self._arguments(number, message), self._heard)
            except BaseException:  # a handler's: whether it was sent, the next command makes sure
                self._doubt()
                raise
        return True

    def raise_refused(self) -> None:
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused

    def _heard(self, reply: Reply) -> None:
        """Of the first that is unconfirmed, unless all are to be sent again."""
        if self._is_unsure:
            return
        if reply == 1:
            self._unconfirmed.popleft()
        else:
            self._doubt()

    def _doubt(self) -> None:
        if not self._is_unsure:
            self._channel.later(self._confirm)
            self._is_unsure = True  # only now: a handler may raise in between

    def _confirm(self) -> None:
        """Send again, in order, what may not have arrived: the numbers keep what has from being put twice.

        What the server refuses (it is out of memory) is left out, and the next put to this queue says so.
        """
        while self._unconfirmed:
            number, message = self._unconfirmed[0]
            try:
                self._put_numbered(number, message)
            except (ReplyError, ServerError, ServerOutOfMemory) as refused:
                if not self._channel.is_open:  # the server was not asked: it may have it
                    raise
                self._leave_out(refused)
            else:
                self._unconfirmed.popleft()
        self._is_unsure = False

    def _leave_out(self, refused: Exception) -> None:
        """The server has not taken the first that is unconfirmed."""
        _, message = self._unconfirmed[0]
        payload.discard(message, self._session)
        self._refused = refused
        self._number -= 1
        later = [(number - 1, message) for number, message in self._unconfirmed][1:]
        self._unconfirmed = deque(later)

    def _arguments(
        self, number: int, message: bytes, maxsize: int = 0, *, join_line: bool = False
    ) -> tuple[Any, ...]:
        return (self._channel.party, number, maxsize, self._session.ttl_ms, int(join_line), message)

    def _put_numbered(
        self, number: int, message: bytes, maxsize: int = 0, *, join_line: bool = False
    ) -> bool:
        """Whether it is in. Raises SessionLostError when the server does not know of all that this thread had put before."""
        arguments = self._arguments(number, message, maxsize, join_line=join_line)
        outcome = self._channel.script("queue_put", (self._base,), arguments)
        if outcome == MISSING:
            self._lost()
        return bool(outcome)

    def _lost(self) -> NoReturn:
        """What is confirmed is put once and in order, so the server has lost it."""
        self._session.check()  # who knows why, says it
        raise SessionLostError("the server has lost what was put into this queue before.")

    def _put_there(self) -> int:
        """The number of the last one that is."""
        return int(self._channel.call("HGET", self._base + "seen", self._channel.party) or 0)


class NativePuts(Puts):
    """Where nothing expires, and nobody asks how many are unfinished."""

    __slots__ = ("_begins", "_is_midway", "_on_replies", "_why")

    def __init__(self, session: Session, channel: Channel, base: str) -> None:
        super().__init__(session, channel, base)
        commands = ("MULTI",), ("HINCRBY", base + "seen", channel.party, 1), ("RPUSH", base + "items", "")
        self._begins = b"".join(map(wire.packed, commands)).removesuffix(b"$0\r\n\r\n")
        self._on_replies: tuple[OnReply | None, ...] = (None, None, self._queued, self._heard)
        self._why: Exception | None = None  # the next one is refused
        self._is_midway = False  # in a put; or one was interrupted, and may not have been sent

    def put(self, message: bytes, timeout: float | None) -> bool:
        channel = self._channel
        with channel.lock:
            if self._is_unsure:
                channel.settle()
            if self._is_midway:
                self._count_anew()
            if self._refused is not None:
                self.raise_refused()
            self._is_midway = True
            number = self._number = self._number + 1
            self._unconfirmed.append((number, message))
            data = b"%b$%d\r\n%b\r\n%b" % (self._begins, len(message), message, _EXEC)
            channel.post_packed(data, self._on_replies)
            self._is_midway = False
        return True

    def _queued(self, reply: Reply) -> None:
        if isinstance(reply, ReplyError):
            self._why = as_ours(reply)

    def _heard(self, reply: Reply) -> None:
        if self._is_unsure:
            return
        if type(reply) is list and self._unconfirmed and reply[0] == self._unconfirmed[0][0]:
            self._unconfirmed.popleft()
        elif isinstance(reply, ReplyError):  # not sent again: later ones may be there
            self._leave_out(self._why or as_ours(reply))
            self._why = None
        elif isinstance(reply, list):
            self._channel.later(self._lost)
            self._is_unsure = True
        else:
            self._doubt()

    def _count_anew(self) -> None:
        self._channel.settle()
        there = self._put_there()
        while self._unconfirmed and self._unconfirmed[-1][0] > there:  # never sent: its put has raised
            payload.discard(self._unconfirmed.pop()[1], self._session)
        self._unconfirmed.clear()
        self._number = there
        self._is_midway = False


class BoundedPuts(Puts):
    """Into a queue of at most `maxsize` items."""

    __slots__ = ("_maxsize",)

    def __init__(self, session: Session, channel: Channel, base: str, maxsize: int) -> None:
        super().__init__(session, channel, base)
        self._maxsize = maxsize

    def put(self, message: bytes, timeout: float | None) -> bool:
        """Whether it is in; blocks for room, `timeout` seconds at most (None: for ever)."""
        if self._is_unsure:  # one was interrupted: it may have taken effect
            self._number = self._put_there()
            self._is_unsure = False
        self._number += 1
        try:
            if self._put_or_wait(message, timeout):
                return True
        except BaseException:
            self._is_unsure = True
            raise
        self._number -= 1
        return False

    def _put_or_wait(self, message: bytes, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        channel = self._channel
        room = f"{self._base}room:{channel.party}"
        wait = timeout is None or timeout > 0
        while not self._put_numbered(self._number, message, self._maxsize, join_line=wait):
            if not wait:
                return False
            left = None if deadline is None else deadline - time.monotonic()
            try:
                offered = channel.block(lambda seconds: ("BLMOVE", room, room, "LEFT", "LEFT", seconds), left)
            except BaseException:
                self._leave_line()
                raise
            if offered is None:
                wait = False  # once more without waiting: room may have come at the last moment
                self._leave_line()
        return True

    def _leave_line(self) -> None:
        self._channel.script("queue_leave", (self._base,), (self._channel.party, self._session.ttl_ms))
