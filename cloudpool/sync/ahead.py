"""A thread's reading of a queue: the only reader is given several items at once, one trip for all of them.

    get: the next of the batch, claimed in the record, host/ahead.py
         none left, and many wait: queue_ahead.lua moves the next ones from `items` to `ahead`

Another thread that reads the queue, or looks at it, says so to the server first, and then has what is left put back to
the head. From then on nothing is read ahead: so items go out in the order of the queue, to whoever asks first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from cloudpool.host import ahead
from cloudpool.host.ahead import Record
from cloudpool.store.channel import Channel

T = TypeVar("T")

MANY = 8  # items that wait before the only reader is given some ahead for the first time: it costs a file
BATCH_BYTES = 256 << 10
MOST_QUEUES = 32  # that a process reads ahead: a descriptor each


class Reading:
    """Made by a thread before it first reads or looks; then what another one was given ahead is back. Raises as Channel.call.

    One by one, until many wait; then ahead; then, for ever, one by one: once it is `_over`. A thread that has ever looked at a
    queue, for its size say, counts as one that reads it until its process ends.
    """

    __slots__ = ("_base", "_file", "_is_shared", "_is_unsure", "_ones", "_over", "_record", "waiting")

    def __init__(self, channel: Channel, base: str, file: str) -> None:
        self._base, self._file = base, file
        self._record: Record | None = None
        self._is_unsure = False  # a batch was asked for, and what became of that is not known
        self._is_shared = self._over = False
        self._ones = 0  # gets of one item, and looks, under way
        self.waiting = 0  # items, as far as it knows
        self._join(channel, channel.party)

    def share(self, channel: Channel) -> None:
        """Others may look at what waits from now on, without a word."""
        if not self._is_shared:
            self._join(channel, "")
            if self._record is not None:
                self._end(self._record, channel)
            self._over = self._is_shared = True

    def _join(self, channel: Channel, party: str) -> None:
        channel.call("SADD", self._base + "readers", party)
        # Behind that: either the record is there, or who makes it hears that there are two.
        ahead.recall(self._file, lambda left: self._put_back(channel, left))

    def _put_back(self, channel: Channel, left: ahead.Left) -> int:
        return int(channel.script("queue_recall", (self._base,), left))

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Meanwhile no batch is taken, by a signal's handler: it would be behind what this gets or sees."""
        try:
            self._ones += 1
            yield
        finally:
            self._ones -= 1

    def get(
        self, channel: Channel, read: Callable[[bytes], T], done: Callable[[bytes], object]
    ) -> tuple[T] | None:
        """What `read` makes of the next item that it has ahead, which is got then, and given to `done`. Asks for more where
        many wait, but not within `one_by_one`. None when there is none.
        """
        while True:
            record = self._record
            if record is not None:
                got = record.get(read, done, lambda left: self._put_back(channel, left))
                if got is not None:
                    return got
                if record.is_recalled:
                    self._end(record, channel)
                elif self._over:
                    self._record = None
            if not self._has_more(channel):
                return None

    def _has_more(self, channel: Channel) -> bool:
        """Whether it has any, which it may have been given just now."""
        if self._record is not None and self._record.left:
            return True
        enough = MANY if self._record is None else 1
        if self._over or self._ones or (self.waiting < enough and not self._is_unsure):
            return False
        if self._record is None:
            self._begin(channel.party)
        record = self._record
        if record is None:
            return False
        if not self._take(record, channel):
            self._end(record, channel)
            if record.batch == 0:  # nothing was given to it, and nothing is: see queue_ahead.lua
                with suppress(FileNotFoundError):
                    os.unlink(self._file)
        return record.left > 0

    def _begin(self, party: str) -> None:
        if len(Record.open_ones) >= MOST_QUEUES:
            return
        try:
            record = Record(self._file, party)
        except OSError:  # there was another one; or there is no room, or no way: one by one, then
            self._over = self._record is None  # else a signal's handler has begun meanwhile
            return
        self._record = record

    def _take(self, record: Record, channel: Channel) -> bool:
        def ask(number: int) -> Sequence[bytes] | None:
            self._is_unsure = True
            arguments = (record.party, number, ahead.MOST, BATCH_BYTES)
            answer: Any = channel.script("queue_ahead", (self._base,), arguments)
            if answer is None:
                return None
            messages: list[bytes]
            self.waiting, *messages = answer
            self.waiting += len(messages)  # as many may have come when these are got
            return messages

        may = record.take(ask)
        self._is_unsure = False
        return may

    def _end(self, record: Record, channel: Channel) -> None:
        """Nothing more is read ahead, but what is this thread's by now."""
        record.settle(lambda left: self._put_back(channel, left))
        self._over = True
        self._is_unsure = False

    def size(self, channel: Channel) -> int:
        """How many items nobody has got, those included that it has ahead."""
        if self._is_unsure:
            self._has_more(channel)
        with self.one_by_one():
            while True:
                record = self._record
                left = record.left if record is not None else 0
                waiting = int(channel.call("LLEN", self._base + "items"))
                if record is None or not record.is_recalled:
                    return left + waiting
                self._end(record, channel)  # some were on their way back
