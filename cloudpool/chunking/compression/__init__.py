"""Objects that are compressed as a whole: the records of the format inside, from front to back or from a place on.

A codec gives two flows of decompressed bytes: those of the compressed range that a piece has, and those after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol

from cloudpool.chunking.stores import Entry, Store

__all__ = ["Codec", "codec_of_name", "find_codec"]

BUILT_IN = {"gzip": "gzip:Gzip", "bgzip": "bgzip:Bgzip", "zstd": "zstd:Zstd"}
SUFFIXES = {"gz": "gzip", "tgz": "gzip", "bgz": "bgzip", "bgzf": "bgzip", "zst": "zstd", "zstd": "zstd"}
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class Codec(Protocol):
    def flows(
        self, store: Store, entry: Entry, start: int, stop: int
    ) -> tuple[Iterator[memoryview], Iterator[memoryview]]:
        """The decompressed bytes of what begins in [start, stop) of the object, and of what follows."""

    def cuts(self, store: Store, entry: Entry, size: int) -> tuple[Codec, list[int]] | None:
        """Compressed places to cut at, about `size` apart, 0 and the end left out, and the codec that knows them; None where it
        cannot be cut."""


def find_codec(name: str, index: bool) -> Codec:
    """A codec by its name. Raises ValueError for a name that is none."""
    if name not in BUILT_IN:
        raise ValueError(f"there is no compression {name!r}: choose one of {', '.join(BUILT_IN)}")
    module, _, attribute = BUILT_IN[name].partition(":")
    kind = getattr(import_module(f"cloudpool.chunking.compression.{module}"), attribute)
    codec: Codec = kind(index)
    return codec


def seen(data: Iterator[memoryview]) -> tuple[Iterator[memoryview], str | None]:
    """The same buffers, and the compression that the first of them begins with, if any."""
    first = next(data, memoryview(b""))
    found = next((name for magic, name in MAGIC.items() if bytes(first[: len(magic)]) == magic), None)

    def again() -> Iterator[memoryview]:
        if first:
            yield first
        yield from data

    return again(), found


def codec_of_name(key: str) -> str | None:
    return SUFFIXES.get(key.rpartition("/")[2].rpartition(".")[2].lower())
