"""Records that end with any byte string, which they keep."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudpool.chunking.formats import Format

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition

READ_BYTES = 1 << 20


class Delimited(Format):
    """`format=delimited(b"\\0")`. A delimiter that may overlap itself, such as b"aa", depends on all that is before, so an
    object of such is one piece."""

    text = False

    def __init__(self, delimiter: bytes) -> None:
        if not isinstance(delimiter, bytes | bytearray) or not delimiter:
            raise ValueError(f"a delimiter is one byte or more, not {delimiter!r}")
        self.delimiter = self.separator = bytes(delimiter)
        self.splits = not any(
            self.delimiter.startswith(self.delimiter[-n:]) for n in range(1, len(self.delimiter))
        )

    def records(self, part: Partition, file: io.BufferedReader) -> Iterator[bytes]:
        begun: list[
            bytes
        ] = []  # of a record that goes on, but for its last bytes, which may begin a delimiter
        rest = b""
        keep = len(self.delimiter) - 1
        while data := file.read1(READ_BYTES):
            *whole, rest = (rest + data).split(self.delimiter)
            for record in whole:
                yield b"".join((*begun, record, self.delimiter)) if begun else record + self.delimiter
                begun.clear()
            cut = max(0, len(rest) - keep)  # so that what is searched again is short, however long the record
            begun.append(rest[:cut])
            rest = rest[cut:]
        if last := b"".join(begun) + rest:
            yield last


delimited = Delimited
