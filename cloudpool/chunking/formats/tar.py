"""tar: its members. There is no directory, so an archive that is to be cut is walked through, header by header, while planning."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudpool.chunking.formats import Format
from cloudpool.chunking.formats.member import Member
from cloudpool.errors import FormatError

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition


class Tar(Format):
    """Files only: folders, links and devices are left out."""

    joins = False
    splits = False
    scans = True
    piece_bytes = None

    def read(self, part: Partition) -> Iterator[Member]:
        compressed = part.compressed
        file = part.open_records() if compressed else part.open_from_start()
        try:
            with tarfile.open(fileobj=file, mode="r|" if compressed else "r:") as archive:
                for found in archive:
                    if found.offset >= part.size and not compressed:
                        break
                    if found.isfile():
                        yield Member(part.url, found.name, found.size, partial(_member, archive, found))
        except tarfile.ReadError as error:
            if part.object_size or "empty" not in str(error):
                raise _broken(part, error) from None

    def open(self, part: Partition) -> io.BufferedReader:
        """The archive; of a piece, from its first member on."""
        return part.open_records() if part.compressed else part.open_from_start()

    def boundary(self, data: bytearray, at_end: bool) -> int:
        return 0

    def cuts(self, part: Partition, size: int) -> list[int] | None:
        found: list[int] = []
        target = size
        try:
            with part.open_object() as file, tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if member.offset >= target:
                        found.append(member.offset)
                        target = member.offset // size * size + size
                # What is said once for all members, whoever reads from the middle would not know.
                return None if archive.pax_headers else found
        except tarfile.ReadError as error:
            raise _broken(part, error) from None


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    return archive.extractfile(member)


def _broken(part: Partition, error: Exception) -> FormatError:
    return FormatError(f"{part.where} cannot be read as tar: {error}; it may have been cut short")
