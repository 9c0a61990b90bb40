"""FASTQ: (header, sequence, quality)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudpool.chunking.formats import Format
from cloudpool.errors import FormatError

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition


class Fastq(Format):
    """Records of four lines, or with `multiline=True` of any number.

    A quality line may begin with @ and hold whole records' likeness, so where sequences have several lines no place in the
    middle is known to be a record's start without all that is before: such an object is one piece. Four lines are
    certain: @ opens a header when the next line but one begins with +, which no sequence does. Records that are not
    of four lines raise FormatError, in at least one of the pieces that they are in.
    """

    ending = b"\n"

    def __init__(self, multiline: bool = False) -> None:
        self.multiline = multiline
        self.splits = not multiline

    def boundary(self, data: bytearray, at_end: bool) -> int | None:
        begins: list[int] = []  # of whole lines after the cut: four, and the two after the last of them
        at = data.find(b"\n") + 1
        while at and at < len(data) and len(begins) < 6:
            begins.append(at)
            at = data.find(b"\n", at) + 1
        for begin, second in zip(begins[:4], [*begins[2:], None, None], strict=False):
            if data[begin] == ord("@"):
                if second is None:
                    return len(data) if at_end else None
                if data[second] == ord("+"):
                    return begin
        if len(begins) >= 4 and not data[begins[0] :].isspace():
            raise FormatError(
                "it has not four lines a record: pass multiline=True, and each object is one piece"
            )
        return len(data) if at_end else None

    def records(self, part: Partition, file: io.BufferedReader) -> Iterator[tuple[str, str, str]]:
        number = 0
        for raw in file:
            if raw.isspace():
                continue
            number += 1
            if not raw.startswith(b"@"):
                raise self._broken(part, number, f"a header begins with @, not {_text(raw)[:20]!r}")
            header, sequence = _text(raw)[1:], ""
            line = file.readline()
            if self.multiline:
                while line and not line.startswith(b"+"):
                    sequence += _text(line)
                    line = file.readline()
            else:
                sequence = _text(line)
                line = file.readline()
            if not line.startswith(b"+"):
                raise self._broken(part, number, "there is no + after the sequence")
            quality = "" if self.multiline else _text(file.readline())
            while len(quality) < len(sequence) and self.multiline and (line := file.readline()):
                quality += _text(line)
            if len(quality) != len(sequence):
                raise self._broken(part, number, f"{len(sequence)} bases have {len(quality)} qualities")
            yield header, sequence, quality

    def _broken(self, part: Partition, number: int, what: str) -> FormatError:
        cure = "" if self.multiline else "; if sequences go over several lines, pass multiline=True"
        return FormatError(f"{part.where}, record {number} of it is not FASTQ: {what}{cure}")


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
