"""What the only reader of a queue has been given ahead, in memory that outlives it and that others see.

    record (a file in the session's folder, which the reader maps):  batch | claimed | recalled | which are got | its party

The batch itself stays in the server until the next one. The reader claims its items one by one, in the record alone. Who
else needs them writes `recalled`, looks how many are claimed, and has the server put the others back (queue_recall.lua).

    reader:  claimed += 1     then look at `recalled`: who claimed is not recalled, has the item;
    other:   recalled = 1     then look at `claimed`   who is, asks the server which were put back: the first to ask says

Nobody waits for anybody, so one that is stopped or killed between any two of these keeps nobody from going on. Each must
see the other's write if its own came too late, which a processor does not promise: so `other` has the kernel put a memory
barrier between the two of both (membarrier(2)), and the reader, who is to be fast, does nothing for it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar
from weakref import WeakSet

T = TypeVar("T")

MOST = 64  # items of a batch
_NUMBERS = struct.Struct("=QQQ")
_BATCH, _CLAIMED, _RECALLED = range(3)
_PARTY = _NUMBERS.size + MOST  # where it stands

_SYSCALL = {"x86_64": 324, "aarch64": 283}  # membarrier's number
_BARRIER, _REGISTER = 1 << 1, 1 << 2  # global, expedited: for those that are registered


def name(queue: str) -> str:
    """The file's."""
    return f"{queue}.ahead"


def _membarrier(command: int) -> None:
    """Raises OSError where there is none."""
    number = _SYSCALL.get(os.uname().machine) if sys.platform == "linux" else None
    if number is None or ctypes.CDLL(None).syscall(number, command, 0, 0) != 0:
        raise OSError(errno.ENOSYS, "the kernel has no membarrier(2) for this process")


class Record:
    """The reader's, a thread's. It is closed with its last reference.

    Raises FileExistsError when the queue has, or had, another one; OSError when there is no room, or no memory barrier.
    """

    __slots__ = ("__weakref__", "_count", "_got", "_map", "_messages", "_numbers")

    open_ones: ClassVar[WeakSet[Record]] = WeakSet()  # of this process

    def __init__(self, file: str, party: str) -> None:
        self._messages: Sequence[bytes] = ()
        self._count = 0
        _membarrier(_REGISTER)
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, party.encode(), _PARTY)
            self._map = mmap.mmap(fd, _PARTY)
        finally:
            os.close(fd)
        self._numbers = memoryview(self._map)[: _NUMBERS.size].cast("Q")
        self._got = memoryview(self._map)[_NUMBERS.size :]
        Record.open_ones.add(self)

    @property
    def left(self) -> int:
        """How many items of the batch are not claimed."""
        return self._count - self._numbers[_CLAIMED]

    @property
    def has_had_any(self) -> bool:
        return self._numbers[_BATCH] > 0

    @property
    def is_recalled(self) -> bool:
        return bool(self._numbers[_RECALLED])

    # A signal's handler, which may use the queue as well or raise, comes only where something is called: so what stands
    # between two calls is done whole or not at all.

    def next(
        self, read: Callable[[bytes], T], done: Callable[[bytes], object], is_ours: Callable[[int, int], bool]
    ) -> tuple[T] | None:
        """What `read` makes of the next item; None when there is none. When that ends, however it does, the item is got,
        and `done` is called with it.

        When the batch is recalled, `is_ours(batch, at)` asks the server whether the item was put back.
        """
        numbers, at, is_read = self._numbers, -1, False
        try:
            if numbers[_CLAIMED] >= self._count:
                return None
            at = numbers[_CLAIMED]
            message = self._messages[at]
            numbers[_CLAIMED] = at + 1
            if numbers[_RECALLED] and not is_ours(numbers[_BATCH], at):
                return None
            is_read = True
            return (read(message),)
        finally:
            if is_read:
                self._got[at] = 1
                done(message)
            elif at >= 0 and numbers[_CLAIMED] == at + 1:
                numbers[_CLAIMED] = at

    def take(self, ask: Callable[[int], Sequence[bytes] | None]) -> bool:
        """Have the next batch, which `ask` gets by its number: asked again after an interruption, the same. False when it may
        not. While an item of the last one is being read, none is asked for: the server keeps one batch.
        """
        numbers = self._numbers
        if self._got.tobytes()[: self._count].count(1) < self._count:
            return True
        if numbers[_CLAIMED] < self._count:  # a handler has been given one since
            return True
        number = numbers[_BATCH] + 1
        messages = ask(number)
        if messages is None:
            return False
        size, none_got = len(messages), bytes(MOST)
        if numbers[_BATCH] < number:  # else a handler has it
            self._got[:] = none_got
            self._messages = messages
            self._count = size
            numbers[_CLAIMED] = 0
            numbers[_BATCH] = number  # last: of a batch that is not noted nothing is got
        return True


def recall(file: str, put_back: Callable[[int, int], object]) -> None:
    """Have what is not claimed put back by `put_back(batch, claimed)`, which bears repetition. From then on nothing more is
    claimed.
    """
    if not os.path.exists(file):  # needs no descriptor: where there is none left, a get goes on
        return
    try:
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.pwrite(fd, struct.pack("=Q", 1), 8 * _RECALLED)
        seen = b""
        while seen != (seen := _head(fd)):  # twice the same: not in the middle of a change
            _membarrier(_BARRIER)
        batch, claimed, _ = _NUMBERS.unpack_from(seen)
    finally:
        os.close(fd)
    put_back(batch, claimed)


def left_by(file: str, process: str) -> tuple[int, str] | None:
    """Of a dead process: the batch that it had, and a "1" for each item of it that it had got. None when it did not read this
    queue ahead.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        head, party = _head(fd), os.pread(fd, 100, _PARTY).decode()
    finally:
        os.close(fd)
    if not party.startswith(f"{process}/"):
        return None
    return int.from_bytes(head[:8], sys.byteorder), "".join(map(str, head[_NUMBERS.size :]))


def _head(fd: int) -> bytes:
    """Of a reader that has not come to write anything: zeros."""
    return os.pread(fd, _PARTY, 0).ljust(_PARTY, b"\0")
