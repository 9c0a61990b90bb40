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
_MOST_PARTY = 100  # bytes

_SYSCALL = {"x86_64": 324, "aarch64": 283}  # membarrier's number
_BARRIER, _REGISTER = 1 << 1, 1 << 2  # global, expedited: for those that are registered

Left = tuple[str, int, int]  # of a record: its party, the batch that it has noted, how many of it are claimed


def file_name(queue: str) -> str:
    return f"{queue}.ahead"


def _membarrier(command: int) -> None:
    """Raises OSError where there is none."""
    number = _SYSCALL.get(os.uname().machine) if sys.platform == "linux" else None
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if ctypes.CDLL(None, use_errno=True).syscall(number, command, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"membarrier: {os.strerror(ctypes.get_errno())}")


class Record:
    """The reader's, a thread's. It is closed with its last reference; its file stays.

    Raises FileExistsError when the queue has, or had, another one; OSError when there is no room, or no memory barrier.
    """

    __slots__ = (
        "__weakref__",
        "_back",
        "_count",
        "_got",
        "_is_settled",
        "_map",
        "_messages",
        "_numbers",
        "party",
    )

    open_ones: ClassVar[WeakSet[Record]] = WeakSet()  # of this process

    def __init__(self, file: str, party: str) -> None:
        self.party = party
        self._messages: Sequence[bytes] = ()
        self._count = 0  # of those that are this reader's
        self._back: list[int] = []  # claimed, and not got: an interruption came before
        self._is_settled = False  # it was recalled, and the server has said how many are this reader's
        _membarrier(_REGISTER)
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, party.encode(), _PARTY)
            self._map = mmap.mmap(fd, _PARTY)
        except BaseException:
            os.unlink(file)
            raise
        finally:
            os.close(fd)
        self._numbers = memoryview(self._map)[: _NUMBERS.size].cast("Q")
        self._got = memoryview(self._map)[_NUMBERS.size :]
        Record.open_ones.add(self)

    def drop(self) -> None:
        """In a forked child, which may be in the middle of a get: what it does is not the parent's."""
        self._numbers = memoryview(bytearray(self._numbers)).cast("Q")
        self._got = memoryview(bytearray(self._got))

    @property
    def left(self) -> int:
        """How many items of the batch can still be got here."""
        return max(0, self._count - self._numbers[_CLAIMED]) + len(self._back)

    @property
    def batch(self) -> int:
        """The number of the last one, 0 before the first."""
        return self._numbers[_BATCH]

    @property
    def is_recalled(self) -> bool:
        """Whether some of what is left may be put back."""
        return bool(self._numbers[_RECALLED]) and not self._is_settled

    def settle(self, ask: Callable[[Left], int]) -> None:
        """It is recalled, or is to be: `ask` has the server put back what is not claimed, and says how many are this reader's."""
        self._numbers[_RECALLED] = 1
        if not self._is_settled:
            self._settle(ask, self._numbers[_CLAIMED])

    def _settle(self, ask: Callable[[Left], int], claimed: int) -> None:
        self._count = min(self._count, ask((self.party, self._numbers[_BATCH], claimed)))
        self._is_settled = True

    # A signal's handler, which may use the queue as well or raise, comes only where something is called: so what stands
    # between two calls is done whole or not at all.

    def get(
        self, read: Callable[[bytes], T], done: Callable[[bytes], object], ask: Callable[[Left], int]
    ) -> tuple[T] | None:
        """What `read` makes of the next item; None when there is none. When that ends, however it does, the item is got,
        and `done` is called with it. `ask` as for `settle`.
        """
        at, is_begun = -1, False
        try:
            if self._back:
                at = self._back[0]
                del self._back[0]
            elif self._numbers[_CLAIMED] < self._count:
                at = self._numbers[_CLAIMED]
                self._numbers[_CLAIMED] = at + 1
            else:
                return None
            message = self._messages[at]
            if self._numbers[_RECALLED] and not self._is_settled:
                self._settle(ask, at)
            if at >= self._count:
                at = -1
                return None
            is_begun = True
            return (read(message),)
        finally:
            if is_begun:
                self._got[at] = 1
                done(message)
            elif at >= 0:
                if self._numbers[_CLAIMED] == at + 1:
                    self._numbers[_CLAIMED] = at
                else:
                    self._back += [at]

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


def recall(file: str, put_back: Callable[[Left], object]) -> None:
    """Have what is not claimed put back by `put_back`, which bears repetition. From then on nothing more is claimed without
    asking the server.
    """
    if not os.path.exists(file):  # needs no descriptor: where there is none left, a get goes on
        return
    try:
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.pwrite(fd, struct.pack("=Q", 1), 8 * _RECALLED)
        # In the middle of a change of batches the first is the old one, and for that the server puts back all of the new one.
        batch, claimed = (_behind_barrier(fd, field) for field in (_BATCH, _CLAIMED))
        party = _party(fd)
    finally:
        os.close(fd)
    put_back((party, batch, claimed))


def left_by(file: str, process: str) -> tuple[int, str] | None:
    """Of a dead process: the batch that it had, and a "1" for each item of it that it had got. None when it did not read this
    queue ahead.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        head, party = os.pread(fd, _PARTY, 0), _party(fd)
    finally:
        os.close(fd)
    if not party.startswith(f"{process}/"):
        return None
    return int.from_bytes(head[:8], sys.byteorder), "".join(map(str, head[_NUMBERS.size :]))


def _behind_barrier(fd: int, field: int) -> int:
    _membarrier(_BARRIER)
    return int.from_bytes(os.pread(fd, 8, 8 * field), sys.byteorder)


def _party(fd: int) -> str:
    """Empty when the record's maker has not come to write it: then nothing was given to it either."""
    return os.pread(fd, _MOST_PARTY, _PARTY).decode()
