"""How far the only reader of a queue has come in what it was given ahead: in memory that outlives it.

    a file in the session's folder, mapped by the reader:  batch | how many of it are got | whether it is recalled | reader

The batch itself stays in the server until the next one. So whoever needs the rest at the queue's head puts it there by
these numbers (queue_recall.lua): the agent when the reader has gone, and another thread before it reads the queue, or looks
at it. Between that thread and a living reader is a lock of the kernel's, which ends with its holder.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar
from weakref import WeakSet

_FIELDS = struct.Struct("=QQQ")
_BATCH, _GOT, _RECALLED = range(3)


def name(queue: str) -> str:
    return f"{queue}.ahead"


def path(folder: str, queue: str) -> str:
    return os.path.join(folder, name(queue))


class Record:
    """The reader's. Raises FileExistsError when the queue has, or had, another one."""

    __slots__ = ("__weakref__", "_fd", "_fields", "_map", "_messages", "_pid", "is_unsure")

    open_ones: ClassVar[WeakSet[Record]] = WeakSet()  # of this process

    def __init__(self, file: str, party: str) -> None:
        self._messages: Sequence[bytes] = ()
        self.is_unsure = False  # a batch was asked for, and what became of that is not known
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._pid = os.getpid()
        os.pwrite(self._fd, party.encode(), _FIELDS.size)
        self._map = mmap.mmap(self._fd, _FIELDS.size)
        self._fields = memoryview(self._map).cast("Q")
        Record.open_ones.add(self)

    def drop(self) -> None:
        """For a forked child: it is the parent's, whose lock should not wait for the child's end."""
        Record.open_ones.discard(self)
        self._fields.release()
        self._map.close()
        fd, self._fd = self._fd, -1
        os.close(fd)

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be made
            if self._fd >= 0 and self._pid == os.getpid():
                os.close(self._fd)

    def next(self) -> tuple[Sequence[bytes], int] | None:
        """The batch, and the place in it of the message that is next; None when nothing is left."""
        messages, got = self._messages, self._fields[_GOT]
        return (messages, got) if got < len(messages) and not self._fields[_RECALLED] else None

    def left(self) -> int:
        """How many messages of the batch have not been got."""
        found = self.next()
        return 0 if found is None else len(found[0]) - found[1]

    @property
    def is_recalled(self) -> bool:
        return bool(self._fields[_RECALLED])

    # What the lock is held for is not interrupted by a signal's handler, but where something is called: so what has been
    # looked at is still so when it is changed. To unlock what the handler's exception kept from being locked does no harm.

    def got(self, messages: Sequence[bytes], at: int) -> bool:
        """That message has been got. False when it is not for this reader any more: then it is not to have been read."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            fields = self._fields
            if fields[_RECALLED] or fields[_GOT] != at or self._messages is not messages:
                return False
            fields[_GOT] = at + 1
            return True
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def take(self, ask: Callable[[int], Sequence[bytes] | None]) -> bool:
        """Have the next batch, which `ask` gets by its number; the same one again should it be interrupted. False when it
        may not.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            fields = self._fields
            if fields[_RECALLED]:
                return False
            number = fields[_BATCH] + 1
            self.is_unsure = True
            messages = ask(number)
            if fields[_BATCH] >= number:  # a handler, which came in between, has it
                return True
            self.is_unsure = False
            if messages is None:
                return False
            # In this order: of a batch that is not noted here nothing is got.
            self._messages = messages
            fields[_GOT] = 0
            fields[_BATCH] = number
            return True
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)


def recall(file: str, put_back: Callable[[int, int], object]) -> None:
    """Have what is left put back by `put_back(batch, got)`, once however often it is called; from then on nothing of the
    queue is read ahead. Blocks while the reader is being given some.
    """
    try:
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        # First: should this be killed then, the reader does the rest.
        os.pwrite(fd, struct.pack("=Q", 1), 8 * _RECALLED)
        batch, got, _ = _read(fd)
        put_back(batch, got)
    finally:
        os.close(fd)


def left_by(file: str, process: str) -> tuple[int, int] | None:
    """Of a dead process: the batch that it had and how many of it it had got; None when it did not read this queue ahead."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        reader = os.pread(fd, 100, _FIELDS.size).decode()
        batch, got, _ = _read(fd)
    finally:
        os.close(fd)
    return (batch, got) if reader.startswith(f"{process}/") else None


def _read(fd: int) -> tuple[int, int, int]:
    """Of a reader that has not come to write anything: zeros."""
    fields: tuple[int, int, int] = _FIELDS.unpack(os.pread(fd, _FIELDS.size, 0).ljust(_FIELDS.size, b"\0"))
    return fields
