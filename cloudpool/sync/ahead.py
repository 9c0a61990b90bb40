"""A thread's reading of a queue: the only reader is given several items at once, one trip for all of them.

    get: the next of the batch, claimed in the record, host/ahead.py
         none left, and many wait: queue_ahead.lua moves the next ones from `items` to `ahead`

Another thread that reads the queue, or looks at it, says so to the server first, and then has what is left put back to
the head. From then on nothing is read ahead: so items go out in the order of the queue, to whoever asks first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from cloudpool.host import ahead
from cloudpool.host.ahead import Record
from cloudpool.store.channel import Channel

T = TypeVar("T")

MANY = 8  # items that wait before the only reader is given some ahead
BATCH_BYTES = 256 << 10
MOST_QUEUES = 32  # that a process reads ahead: a descriptor each


class Reading:
    """Made by a thread before it first reads or looks; then what another one was given ahead is back. Raises as Channel.call.

    One by one, until many wait; then ahead; then, for ever, one by one: once it is `_over`.
    """

    __slots__ = ("_base", "_file", "_is_shared", "_is_unsure", "_over", "_record", "waiting")

    def __init__(self, channel: Channel, base: str, file: str) -> None:
        self._base, self._file = base, file
        self._record: Record | None = None
        self._is_unsure = False  # a batch was asked for, and what became of that is not known
        self._is_shared = self._over = False
        self.waiting = 0  # items, when it last got one
        self._join(channel, channel.party)

    def share(self, channel: Channel) -> None:
        """Others may look at what waits from now on, without a word."""
        if not self._is_shared:
            self._join(channel, "")
            self._over = self._is_shared = True

    def _join(self, channel: Channel, party: str) -> None:
        channel.script("queue_reader", (self._base,), (party,))
        self._recall(
            channel
        )  # behind that: either the record is there, or who makes it hears that there are two

    def _recall(self, channel: Channel) -> None:
        ahead.recall(
            self._file, lambda batch, claimed: channel.script("queue_recall", (self._base,), (batch, claimed))
        )

    def next(
        self, channel: Channel, read: Callable[[bytes], T], done: Callable[[bytes], object]
    ) -> tuple[T] | None:
        """What `read` makes of the next item that it has ahead, which is got then, and given to `done`. Asks for more where
        many wait. None when there is none.
        """

        def is_ours(batch: int, at: int) -> bool:
            return int(channel.script("queue_recall", (self._base,), (batch, at))) > at

        record = self._record
        if record is not None and (got := record.next(read, done, is_ours)) is not None:
            return got
        if not self._has_more(channel):
            return None
        record = self._record
        return record.next(read, done, is_ours) if record is not None else None

    def _has_more(self, channel: Channel) -> bool:
        """Whether it has been given another batch."""
        if self._over or (self.waiting < MANY and not self._is_unsure):
            if self._record is not None and self._record.is_recalled:
                self._end(channel)
            return False
        if self._record is None and not self._begin(channel.party):
            return False
        record = self._record
        if record is None or record.is_recalled or not self._take(record, channel):
            self._end(channel)
            return False
        return True

    def _begin(self, party: str) -> bool:
        if len(Record.open_ones) >= MOST_QUEUES:
            return False
        try:
            record = Record(self._file, party)
        except OSError:  # there was another one; or there is no room, or no way: one by one, then
            self._over = self._record is None  # else a signal's handler has begun meanwhile
            return not self._over
        self._record = record
        return True

    def _take(self, record: Record, channel: Channel) -> bool:
        def ask(number: int) -> Sequence[bytes] | None:
            self._is_unsure = True
            answer: Any = channel.script("queue_ahead", (self._base,), (number, ahead.MOST, BATCH_BYTES))
            if answer is None:
                return None
            messages: list[bytes]
            self.waiting, *messages = answer
            return messages

        may = record.take(ask)
        self._is_unsure = False
        return may

    def _end(self, channel: Channel) -> None:
        self._recall(channel)  # who has begun that may have been killed
        record, self._record = self._record, None
        self._over = True
        if (
            record is not None and not record.has_had_any
        ):  # else it tells what is got, should this process be killed
            with suppress(FileNotFoundError):
                os.unlink(self._file)

    def size(self, channel: Channel) -> int:
        """How many items nobody has got, those included that it has ahead."""
        while True:
            if self._is_unsure:
                self._has_more(channel)
            record = self._record
            left = record.left if record is not None else 0
            waiting = int(channel.call("LLEN", self._base + "items"))
            if record is None or not record.is_recalled:
                return left + waiting
            self._end(channel)  # it was on its way back
