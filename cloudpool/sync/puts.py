"""A thread's puts into one queue: numbered, in order, each put once, however often and by whatever line it is sent.

    put --> unsent --send--> the thread's line          at once, or 32 together: what comes within 50 us of the last is held
               |                                         back until there are so many, or the thread does anything else
               +--sender, a nested line--> the server    a moment later, when its thread does nothing more

The number belongs to the party, not to a connection: so nobody locks anybody out, and to send twice is harmless. A batch that
begins behind what the server has seen is refused (MISSING), so nothing is put out of order either.

Held back is on the embedded server alone, whose connections nobody cuts.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from time import monotonic
from typing import Any

from cloudpool.errors import ServerError, ServerOutOfMemory, SessionLostError
from cloudpool.host.membership import Session
from cloudpool.store import scripts
from cloudpool.store.channel import Channel
from cloudpool.store.wire import Reply, ReplyError
from cloudpool.sync import payload

BURST_S = 50e-6  # from one put to the next: about what the server takes to answer
MOST_HELD = 32  # puts of a burst that are sent together
SMALL_BYTES = 2048  # a message that is held back: so that all of them are 64 KiB at most
MISSING = -1  # what the scripts answer when an earlier put of the party is not there
GONE = -2  # and when the queue is not: its last handle was dropped while puts were held back


class Batch(list[bytes]):
    """Messages that go together, with the numbers of the first and the last of them."""

    __slots__ = ("first", "last")
    first: int
    last: int


class Puts:
    """Those into a queue without a bound. Made for its thread's line; the sender's thread may look, and send them, at any time.

    A signal's handler may put into the same queue between any two steps, or raise, and so may a finalizer; another thread
    goes on there. CPython lets them only after a call, at a function's start and where a loop begins anew, and collects
    garbage only where it makes a container: so lines marked `at once` have no call but the last, and make none.
    """

    __slots__ = (
        "_base", "_channel", "_left_out", "_party", "_sender", "_session", "_unconfirmed", "_unsent", "last_at", "number",
        "refused", "sent", "there", "unsure",
    )  # fmt: skip

    def __init__(self, session: Session, channel: Channel, base: str) -> None:
        self._session, self._channel, self._base, self._party = session, channel, base, channel.party
        self._sender = session.sender
        self.number = self.sent = self.there = 0  # see Held
        self._left_out = 0  # of the first ones: by so many the server's numbers are lower
        self._unsent = Batch()
        self._unsent.first = 1
        self._unconfirmed: deque[Batch] = deque()
        self.last_at = -math.inf
        self.unsure = False  # one did not take effect, or its reply is lost: `_confirm` is to come
        self.refused: Exception | None = None  # why the server has not taken one of them

    def put(self, message: bytes, _timeout: float | None, handle: object) -> bool:
        """`handle` is what keeps the queue. Raises what the server answered to an earlier put that it has not taken (ServerOutOfMemory); then this is none."""
        channel, sender = self._channel, self._sender
        if not channel.may_hold or sender is None:
            self._put_now(message, handle)
            return True
        if self.unsure:
            channel.settle()
        if self.refused is not None:
            self.raise_refused()
        while (held := channel.held) is not self:  # what was put into another queue goes first
            if held is None or held.sent >= held.number:  # at once with the next line
                channel.held = self
            else:
                held.send()
        self.number += 1  # at once
        self._unsent.append(message)
        now = monotonic()
        is_burst = now - self.last_at < BURST_S
        self.last_at = now
        may_hold = is_burst and self.number - self.sent < MOST_HELD and len(message) <= SMALL_BYTES
        spread = self._session.spread
        if spread is not None and spread[0]:  # other hosts are to see what this thread has written before
            may_hold = False
        if may_hold and sender.takes(self) and channel.held is self:
            return True
        if channel.held is not self:  # a handler's put has taken the place: nobody would flush this one
            channel.flush()
        self.send()
        return True

    def _put_now(self, message: bytes, handle: object) -> None:
        """On a server of one's own, where the lookout may be sending again; or on a nested line."""
        channel = self._channel
        with channel.lock:
            if self.unsure:
                channel.settle()
            self.raise_refused()
            self.number += 1  # at once
            self._unsent.append(message)
            self.send(handle)
        if self._sender is not None:
            channel.settle()  # else what its thread does next, on another line, may come before

    def raise_refused(self) -> None:
        refused, self.refused = self.refused, None
        if refused is not None:
            raise refused

    # -- sending ----------------------------------------------------------------------------------------------------

    def send(self, handle: object = None) -> None:
        """With a handle the queue does not go before it is known that they are there, so they need not find it gone."""
        if self.unsure:
            self.sent = self.number  # at once: `_confirm` sends them
            return
        self._close()
        for batch in self._left_to_send():
            for number, messages in self._pieces(batch):
                heard = partial(self._heard, handle, number + len(messages) - 1)
                self._channel.post_held(*self._command(number, messages), heard)
            self._are_sent(batch.last)  # only now: what a handler keeps from being written is sent again

    def _close(self) -> None:
        """The next message begins a new batch."""
        fresh = Batch()
        if self._unsent:  # from here on at once
            batch = self._unsent
            batch.last = self.number
            fresh.first = self.number + 1
            self._unsent = fresh
            self._unconfirmed.append(batch)

    def _left_to_send(self) -> list[Batch]:
        """Nearly always the last batch."""
        if self._unconfirmed and (latest := self._unconfirmed[-1]).first == self.sent + 1:
            return [latest]
        return [batch for batch in list(self._unconfirmed) if batch.last > self.sent]

    def _pieces(self, batch: Batch) -> list[tuple[int, list[bytes]]]:
        """As commands take them, with the numbers of their first ones."""
        if self._sender is not None:
            return [(batch.first, batch)]
        return [(number, [message]) for number, message in enumerate(batch, batch.first)]

    def _command(self, number: int, messages: list[bytes]) -> tuple[str, tuple[str], tuple[Any, ...]]:
        """The script, its keys and its arguments."""
        number -= self._left_out
        if self._sender is not None:
            return "queue_puts", (self._base,), (self._party, number, *messages)
        return "queue_put", (self._base,), (self._party, number, 0, self._session.ttl_ms, 0, *messages)

    def _heard(self, handle: object, last: int, reply: Reply) -> None:
        """The reply to those up to `last`."""
        if self.unsure:
            return
        if reply == 1:
            self._are_there(last)
            return
        self._channel.later(partial(self._confirm, handle))
        self.unsure = True  # only now: whoever reads this relies on that
        if self._sender is not None:
            self._sender.reminded(self)  # should its thread do nothing more

    def _are_sent(self, last: int) -> None:
        if last > self.sent:  # noqa: PLR1730 - at once, and max() is a call
            self.sent = last

    def _are_there(self, last: int) -> None:
        """In the server. The owner's alone: two at once would forget what is not theirs."""
        if last > self.there:  # noqa: PLR1730 - at once, and max() is a call
            self.there = last
        while self._unconfirmed and self._unconfirmed[0].last <= self.there:  # at once with the next line
            self._unconfirmed.popleft()

    # -- sending again ----------------------------------------------------------------------------------------------

    def send_by(self, call_many: Callable[[list[tuple[Any, ...]]], list[Reply]]) -> None:
        """What the server refuses is left to the owner."""
        self._close()
        batches = list(self._unconfirmed)
        unsent = batches if self.unsure else [batch for batch in batches if batch.last > self.sent]
        # Whole, as another line may not have the script.
        replies = call_many([self._whole(batch) for batch in unsent]) if unsent else []
        if MISSING in replies:  # what their own line was given before is under way, or was cut
            unsent, replies = batches, call_many([self._whole(batch) for batch in batches])
        if not unsent or any(reply != 1 for reply in replies):
            return
        last = unsent[-1].last
        if last > self.there:  # noqa: PLR1730 - as in _are_there, but the owner alone forgets them
            self.there = last
        self._are_sent(last)

    def _whole(self, batch: Batch) -> tuple[Any, ...]:
        name, keys, arguments = self._command(batch.first, batch)
        return ("EVAL", scripts.source(name), len(keys), *keys, *arguments)

    def _confirm(self, _handle: object) -> None:
        """Send again, in order, what may not have arrived: the numbers keep what has from being put twice.

        What the server refuses (it is out of memory) is left out, and the next put to this queue says so.
        """
        while self._unconfirmed or self._unsent:
            if self._unconfirmed:
                self._send_again(self._unconfirmed[0])
            else:
                self._close()
        self.sent = self.there = self.number  # at once with the look, as is the next line
        self.unsure = False

    def _send_again(self, batch: Batch) -> None:
        [(number, messages), *more] = self._pieces(batch)
        if more:
            self._split(batch)
            return
        try:
            outcome = self._channel.script(*self._command(number, messages))
        except (ReplyError, ServerError, ServerOutOfMemory) as refused:
            if not self._channel.is_open:  # the server was not asked: it may have it
                raise
            if len(batch) > 1:
                self._split(batch)
            else:
                self._leave_out(batch, refused)
            return
        if outcome == MISSING:
            raise lost(self._session)
        self._are_there(batch.last)
        if outcome == GONE:
            for message in messages:
                payload.discard(message, self._session)

    def _split(self, batch: Batch) -> None:
        """The first one alone: perhaps only that is refused, or only the others."""
        first, rest = Batch(batch[:1]), Batch(batch[1:])
        first.first = first.last = batch.first
        rest.first, rest.last = batch.first + 1, batch.last
        if self._unconfirmed and self._unconfirmed[0] is batch:  # from here on at once
            self._unconfirmed[0] = rest
            self._unconfirmed.appendleft(first)

    def _leave_out(self, batch: Batch, refused: Exception) -> None:
        """The numbers of those behind it are lower by one, so nobody else may be sending them."""
        with nullcontext() if self._sender is None else self._sender.lock:
            if self._sender is not None and self._seen() >= batch.last:  # that has sent it just now
                self._are_there(batch.last)
                return
            if self._unconfirmed and self._unconfirmed[0] is batch:  # from here on at once
                self._left_out += 1
                self._unconfirmed.popleft()
        self.refused = refused
        payload.discard(batch[0], self._session)

    def _seen(self) -> int:
        return int(self._channel.call("HGET", self._base + "seen", self._party) or 0) + self._left_out


