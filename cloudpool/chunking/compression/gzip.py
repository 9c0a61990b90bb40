"""gzip: from front to back, all of its members."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from cloudpool.chunking.compression import Codec
from cloudpool.chunking.stores import Entry, Store
from cloudpool.chunking.stream import blocks
from cloudpool.errors import FormatError

SLICE_BYTES = 64 << 10  # compressed at a time: what is left of it is copied at the end of each member
PIECE_BYTES = 1 << 20  # decompressed at a time: what few bytes swell to is not in memory at once


class Gzip:
    """Not to be cut, since what a byte means depends on all before it; but for an index of what was before."""

    def __init__(self, index: bool = False) -> None:
        self._index = index

    def flows(
        self, store: Store, entry: Entry, start: int, stop: int
    ) -> tuple[Iterator[memoryview], Iterator[memoryview]]:
        return members(blocks(store, entry, 0, entry.size), store.url(entry.key)), iter(())

    def cuts(self, store: Store, entry: Entry, size: int) -> tuple[Codec, list[int]] | None:
        if not self._index:
            return None
        from cloudpool.chunking.compression.indexed import indexed

        return indexed(store, entry, size)


def members(data: Iterator[memoryview], url: str) -> Iterator[memoryview]:
    """Members one behind the other are decompressed as one file, zeros after them left out: as the gzip module does.

    Raises FormatError for what is no gzip, is broken, or ends early.
    """
    inflater = None
    ended = False  # at least one member has
    at = 0
    for block in (whole[n : n + SLICE_BYTES] for whole in data for n in range(0, len(whole), SLICE_BYTES)):
        rest: bytes | memoryview = block
        full = False  # there is more of what has been taken in
        while rest or full:
            if inflater is None:
                rest = bytes(rest).lstrip(b"\0") if ended else rest
                if not rest:
                    break
                inflater = zlib.decompressobj(31)
            try:
                made = inflater.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise FormatError(f"{url} is broken as gzip, near byte {at} of it: {error}") from None
            full = len(made) == PIECE_BYTES and not inflater.eof
            if made:
                yield memoryview(made)
            if inflater.eof:
                rest, inflater, ended = inflater.unused_data, None, True
            else:
                rest = inflater.unconsumed_tail
        at += len(block)
    if inflater is not None:
        # What it still holds is little, and comes before the missing end.
        raise FormatError(
            f"{url} is cut short: its gzip data go on after its last byte, {at}; fetch or write it again"
        )
