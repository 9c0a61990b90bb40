"""A thread's reading of a queue: the only reader is given several items at once, one trip for all of them.

    get: the next of the batch --> unpickle, then the record says one more, then it is returned
         none left, and many wait: queue_ahead.lua moves the next ones from `items` to `ahead`

Another thread that reads the queue, or looks at it, says so to the server first, and then has what is left put back to
the head. From then on nothing is read ahead: so items go out in the order of the queue, to whoever asks first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cloudpool.host.ahead import Record, recall
from cloudpool.store.channel import Channel

MANY = 8  # items that wait before the only reader is given some ahead
BATCH, BATCH_BYTES = 64, 256 << 10
MOST = 32  # queues that a process reads ahead: two descriptors each


class Reading:
    """Made by a thread before it first reads or looks; then what another one was given ahead is back. Raises as Channel.call."""

    __slots__ = ("_base", "_file", "_is_over", "_record", "waiting")

    def __init__(self, channel: Channel, base: str, file: str) -> None:
        self._base, self._file = base, file
        self._record: Record | None = None
        self._is_over = False
        self.waiting = 0  # items, when it last got one
        self._join(channel, channel.party)

    def share(self, channel: Channel) -> None:
        """Others may look at what waits from now on, without a word."""
        if not self._is_over:
            self._join(channel, "")
            self._is_over, self._record = True, None

    def _join(self, channel: Channel, party: str) -> None:
        channel.call("SADD", self._base + "readers", party)
        self._recall(
            channel
        )  # behind that: either the record is there, or who makes it hears that there are two

    def _recall(self, channel: Channel) -> None:
        recall(self._file, lambda batch, got: channel.script("queue_recall", (self._base,), (batch, got)))

    def next(self, channel: Channel) -> tuple[Record, Sequence[bytes], int] | None:
        """What it has ahead: the messages and which of them is next, for `Record.got`. Asks for more where many wait."""
        record = self._record
        if record is None:
            if self._is_over or self.waiting < MANY or (record := self._begin(channel.party)) is None:
                return None
        elif (found := record.next()) is not None:
            return record, *found
        if not record.is_recalled:
            if self.waiting < MANY and not record.is_unsure:
                return None
            if record.take(lambda number: self._ask(channel, number)):
                return self.next(channel)
        self._recall(channel)  # who has begun that may have been killed
        self._is_over, self._record = True, None
        with suppress(FileNotFoundError):
            os.unlink(self._file)  # nobody is given anything ahead while two read
        return None

    def left(self, channel: Channel) -> int:
        """How many items it has ahead."""
        if self._record is None:
            return 0
        if self._record.is_unsure:
            self.next(channel)
        return self._record.left() if self._record is not None else 0

    def _ask(self, channel: Channel, number: int) -> Sequence[bytes] | None:
        answer: Any = channel.script("queue_ahead", (self._base,), (number, BATCH, BATCH_BYTES))
        if answer is None:
            return None
        messages: list[bytes]
        self.waiting, *messages = answer
        return messages

    def _begin(self, party: str) -> Record | None:
        if len(Record.open_ones) < MOST:
            try:
                self._record = Record(self._file, party)
            except OSError:  # there was another one; or there is no room: one by one, then
                self._is_over = True
        return self._record
