"""Shared memory by name, shared ctypes objects, and lists of fixed length."""

import ctypes
import multiprocessing as mp
import multiprocessing.shared_memory as shm
import struct
from multiprocessing import shared_memory, sharedctypes
from multiprocessing.sharedctypes import (
    RawArray,
    Synchronized,
    SynchronizedArray,
    SynchronizedString,
    copy,
    synchronized,
)
from multiprocessing.synchronize import Lock, RLock


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]
    x: float
    y: float


class Grid:
    """Rows of doubles in one block that processes attach to by its name."""

    def __init__(self, rows: int, columns: int, name: str | None = None) -> None:
        size = rows * columns * 8
        self.memory = shm.SharedMemory(name=name, create=name is None, size=size if name is None else 0)
        self.rows, self.columns = rows, columns

    def __getitem__(self, place: tuple[int, int]) -> float:
        row, column = place
        view = self.memory.buf
        assert view is not None
        value: float = struct.unpack_from("d", view, (row * self.columns + column) * 8)[0]
        return value

    def close(self, last: bool) -> None:
        self.memory.close()
        if last:
            self.memory.unlink()

    @property
    def name(self) -> str:
        return self.memory.name


def increase(
    number: "Synchronized[int]", amounts: "SynchronizedArray[float]", text: SynchronizedString
) -> None:
    with number.get_lock():
        number.value += 1
    with amounts:
        amounts[0] += 0.5
        part: list[float] = amounts[1:3]
        amounts[1:3] = part
    text.value = b"done"
    print(len(amounts), text.raw, number.get_obj().value)


def make(lock: Lock | RLock) -> None:
    count: Synchronized[int] = mp.Value(ctypes.c_int, 7)
    amounts: SynchronizedArray[float] = mp.Array(ctypes.c_double, [1.0, 2.0, 3.0], lock=lock)
    text = mp.Array(ctypes.c_char, 20)
    increase(count, amounts, text)
    point = sharedctypes.Value(Point, 1.0, 2.0, lock=False)
    point.x = point.y + 1
    again: Point = copy(point)
    wrapped = synchronized(ctypes.c_int(3))
    wrapped.value += int(again.x)
    raw = RawArray(ctypes.c_int, 4)
    raw[0] = 3
    number: int = raw[0]
    print(number, mp.Value("i", lock=False), mp.Array("i", 3)[0])


def listed() -> int:
    numbers: shared_memory.ShareableList[int] = shared_memory.ShareableList([1, 2, 3])
    attached: shared_memory.ShareableList[int] = shared_memory.ShareableList(name=numbers.shm.name)
    attached[0] = 10
    total = sum(numbers[place] for place in range(len(numbers)))
    numbers.shm.close()
    numbers.shm.unlink()
    return total + numbers.count(3) + attached.index(2)
