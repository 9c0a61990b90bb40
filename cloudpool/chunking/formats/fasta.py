"""FASTA: (header, sequence), whatever the lines of a sequence are long."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudpool.chunking.formats import Format
from cloudpool.chunking.formats.encodings import checked, undecodable
from cloudpool.errors import FormatError

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition


class Fasta(Format):
    """A record begins with a > at the start of a line. White space within sequences is left out."""

    ending = b"\n"
    separator, opening = b"\n>", 1

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = checked(encoding)

    def records(self, part: Partition, file: io.BufferedReader) -> Iterator[tuple[str, str]]:
        header: str | None = None
        lines: list[str] = []
        for raw in file:
            try:
                line = raw.decode(self.encoding)
            except UnicodeDecodeError as error:
                raise undecodable(part.where, error) from None
            if line.startswith(">"):
                if header is not None:
                    yield header, "".join(lines)
                header, lines = line[1:].rstrip("\r\n"), []
            elif header is not None:
                lines.append("".join(line.split()))
            elif line.strip():
                raise FormatError(f"{part.where} is not FASTA: it begins with {line[:40]!r}, not with >")
        if header is not None:
            yield header, "".join(lines)
