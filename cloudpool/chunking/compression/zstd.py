"""zstd: from front to back, or from frame to frame where a seek table, or `index=True`, says where frames begin."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from cloudpool.chunking.compression import Codec
from cloudpool.chunking.stores import Entry, Store
from cloudpool.chunking.stores.retries import fill
from cloudpool.chunking.stream import RandomAccess, blocks, steps
from cloudpool.errors import FormatError, MissingExtraError

FRAME, SKIPPABLE = 0xFD2FB528, 0x184D2A50
SEEK_TABLE, SEEK_MAGIC = 0x184D2A5E, 0x8F92EAB1
SLICE_BYTES = 64 << 10
MADE_BYTES = 256 << 10  # decompressed at a time: what few bytes swell to is not in memory at once


class Zstd:
    def __init__(self, index: bool = False) -> None:
        self._index = index

    def flows(
        self, store: Store, entry: Entry, start: int, stop: int
    ) -> tuple[Iterator[memoryview], Iterator[memoryview]]:
        own = frames(blocks(store, entry, start, stop), store.url(entry.key))
        return own, frames(steps(store, entry, stop, (stop - start) // 64), store.url(entry.key))

    def cuts(self, store: Store, entry: Entry, size: int) -> tuple[Codec, list[int]] | None:
        """Starts of frames. The seek table is that of zstd's "seekable format"."""
        found = seek_table(store, entry)
        if found is None and self._index:
            found = list(walked(store, entry))
        if found is None:
            return None
        chosen: list[int] = []
        target = size
        for begin in found:
            if target <= begin < entry.size:
                chosen.append(begin)
                target = begin // size * size + size
        return self, chosen


def frames(data: Iterator[memoryview], url: str) -> Iterator[memoryview]:
    """Decompress frames one behind the other. Raises FormatError for what is none, is broken, or ends early."""
    source = Slices(data)
    reader = _library().ZstdDecompressor().stream_reader(source, read_across_frames=True)
    last = b""  # what may be the mark
    while True:
        try:
            made = reader.read1(MADE_BYTES)  # no more of the source than gives anything
        except _library().ZstdError as error:
            if source.marked:
                break
            raise FormatError(f"{url} is broken as zstd, near byte {source.at} of it: {error}") from None
        if not made:
            break
        made = last + made
        last = made[-len(source.mark) :]
        if len(made) > len(last):
            yield memoryview(made)[: -len(last)]
    if last != source.mark:
        raise FormatError(
            f"{url} is broken as zstd, or cut short: its last frame does not end with its last byte; fetch or write it again"
        )


class Slices:
    """Buffers as the file that a stream_reader takes, and behind them a frame of random bytes, the mark.

    The reader says nothing of data that end within a frame. Then the mark does not come out: its frame is taken for the rest.
    """

    def __init__(self, data: Iterator[memoryview]) -> None:
        self._slices = (
            block[n : n + SLICE_BYTES] for block in data for n in range(0, len(block), SLICE_BYTES)
        )
        self.mark = os.urandom(16) * 64  # repeated, so that its frame, copied as it is, is not the mark
        frame = _library().ZstdCompressor().compress(self.mark)
        self._frame = [frame[:1], frame[1:]]  # whole, it would be taken for a frame after a torn header, too
        self.marked = False
        self.at = 0

    def read(self, size: int) -> bytes:
        """What comes next, however much the reader asks for."""
        found = next(self._slices, None)
        if found is not None:
            self.at += len(found)
            return bytes(found)
        self.marked = True
        return self._frame.pop(0) if self._frame else b""


def _library() -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("zstd", "Reading zstd") from None
    return zstandard


def seek_table(store: Store, entry: Entry) -> list[int] | None:
    """Where frames begin, by the table at the object's end; None when it has none."""
    if entry.size < 17:
        return None
    foot = bytearray(9)
    fill(store, entry, entry.size - 9, memoryview(foot))
    if int.from_bytes(foot[5:], "little") != SEEK_MAGIC:
        return None
    count, width = int.from_bytes(foot[:4], "little"), 12 if foot[4] & 0x80 else 8
    length = 8 + count * width + 9
    if length > entry.size:
        return None
    table = bytearray(length)
    fill(store, entry, entry.size - length, memoryview(table))
    sizes = [int.from_bytes(table[n : n + 4], "little") for n in range(8, 8 + count * width, width)]
    begins = list(accumulate(sizes, initial=0))
    if int.from_bytes(table[:4], "little") != SEEK_TABLE or begins[-1] + length != entry.size:
        return None
    return begins[:-1]


def walked(store: Store, entry: Entry) -> Iterator[int]:
    """Where frames begin, by walking through the headers of their blocks (RFC 8878)."""
    file = io.BufferedReader(RandomAccess(store, entry, 0, entry.size), 1 << 20)
    at = 0
    while at < entry.size:
        yield at
        file.seek(at)
        magic = int.from_bytes(file.read(4), "little")
        if magic & ~0xF == SKIPPABLE:
            at += 8 + int.from_bytes(file.read(4), "little")
            continue
        if magic != FRAME:
            raise FormatError(f"{store.url(entry.key)}, byte {at}: no zstd frame begins here")
        flags = file.read(1)[0]
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        last = 0
        while not last:
            file.seek(at)
            head = file.read(3)
            if len(head) < 3:
                raise FormatError(f"{store.url(entry.key)} is cut short in a zstd frame, at byte {at}")
            said = int.from_bytes(head, "little")
            last = said & 1
            at += 3 + (1 if said >> 1 & 3 == 1 else said >> 3)
        at += 4 * (flags >> 2 & 1)