class BoundedPuts:
    """Those into a queue with a bound: each waits for its reply, and for room."""

    __slots__ = ("_base", "_channel", "_maxsize", "_number", "_session", "_unsure")

    def __init__(self, session: Session, channel: Channel, base: str, maxsize: int) -> None:
        self._session, self._channel, self._base, self._maxsize = session, channel, base, maxsize
        self._number = 0
        self._unsure = False  # one was interrupted: it may have taken effect

    def put(self, message: bytes, timeout: float | None, _handle: object) -> bool:
        """Whether it is in; blocks for room `timeout` seconds at most (None: for ever)."""
        channel = self._channel
        if self._unsure:
            self._number = int(channel.call("HGET", self._base + "seen", channel.party) or 0)
            self._unsure = False
        self._number += 1
        try:
            if self._put_or_wait(message, timeout):
                return True
        except BaseException:
            self._unsure = True
            raise
        self._number -= 1
        return False

    def raise_refused(self) -> None:
        """There is none: the put itself has said so."""

    def _put_or_wait(self, message: bytes, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        channel = self._channel
        room = f"{self._base}room:{channel.party}"
        wait = timeout is None or timeout > 0
        while not self._put_once(message, wait):
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

    def _put_once(self, message: bytes, join_line: bool) -> bool:
        """Whether it is in. Raises SessionLostError as Puts does."""
        outcome = self._channel.script(
            "queue_put",
            (self._base,),
            (self._channel.party, self._number, self._maxsize, self._session.ttl_ms, int(join_line), message),
        )
        if outcome == MISSING:
            raise lost(self._session)
        return bool(outcome)


def lost(session: Session) -> SessionLostError:
    """What a server means that misses what a thread had put: that was confirmed, once and in order, so it has lost it."""
    session.check()  # who knows why, says it
    return SessionLostError("the server has lost what was put into this queue before.")
