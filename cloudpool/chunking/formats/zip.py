"""zip: the members that begin in the piece. Each reader takes them from the directory at the archive's end."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from cloudpool.chunking.formats import Format
from cloudpool.chunking.formats.member import Member
from cloudpool.errors import FormatError

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition


class Zip(Format):
    """Folders are left out."""

    joins = False
    compressible = False

    def read(self, part: Partition) -> Iterator[Member]:
        try:
            archive = zipfile.ZipFile(part.open_object())
        except zipfile.BadZipFile as error:
            raise FormatError(
                f"{part.url} cannot be read as zip: {error}; it may have been cut short"
            ) from None
        for found in sorted(archive.infolist(), key=lambda info: info.header_offset):
            if part.start <= found.header_offset < part.stop and not found.is_dir():
                yield Member(part.url, found.filename, found.file_size, partial(archive.open, found))

    def open(self, part: Partition) -> io.BufferedReader:
        """The whole archive, which is the same for each of its pieces."""
        return part.open_object()
