"""Bytes as they are, in buffers of up to 1 MiB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudpool.chunking.formats import Format

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition

BUFFER_BYTES = 1 << 20


class Bytes(Format):
    """Cut anywhere when a size is asked for; an object is one piece otherwise, since nobody knows what is in it."""

    piece_bytes = None
    text = False

    def boundary(self, data: bytearray, at_end: bool) -> int:
        return 0

    @property
    def anywhere(self) -> bool:
        return type(self).boundary is Bytes.boundary

    def read(self, part: Partition) -> Iterator[bytes]:
        for buffer in part.buffers():
            whole = buffer.obj
            if type(whole) is bytes and len(whole) == len(buffer) <= BUFFER_BYTES:
                yield whole
            else:
                for at in range(0, len(buffer), BUFFER_BYTES):
                    yield bytes(buffer[at : at + BUFFER_BYTES])
