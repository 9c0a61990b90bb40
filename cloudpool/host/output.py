"""What far processes print, from their pipes to the root's stdout and stderr: by whole lines, in order per process.

far process --pipe--> Source --letters--> Sink --> the stdout that the parent had when it started the process
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import zlib
from collections import deque
from contextlib import suppress

CHUNK = 65536
SAFE = select.PIPE_BUF  # a pipe that polls writable takes that much without blocking


COLOURS = (36, 33, 32, 35, 34, 31)


def labelled(data: bytes, label: str, is_terminal: bool) -> bytes:
    """Lines that begin with whose they are, in a colour of its own on a terminal."""
    prefix = f"{label} | "
    if is_terminal:
        colour = COLOURS[zlib.crc32(label.encode()) % len(COLOURS)]
        prefix = f"\033[{colour}m{label} |\033[0m "
    return b"".join(prefix.encode() + line for line in data.splitlines(keepends=True))


# By file: the sink that has written the first part of a long line there. Others wait: they are told when it can be written.
_in_a_line: dict[tuple[int, int], Sink] = {}


class Source:
    """The reading end of one process's stdout or stderr. Its agent polls `fd`."""

    def __init__(self, standard: int, fd: int) -> None:
        self.standard = standard
        self.fd = fd
        self.is_over = False
        self._partial = b""
        self._hurried = False
        self._left = 0  # once hurried: what the pipe can hold, and what its process has printed is no more

    def hurry(self) -> None:
        """Its process has ended: take what is there, and do not wait for whoever else has the pipe."""
        os.set_blocking(self.fd, False)
        self._hurried = True
        self._left = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)

    def read(self) -> bytes:
        """What has been printed, up to the last line's end; the rest comes with its own, or at the end."""
        pieces = [self._partial]
        while True:
            try:
                data = os.read(self.fd, CHUNK)
            except BlockingIOError:
                data = b""
            pieces.append(data)
            self._left -= len(data)
            if not data or (self._hurried and self._left <= 0):
                self.is_over = True
            if not self._hurried or self.is_over:
                break
        text = b"".join(pieces)
        if self.is_over:
            self._partial = b""
            return text
        end = text.rfind(b"\n") + 1 or (len(text) if len(text) >= CHUNK else 0)
        self._partial = text[end:]
        return text[:end]


class Sink:
    """A descriptor of the parent's that far output goes to, without ever blocking the agent that writes. Owned by it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.is_terminal = os.isatty(fd) and "NO_COLOR" not in os.environ
        self.size = 0  # bytes that are left to write
        self.is_watched = False  # by its agent: it becomes writable
        self._left: deque[bytes] = deque()
        mode = os.fstat(fd).st_mode
        self.is_polled = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)
        self._file = os.fstat(fd).st_dev, os.fstat(fd).st_ino

    def __bool__(self) -> bool:
        """Whether something is left to write."""
        return bool(self._left)

    def write(self, data: bytes) -> None:
        self._left.append(data)
        self.size += len(data)
        self.flush()

    def flush(self) -> None:
        """Write as much as can be written now."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while self._left and _in_a_line.get(self._file, self) is self:
            data = self._left[0]
            if self.is_polled:
                if not poll.poll(0):
                    return
                data = data[: data.rfind(b"\n", 0, SAFE) + 1 or SAFE]
            try:
                written = os.write(self.fd, data)
            except OSError:  # its reader is gone: nobody wants it
                self._left.clear()
                self.size = 0
                self._end_line()
                return
            self.size -= written
            if written < len(self._left[0]):
                self._left[0] = self._left[0][written:]
            else:
                self._left.popleft()
            if not self._left or data[:written].endswith(b"\n"):
                self._end_line()
            else:
                _in_a_line[self._file] = self

    def _end_line(self) -> None:
        if _in_a_line.get(self._file) is self:
            del _in_a_line[self._file]

    def close(self) -> None:
        self._end_line()
        with suppress(OSError):
            os.close(self.fd)
