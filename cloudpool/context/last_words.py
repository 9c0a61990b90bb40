"""What a worker printed last, what it was at and what it had done: a little memory that outlives it.

    worker   sys.stdout.write, sys.stderr.write --> ring of the last lines      what it prints goes where it always went
             faulthandler ------------------------> report of a crash
             the task loop -----------------------> what it is at; results that are not sent yet
    parent   reads it when the worker has died

Only what Python code writes to sys.stdout and sys.stderr, as they are when the worker starts, is kept: not what C code,
or a program that the task starts, writes to the descriptors.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.context import get_spawning_popen
from typing import Any

# The memory: whether a function runs, which task and item, bytes printed, bytes of results, a ring of what was printed, the
# results, each behind its length; then the crash's report, which faulthandler writes as to a file.
_HEADER = struct.Struct("<?xH")  # and the length of what is said of the task
_COUNTS = struct.Struct("<QQ")  # the item, the bytes printed since the start
_AT, _ITEM, _PRINTED, _KEPT, _RING, _RESULTS, _REPORT = 4, 1000, 1008, 1016, 1024, 8192, 24576
_ROOM = _RESULTS - _RING
MOST_LINES, MOST_WIDTH = 10, 200
MOST_FRAMES = 8  # lines of a crash's report: its first ones are the innermost calls


class LastWords:
    """Made by the parent for one worker, which calls `listen`. Closed with its last reference; forks share it."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = os.memfd_create("cloudpool-last-words") if fd is None else fd
        if fd is None:
            os.ftruncate(self._fd, _REPORT)
        self._memory: mmap.mmap | None = None  # the worker's
        self._results_end = _RESULTS

    def __reduce__(self) -> tuple[Any, ...]:
        if getattr(get_spawning_popen(), "is_far", False):
            return _arrived, ()
        return _received, (reduction.DupFd(self._fd),)

    def __del__(self, close: Callable[[int], None] = os.close, suppress: Any = suppress) -> None:
        with suppress(AttributeError, OSError):  # not made, or closed by who closes all that is open
            close(self._fd)

    # -- the worker -------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Keep what this process prints from now on, and its report if it crashes."""
        self._memory = mmap.mmap(self._fd, _REPORT)
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):  # None, or a stream that takes no attributes
                stream.write = self._kept(stream.write)  # type: ignore[method-assign] # keeps the stream what it is
        if not faulthandler.is_enabled():  # else the user has it written elsewhere
            os.lseek(self._fd, _REPORT, os.SEEK_SET)
            faulthandler.enable(self._fd, all_threads=False)

    def begin(self, task: bytes, about: bytes = b"") -> None:
        """This task is in hand now; `about` says in words what it is. Until `reach`, none of its items runs."""
        assert self._memory is not None
        said = task + b" " + about[: _ITEM - _AT - len(task) - 1]
        self._memory[: _AT + len(said)] = _HEADER.pack(False, len(said)) + said

    def reach(self, item: int) -> None:
        """From here on its items run, this one first, or one of the few after it."""
        assert self._memory is not None
        self._memory[_ITEM:_PRINTED] = item.to_bytes(8, "little")
        self._memory[0] = 1

    def keep(self, result: bytes) -> bool:
        """This is the result of the task in hand, should the worker die before it is sent. False: there is no room for it."""
        memory, at = self._memory, self._results_end
        assert memory is not None
        end = at + 4 + len(result)
        if end > _REPORT:
            return False
        memory[at:end] = len(result).to_bytes(4, "little") + result
        self._results_end = end
        memory[_KEPT:_RING] = (end - _RESULTS).to_bytes(8, "little")
        return True

    def forget(self) -> None:
        """All results are sent."""
        if self._results_end > _RESULTS:
            assert self._memory is not None
            self._results_end = _RESULTS
            self._memory[_KEPT:_RING] = bytes(8)

    def _kept(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def keep_and_write(text: str, /) -> int:
            if isinstance(text, str):
                self._keep(text[-_ROOM:].encode(errors="replace")[-_ROOM:])
            return write(text)

        return keep_and_write

    def _keep(self, data: bytes) -> None:
        """Two threads that print at once may garble each other's lines here."""
        memory = self._memory
        assert memory is not None
        printed = int.from_bytes(memory[_PRINTED:_KEPT], "little")
        at = printed % _ROOM
        first = data[: _ROOM - at]
        memory[_RING + at : _RING + at + len(first)] = first
        if rest := data[len(first) :]:
            memory[_RING : _RING + len(rest)] = rest
        memory[_PRINTED:_KEPT] = (printed + len(data)).to_bytes(8, "little")

    def adopt(self, data: bytes) -> None:
        """These came from a far worker."""
        os.pwrite(self._fd, data, 0)

    # -- the parent, when the worker has died -----------------------------------------------------------------------

    def task(self) -> tuple[bytes, str]:
        """The last task that it had begun, and what was said of it."""
        _, length = _HEADER.unpack(os.pread(self._fd, _AT, 0))
        task, _, about = os.pread(self._fd, length, _AT).partition(b" ")
        return task, about.decode(errors="replace")

    def item(self) -> int | None:
        """What item of that task it had reached; None when it was still unpickling them."""
        is_running, _ = _HEADER.unpack(os.pread(self._fd, _AT, 0))
        return self._counts()[0] if is_running else None

    def results(self) -> list[bytes]:
        """What it had done and may not have sent."""
        kept = int.from_bytes(os.pread(self._fd, 8, _KEPT), "little")
        found, left = [], os.pread(self._fd, min(kept, _REPORT - _RESULTS), _RESULTS)
        while left:
            size = 4 + int.from_bytes(left[:4], "little")
            found.append(left[4:size])
            left = left[size:]
        return found

    def lines(self) -> tuple[str, ...]:
        """The last lines that it printed, then the beginning of its crash's report."""
        _, printed = self._counts()
        ring, at = os.pread(self._fd, _ROOM, _RING), printed % _ROOM
        text = ring[:at] if printed <= _ROOM else (ring[at:] + ring[:at]).partition(b"\n")[2]
        report = os.pread(self._fd, 4096, _REPORT)
        return (*_lines(text)[-MOST_LINES:], *_lines(report)[:MOST_FRAMES])

    def _counts(self) -> tuple[int, int]:
        counts: tuple[int, int] = _COUNTS.unpack(os.pread(self._fd, _COUNTS.size, _ITEM))
        return counts


def _lines(text: bytes) -> list[str]:
    return [line[:MOST_WIDTH] for line in text.decode(errors="replace").splitlines() if line.strip()]


_file: str | None = None  # of a process on a far host: its agent sends it home


def arrived(path: str) -> None:
    """Be a far process, whose last words go to this file."""
    global _file
    _file = path


def _arrived() -> LastWords:
    assert _file is not None
    fd = os.open(_file, os.O_RDWR | os.O_CLOEXEC)
    os.ftruncate(fd, _REPORT)
    return LastWords(fd)


def _received(duplicate: Any) -> LastWords:
    return LastWords(duplicate.detach())
