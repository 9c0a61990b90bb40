"""bgzip (BGZF): gzip in blocks of at most 64 KiB, each of which says how long it is. Cut anywhere, unread.

A reader looks for the first block after its start. What looks like a block there may be the data of one (a bgzip file in a
bgzip file, stored as it is), but a block within a block has no room for 64 KiB of blocks behind it: so that is what it checks.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from itertools import chain

from cloudpool.chunking.compression import Codec
from cloudpool.chunking.stores import Entry, Store
from cloudpool.chunking.stores.retries import fill
from cloudpool.chunking.stream import Flow, blocks, steps
from cloudpool.errors import FormatError

MAGIC = b"\x1f\x8b\x08\x04"
MOST_BYTES = 1 << 16  # of a block
BUFFER_BYTES = 1 << 20
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class Bgzip:
    """Needs no index."""

    def __init__(self, index: bool = False) -> None: ...

    def flows(
        self, store: Store, entry: Entry, start: int, stop: int
    ) -> tuple[Iterator[memoryview], Iterator[memoryview]]:
        reader = Reader(store, entry, *(first_block(store, entry, start) if start else (0, b"")), stop)
        return reader.until(stop), reader.until(entry.size)

    def cuts(self, store: Store, entry: Entry, size: int) -> tuple[Codec, list[int]]:
        return self, list(range(size, entry.size, size))


class Reader:
    """Blocks, one after the other, decompressed."""

    def __init__(self, store: Store, entry: Entry, start: int, begun: bytes, stop: int) -> None:
        """`begun`: the bytes from `start` on that are here already."""
        self._url, self._at, self._size = store.url(entry.key), start, entry.size
        here = start + len(begun)
        far = max(here, stop)
        first = (stop - start) // 64

        def flow() -> Iterator[bytes | memoryview]:
            return chain(
                [begun] * bool(begun), blocks(store, entry, here, far), steps(store, entry, far, first)
            )

        self._file = io.BufferedReader(Flow(flow, self._url), BUFFER_BYTES)

    def until(self, stop: int) -> Iterator[memoryview]:
        """The blocks that begin before `stop`. Raises FormatError."""
        data = END
        while self._at < stop:
            data = self._file.read(18)
            size = block_size(data, 0)
            if size is None:
                raise FormatError(
                    f"{self._url}, byte {self._at}: there is no bgzip block here: {data[:4].hex()}"
                )
            data += self._file.read(size - len(data))
            plain = inflated(data) if len(data) == size else None
            if plain is None:
                what = "is broken" if len(data) == size else "is cut short"
                raise FormatError(
                    f"{self._url}, bytes {self._at} to {self._at + size}: this bgzip block {what}"
                )
            self._at += size
            if plain:
                yield memoryview(plain)
        if self._at >= self._size and data != END:
            raise FormatError(
                f"{self._url} lacks bgzip's end mark: it was cut short, or written by something else; "
                f'compression="gzip" reads it as it is'
            )


def block_size(data: bytes, at: int) -> int | None:
    """Bytes of the block that begins there; None when none does. The size is always the first extra field."""
    head = data[at : at + 18]
    if len(head) < 18 or head[:4] != MAGIC or head[12:16] != b"BC\x02\x00":
        return None
    size = int.from_bytes(head[16:18], "little") + 1
    return size if size >= 12 + int.from_bytes(head[10:12], "little") + 8 else None


def inflated(block: bytes) -> bytes | None:
    """What is in a block; None when its check sum says that it is none."""
    body = 12 + int.from_bytes(block[10:12], "little")
    inflater = zlib.decompressobj(-15)
    try:
        plain = inflater.decompress(block[body:-8], MOST_BYTES + 1)
    except zlib.error:
        return None
    check, length = int.from_bytes(block[-8:-4], "little"), int.from_bytes(block[-4:], "little")
    return plain if inflater.eof and len(plain) == length and zlib.crc32(plain) == check else None


def first_block(store: Store, entry: Entry, start: int) -> tuple[int, bytes]:
    """Where the first block at `start` or after it begins, and what was read from there on. Raises FormatError."""
    data = bytes(_some(store, entry, start, 4 * MOST_BYTES))
    end = start + len(data) == entry.size
    at = data.find(MAGIC)
    while 0 <= at < MOST_BYTES:
        if _is_chain(data, at, end):
            return start + at, data[at:]
        at = data.find(MAGIC, at + 1)
    if end and len(data) < MOST_BYTES:
        return entry.size, b""  # within the last block
    raise FormatError(
        f"{store.url(entry.key)}, bytes {start} to {start + MOST_BYTES}: no bgzip block begins here"
    )


def _is_chain(data: bytes, at: int, end: bool) -> bool:
    """Whether blocks that are whole follow each other, further than a block could hold, or to the end."""
    far = at + MOST_BYTES
    while at <= far:
        if at == len(data):
            return end
        size = block_size(data, at)
        if size is None or at + size > len(data) or inflated(data[at : at + size]) is None:
            return False
        at += size
    return True


def _some(store: Store, entry: Entry, start: int, most: int) -> bytearray:
    data = bytearray(min(most, entry.size - start))
    fill(store, entry, start, memoryview(data))
    return data
