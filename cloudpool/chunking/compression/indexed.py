"""gzip that is read from the middle, by an index: places in it, and for each the 32 KiB before it, which what follows refers to.

indexed_gzip makes the index, in one pass while planning, and reads with it. A partition carries the one point that it
begins at: the index's format (its zran.c) is a head, a row a point, and the points' windows.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from cloudpool.chunking.stores import Entry, Store
from cloudpool.chunking.stream import RandomAccess
from cloudpool.errors import FormatError, MissingExtraError

HEAD, ROW = struct.Struct("<7sQQIII"), struct.Struct("<QQBB")
SPACING_BYTES = 1 << 20  # of points that a reader makes for itself as it goes on, decompressed
BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Point:
    """A place where decompressing may begin."""

    compressed: int
    plain: int
    bits: int  # of the byte before it that are its as well
    window: bytes


class Indexed:
    """The points at which an object is cut, by their compressed places, and how long all is when decompressed."""

    def __init__(self, points: dict[int, Point], plain_size: int) -> None:
        self._points, self._plain_size = points, plain_size

    def at(self, start: int, stop: int) -> Indexed:
        """What a piece needs: its first point, and where the next one is."""
        some = {place: point for place, point in self._points.items() if place == start}
        if stop in self._points:
            some[stop] = Point(stop, self._points[stop].plain, 0, b"")
        return Indexed(some, self._plain_size)

    def flows(
        self, store: Store, entry: Entry, start: int, stop: int
    ) -> tuple[Iterator[memoryview], Iterator[memoryview]]:
        begin = self._points[start].plain if start else 0
        end = self._points[stop].plain if stop in self._points else self._plain_size
        reader = Reader(store, entry, self._index(entry, start), begin)
        return reader.until(end), reader.until(self._plain_size)

    def cuts(self, store: Store, entry: Entry, size: int) -> tuple[Indexed, list[int]]:
        return self, sorted(self._points)

    def _index(self, entry: Entry, start: int) -> bytes:
        """An index of one point, in the format of indexed_gzip."""
        if not start:
            return b""
        point = self._points[start]
        head = HEAD.pack(b"GZIDX\x01\x00", entry.size, self._plain_size, SPACING_BYTES, 32768, 1)
        return head + ROW.pack(point.compressed, point.plain, point.bits, 1) + point.window


class Reader:
    """One pass over the decompressed bytes, from a point on."""

    def __init__(self, store: Store, entry: Entry, index: bytes, begin: int) -> None:
        self._url, self._at, self._begin = store.url(entry.key), begin, begin
        raw = io.BufferedReader(RandomAccess(store, entry, 0, entry.size), BUFFER_BYTES)
        self._file = _library().IndexedGzipFile(fileobj=raw, buffer_size=BUFFER_BYTES, spacing=SPACING_BYTES)
        if index:
            self._file.import_index(fileobj=io.BytesIO(index))
            self._file.seek(begin)

    def until(self, end: int) -> Iterator[memoryview]:
        while self._at < end:
            try:
                made = self._file.read(min(BUFFER_BYTES, end - self._at))
            except (_library().ZranError, OSError, EOFError) as error:
                raise FormatError(f"{self._url} is broken as gzip: {error}") from error
            if not made:
                raise FormatError(
                    f"{self._url} is cut short: its gzip data end {end - self._at} bytes too early"
                )
            self._at += len(made)
            yield memoryview(made)


def indexed(store: Store, entry: Entry, size: int) -> tuple[Indexed, list[int]] | None:
    """Read a gzip object once; points some `size` compressed bytes apart. Raises FormatError, MissingExtraError."""
    raw = io.BufferedReader(RandomAccess(store, entry, 0, entry.size), BUFFER_BYTES)
    index = io.BytesIO()
    url = store.url(entry.key)
    try:
        with _library().IndexedGzipFile(fileobj=raw, spacing=max(64 << 10, min(size, SPACING_BYTES))) as file:
            file.build_full_index()
            file.export_index(fileobj=index)
    except (_library().ZranError, OSError, EOFError) as error:
        raise FormatError(f"{url} is broken as gzip, or cut short: {error}") from error
    data = index.getvalue()
    _, _, plain_size, _, window, count = HEAD.unpack_from(data)
    at = HEAD.size + count * ROW.size
    chosen: dict[int, Point] = {}
    target = size
    for n in range(count):
        compressed, plain, bits, has_window = ROW.unpack_from(data, HEAD.size + n * ROW.size)
        if has_window:
            if target <= compressed < entry.size:  # there is a point at the end, too
                chosen[compressed] = Point(compressed, plain, bits, data[at : at + window])
                target = compressed // size * size + size
            at += window
    return (Indexed(chosen, plain_size), sorted(chosen)) if chosen else None


class _Library(Protocol):
    IndexedGzipFile: Any
    ZranError: type[Exception]


def _library() -> _Library:
    try:
        import indexed_gzip
    except ImportError:
        raise MissingExtraError("gzip-index", "index=True for gzip") from None
    library: _Library = indexed_gzip
    return library
