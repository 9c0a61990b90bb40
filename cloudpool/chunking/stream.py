"""An object's bytes in order, in buffers that are used again and again, or in bytes as they came.

One long request costs client and server least, so that is how a piece is read while its connection is fast: the kernel
reads ahead. Where each connection has a limit, as S3's have, several ranges are asked for side by side:

    requests --(8 MiB each, at most the window)--> blocks --> whoever reads, in order

What lies beyond a piece's end is needed for its last record alone, so it is asked for in small steps that grow.
"""

from __future__ import annotations

import errno
import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cloudpool.chunking.stores import Entry, Store, TransientError
from cloudpool.chunking.stores.retries import ENDED, Attempts, fill, wanted

WINDOW_BYTES = 16 << 20
BLOCK_BYTES = 8 << 20  # of several requests; measured: smaller ones lose to what each costs
BUFFER_BYTES = 1 << 20  # of a file: what fits the processor's cache
RECEIVE_BYTES = 256 << 10  # of one request: there are two of them, a processor's cache holds both
STEP_BYTES = 64 << 10  # the first step beyond an end
FAST_BYTES_S = 100 << 20  # of a connection: S3's have a limit somewhat below
GAIN = 1.3  # that several requests must bring: a slow network, or a busy machine, is no faster by them

_alone: dict[Store, float] = {}  # bytes/s by one request, as last measured
_together: dict[Store, float] = {}  # by several

Buffers = Iterator[memoryview]


def blocks(store: Store, entry: Entry, start: int, stop: int) -> Buffers:
    """The bytes [start, stop) of an object, in order. Each buffer is the caller's until it asks for the next one.

    Raises ObjectChangedError, ConnectionError, FileNotFoundError, PermissionError.
    """
    if getattr(store, "local", False):
        return _one_by_one(store, entry, start, stop, BUFFER_BYTES)
    if hasattr(store, "reply"):
        return _by_speed(store, entry, start, stop)
    if stop - start <= BLOCK_BYTES:
        return _one_by_one(store, entry, start, stop, BLOCK_BYTES)
    return _ahead(store, entry, start, stop)


def _by_speed(store: Store, entry: Entry, start: int, stop: int) -> Buffers:
    """By one request or by several: by whichever was faster, each tried once, and several only when one is slow."""
    if store not in _alone:
        first = min(stop, start + BLOCK_BYTES)
        yield from _at_once(store, entry, start, first)
        start = first
    alone = _alone.get(store, FAST_BYTES_S)
    if (
        stop - start > BLOCK_BYTES
        and alone < FAST_BYTES_S
        and _together.get(store, FAST_BYTES_S) > GAIN * alone
    ):
        yield from _ahead(store, entry, start, stop)
    else:
        yield from _at_once(store, entry, start, stop)


def _at_once(store: Any, entry: Entry, start: int, stop: int) -> Buffers:
    """By one request, and after a break by another from that byte on."""
    attempts = Attempts()
    count, waited_s = 0, 0.0
    while start < stop:
        try:
            with store.reply(entry, start, stop) as reply:
                while start < stop:
                    began = time.perf_counter()
                    data = reply.take(min(RECEIVE_BYTES, stop - start))
                    waited_s += time.perf_counter() - began
                    if not data:
                        raise TransientError(ENDED)
                    start += len(data)
                    count += len(data)
                    attempts.worked()
                    yield memoryview(data)
        except TransientError as error:
            attempts.failed(wanted(store, entry, start, stop), error)
    if count >= BLOCK_BYTES // 2:  # of less, what a request costs is the most
        _alone[store] = count / max(waited_s, 1e-6)


def _one_by_one(store: Store, entry: Entry, start: int, stop: int, size: int) -> Buffers:
    buffer = memoryview(bytearray(max(0, min(size, stop - start))))
    while start < stop:
        view = buffer[: min(size, stop - start)]
        fill(store, entry, start, view)
        yield view
        start += len(view)


