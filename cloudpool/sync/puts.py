"""A thread's puts into a queue: in order, each once, whatever becomes of its connection.

    Puts         sent without waiting: the answer is read before the thread's next command, and by the process's end
    BoundedPuts  where there may be no room: each waits for its answer

Each is numbered, so the server has what is sent again put once.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial

from cloudpool.errors import ServerError, ServerOutOfMemory, SessionLostError
from cloudpool.host.membership import Session
from cloudpool.store import scripts, wire
from cloudpool.store.channel import Channel
from cloudpool.store.wire import Reply, ReplyError
from cloudpool.sync import payload

MISSING = -1  # what queue_put.lua answers when an earlier put of the party is not there


Unconfirmed = tuple[int, bytes, object]  # number, message, and the queue's handle: the queue stays as long


class Puts:
    """`put` raises what the server answered to an earlier one that it has not taken (ServerOutOfMemory)."""

    __slots__ = (
        "_base",
        "_begins",
        "_channel",
        "_is_unsure",
        "_number",
        "_refused",
        "_session",
        "_then",
        "_unconfirmed",
    )

    def __init__(self, session: Session, channel: Channel, base: str) -> None:
        self._session, self._channel, self._base = session, channel, base
        self._number = 0  # of the last one
        self._unconfirmed: deque[Unconfirmed] = deque()
        self._is_unsure = False  # one did not take effect, or its reply is lost: all must be sent again
        self._refused: Exception | None = None  # why the server has not taken one of them
        # queue_put's command without number and message, packed once for all: a third of the time of a put.
        begins = wire.packed(("EVALSHA", scripts.digest("queue_put"), 1, base, channel.party))
        ends = wire.packed((0, session.ttl_ms, 0))
        self._begins, self._then = b"*10" + begins.removeprefix(b"*5"), ends.removeprefix(b"*3\r\n")

    def put(self, message: bytes, timeout: float | None, handle: object) -> bool:
        """True: there is room, so `timeout` is of no use."""
        channel = self._channel
        with channel.lock:  # against the lookout, which sends again whatever is unconfirmed
            if self._is_unsure:
                channel.settle()
            self.raise_refused()
            number = self._number = self._number + 1
            try:
                self._unconfirmed.append((number, message, handle))
                digits, size = b"%d" % number, len(message)
                words = (self._begins, len(digits), digits, self._then, size, message)
                channel.post_packed(b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n" % words, partial(self._heard, number))
            except BaseException:  # a handler's: whether it was sent, the next command makes sure
                self._doubt()
                raise
        return True

    def raise_refused(self) -> None:
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused

    def _heard(self, number: int, reply: Reply) -> None:
        if reply == 1 and not self._is_unsure:
            while self._unconfirmed and self._unconfirmed[0][0] <= number:
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
            number, message, _ = self._unconfirmed[0]
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
        _, message, _ = self._unconfirmed[0]
        payload.discard(message, self._session)
        self._refused = refused
        self._number -= 1
        later = [(n - 1, m, handle) for n, m, handle in self._unconfirmed][1:]
        self._unconfirmed = deque(later)

    def _put_numbered(
        self, number: int, message: bytes, maxsize: int = 0, *, join_line: bool = False
    ) -> bool:
        """Whether it is in. Raises SessionLostError when the server does not know of all that this thread had put before."""
        channel = self._channel
        arguments = (channel.party, number, maxsize, self._session.ttl_ms, int(join_line), message)
        outcome = channel.script("queue_put", (self._base,), arguments)
        if outcome == MISSING:  # what is confirmed is put once and in order, so the server has lost it
            self._session.check()  # who knows why, says it
            raise SessionLostError("the server has lost what was put into this queue before.")
        return bool(outcome)


class BoundedPuts(Puts):
    """Into a queue of at most `maxsize` items."""

    __slots__ = ("_maxsize",)

    def __init__(self, session: Session, channel: Channel, base: str, maxsize: int) -> None:
        super().__init__(session, channel, base)
        self._maxsize = maxsize

    def put(self, message: bytes, timeout: float | None, handle: object) -> bool:
        """Whether it is in; blocks for room, `timeout` seconds at most (None: for ever)."""
        if self._is_unsure:  # one was interrupted: it may have taken effect
            channel = self._channel
            self._number = int(channel.call("HGET", self._base + "seen", channel.party) or 0)
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