def _ahead(store: Store, entry: Entry, start: int, stop: int) -> Buffers:
    """As blocks(), with as many requests under way as the window holds. Its threads end with it."""
    count, waited_s = stop - start, 0.0
    size = BLOCK_BYTES
    buffers = WINDOW_BYTES // size
    pending: deque[tuple[Future[None], memoryview]] = deque()
    free = [memoryview(bytearray(size)) for _ in range(min(buffers, -(-(stop - start) // size)))]
    pool = ThreadPoolExecutor(len(free), thread_name_prefix="cloudpool-read-ahead")
    try:
        while start < stop or pending:
            while free and start < stop:
                whole = free.pop()
                view = whole[: min(size, stop - start)]
                pending.append((pool.submit(fill, store, entry, start, view), view))
                start += len(view)
            future, view = pending.popleft()
            began = time.perf_counter()
            future.result()
            waited_s += time.perf_counter() - began
            yield view
            assert isinstance(view.obj, bytearray)
            free.append(memoryview(view.obj))
        _together[store] = count / max(waited_s, 1e-6)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def steps(store: Store, entry: Entry, start: int, first: int) -> Buffers:
    """The bytes from `start` to the object's end, in steps of which each is twice as long as the one before."""
    size = max(1, min(first, STEP_BYTES))
    while start < entry.size:
        size = min(size, entry.size - start, BLOCK_BYTES)
        if size > BUFFER_BYTES:
            yield from blocks(store, entry, start, start + size)
        else:  # read to its end before it is given: who then wants no more leaves a connection that can be used again
            yield from _one_by_one(store, entry, start, start + size, size)
        start += size
        size *= 2


class Flow(io.RawIOBase):
    """Buffers as a file: what a BufferedReader is made over. It is read from front to back; to go back, it begins again."""

    def __init__(self, make: Callable[[], Iterator[Any]], name: str) -> None:
        self._make = make
        self._buffers = make()
        self._rest = memoryview(b"")
        self._at = 0
        self._error: BaseException | None = None  # what ended the buffers: no end of the file
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer).cast("B")
        found = self._next(len(wanted))
        wanted[: len(found)] = found
        return len(found)

    def _next(self, most: int) -> memoryview:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        while not self._rest:
            if self._error is not None:
                raise self._error
            try:
                following = next(self._buffers, None)
            except BaseException as error:
                self._error = error
                raise
            if following is None:
                return memoryview(b"")
            self._rest = memoryview(following)
        found, self._rest = self._rest[:most], self._rest[most:]
        self._at += len(found)
        return found

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            if self._error is not None:
                self._again()
            while self._next(BLOCK_BYTES):
                pass
            offset += self._at
        if offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as a file does
        if offset < self._at or self._error is not None:
            self._again()
        while self._at < offset and self._next(offset - self._at):
            pass
        return self._at

    def _again(self) -> None:
        self._stop()
        self._buffers, self._at = self._make(), 0

    def _stop(self) -> None:
        self._rest, self._error = memoryview(b""), None
        ends: Callable[[], None] | None = getattr(self._buffers, "close", None)
        if ends is not None:
            ends()  # threads that read ahead

    def close(self) -> None:
        if not self.closed:
            self._stop()
        super().close()


class RandomAccess(io.RawIOBase):
    """The bytes [start, stop) of an object as a file that seeks. While it is read in order, each request is twice as long."""

    def __init__(self, store: Store, entry: Entry, start: int, stop: int) -> None:
        self._store, self._entry = store, entry
        self._start, self._size = start, stop - start
        self._at = 0
        self._ahead = b""  # fetched already, from place `_begin` on
        self._begin = 0
        self._step = 0
        self.name = store.url(entry.key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as a file does
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """All that is asked for, up to the end: pyarrow takes less for the end of the file."""
        wanted = memoryview(buffer).cast("B")
        wanted = wanted[: max(0, min(len(wanted), self._size - self._at))]
        begin, done = self._at, 0
        try:
            while done < len(wanted):
                done += self._some(wanted[done:])
        except BaseException:
            self._at = begin  # whoever asks again loses nothing
            raise
        return done

    def _some(self, wanted: memoryview) -> int:
        """The first of these bytes: from what is there already as many as there are, else all."""
        count = len(wanted)
        end = self._begin + len(self._ahead)
        if not self._begin <= self._at < end:
            self._step = min(2 * self._step, BLOCK_BYTES) if self._at == end else 0
            fetched = min(max(count, self._step), self._size - self._at)
            if fetched <= count:
                self._begin, self._ahead = self._at + count, b""
                self._step = max(self._step, count)
                return self._fetch(wanted)
            ahead = bytearray(fetched)
            self._fetch(memoryview(ahead))
            self._at -= len(ahead)
            self._begin, self._ahead = self._at, bytes(ahead)
        found = self._ahead[self._at - self._begin : self._at - self._begin + count]
        wanted[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _fetch(self, view: memoryview) -> int:
        done = 0
        begin = self._start + self._at
        for block in blocks(self._store, self._entry, begin, begin + len(view)):
            view[done : done + len(block)] = block
            done += len(block)
        self._at += done
        return done
