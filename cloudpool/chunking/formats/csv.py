"""CSV and TSV: rows as csv.reader gives them, without the header, which each partition knows.

A line feed within quotes is no end of a row, and whether a place is within quotes depends on all quotes before it. So an
object that is to be cut is read once while planning, at the speed of a regular expression, and is cut between rows;
`newlines_in_values=False` promises that there are none, and saves that.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cloudpool.chunking.formats import Format
from cloudpool.chunking.formats.encodings import alone, checked, of_piece, undecodable
from cloudpool.chunking.formats.text import lines
from cloudpool.chunking.stream import Flow
from cloudpool.errors import FormatError

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition

BLOCK_BYTES = 4 << 20


class Csv(Format):
    """`header=False`: the first row is data. Other options are csv.reader's."""

    exact = True
    separator = ending = b"\n"
    DELIMITER = ","
    OPTIONS = ("doublequote", "escapechar", "lineterminator", "quoting", "skipinitialspace", "strict")

    def __init__(
        self,
        delimiter: str | None = None,
        quotechar: str | None = '"',
        encoding: str = "utf-8",
        header: bool = True,
        newlines_in_values: bool = True,
        **dialect: Any,
    ) -> None:
        self.dialect = {"delimiter": delimiter or self.DELIMITER, "quotechar": quotechar, **dialect}
        csv.reader([], **self.dialect)  # raises TypeError for options that it does not know
        self.encoding, self.has_header = checked(encoding), header
        self.quotes = quotechar is not None and dialect.get("quoting") != csv.QUOTE_NONE
        self.newlines_in_values = newlines_in_values and self.quotes
        self.splits = not self.newlines_in_values and "escapechar" not in dialect
        self.scans = self.newlines_in_values and self._plain
        self.piece_bytes = Format.piece_bytes if self.splits else None

    @property
    def _plain(self) -> bool:
        """Quotes open fields after a delimiter or a line, and are closed or doubled: the scanner knows no more."""
        given = self.dialect
        marks = given["delimiter"] + str(given["quotechar"])
        return (
            not given.get("escapechar") and not given.get("skipinitialspace") and given.get("doublequote", True)
            and marks.isascii() and alone(self.encoding, marks)
        )  # fmt: skip

    def records(self, part: Partition, file: io.BufferedReader) -> Iterator[list[str]]:
        rows = csv.reader(
            lines(file, part.where, of_piece(self.encoding, part.start == 0), ""), **self.dialect
        )
        try:
            if self.has_header and part.start == 0:
                next(rows, None)
            if self.newlines_in_values or not self.quotes:
                yield from rows
                return
            number = rows.line_num
            for row in rows:
                number += 1
                if rows.line_num != number or (row and "\n" in row[-1]):
                    raise FormatError(
                        f"{part.where}: a value has a line feed in it, in row {row!r:.60}, against newlines_in_values=False.\n"
                        "Leave that option out: the quotes are counted then."
                    )
                yield row
        except csv.Error as error:
            raise _broken(part, rows.line_num, error) from None

    def open(self, part: Partition) -> io.BufferedReader:
        if part.start == 0 or not self.has_header:
            return part.open_records()
        first = self._first(part)[1]

        def flow() -> Iterator[bytes]:
            yield first
            with part.open_records() as records:
                while buffer := records.read1(1 << 20):
                    yield buffer

        return io.BufferedReader(Flow(flow, part.url), 1 << 20)

    def open_next(self, part: Partition, first: Partition) -> io.BufferedReader:
        """Without its header. Raises FormatError for one that is not the first object's."""
        file = part.open_records()
        if self.has_header:
            row, text = self._first(part)
            if row and row != self.header(first):
                file.close()
                raise FormatError(
                    f"{part.url} has another header than {first.url}, so they are no file: open each of .parts"
                )
            if text.startswith(codecs.BOM_UTF8) and file.peek(3)[:3] != codecs.BOM_UTF8:
                text = text[3:]  # utf-8-sig writes a mark where there was none
            file.read(len(text))
        return file

    def header(self, part: Partition) -> list[str] | None:
        """The first row of the object; None with header=False."""
        return self._first(part)[0] if self.has_header else None

    def _first(self, part: Partition) -> tuple[list[str], bytes]:
        """The object's first row, and its bytes."""
        taken: list[str] = []

        def noted(lines: Iterator[str]) -> Iterator[str]:
            for line in lines:
                taken.append(line)
                yield line

        with part.open_start() as file:
            rows = csv.reader(noted(io.TextIOWrapper(file, self.encoding, newline="")), **self.dialect)
            try:
                row = next(rows, [])
            except csv.Error as error:
                raise _broken(part, rows.line_num, error) from None
            except UnicodeDecodeError as error:
                raise undecodable(f"{part.url}, its header,", error) from None
        return row, "".join(taken).encode(self.encoding)

    def cuts(self, part: Partition, size: int) -> list[int] | None:
        if not self._plain:
            return None
        scanner = Scanner(*(str(self.dialect[name]).encode() for name in ("delimiter", "quotechar")))
        with part.open_records() as file:
            return scanner.places(file, size)


def _broken(part: Partition, line: int, error: csv.Error) -> FormatError:
    hint = ": csv.field_size_limit() raises it" if "limit" in str(error) else ""
    return FormatError(f"{part.where}, line {line} of it is not CSV: {error}{hint}")


class Tsv(Csv):
    """CSV with tabs."""

    DELIMITER = "\t"


class Scanner:
    """Finds starts of rows: follows csv.reader's states, of which one matters (within quotes), by regular expressions."""

    def __init__(self, delimiter: bytes, quote: bytes) -> None:
        self._quote = quote
        q, before = re.escape(quote), b"[" + re.escape(delimiter) + b"\\r\\n]"
        other, literal = (
            b"[^" + q + b"]*+",
            b"(?<!" + before + b")" + q,
        )  # a quote within a field is one of its letters
        body = other + b"(?:" + q + q + other + b")*+"
        bare = other + b"(?:" + literal + other + b")*+"
        row = b"[^" + q + b"\\r\\n]*+"
        self._body = re.compile(body)  # each of these matches anywhere, were it nothing
        self._bare = re.compile(bare + b"(?:" + q + body + q + bare + b")*+")
        self._row = re.compile(
            row + b"(?:" + literal + row + b")*+(?:" + q + body + q + row + b"(?:" + literal + row + b")*+)*+"
        )

    def places(self, file: io.BufferedReader, size: int) -> list[int]:
        """Starts of rows: the first at or after each multiple of `size`."""
        found: list[int] = []
        data, base, at = b"\n", -1, 1  # the byte before is kept: it says whether a quote opens a field
        quoted, seeking, target = False, False, size
        while more := file.read(BLOCK_BYTES):
            data, base, at = data[at - 1 :] + more, base + at - 1, 1
            end = len(data.rstrip(self._quote))  # a run of quotes is looked at when all of it is there
            while at < end:
                limit = min(max(at, target - base), end)
                while limit < end and data[limit - 1 : limit] == self._quote:
                    limit += 1
                if not seeking:
                    quoted = self._advance(data, at, limit, quoted)
                    at = limit
                    if base + at < target:
                        break
                begin = self._row_after(data, at, end, quoted)
                seeking = begin is None
                if begin is None:
                    break
                found.append(base + begin)
                quoted, at = False, begin
                target = (base + begin) // size * size + size
        total = base + len(data)
        return [place for place in found if place < total]

    def _advance(self, data: bytes, at: int, end: int, quoted: bool) -> bool:
        """Whether `end` is within quotes, when `at` is or is not."""
        if quoted:
            at = _end(self._body, data, at, end)
            if at == end:
                return True
            at += 1
        return _end(self._bare, data, at, end) < end

    def _row_after(self, data: bytes, at: int, end: int, quoted: bool) -> int | None:
        """The start of the row after the one that `at` is in; None: it is not in the data yet."""
        if quoted:
            at = _end(self._body, data, at, end)
            if at == end:
                return None
            at += 1
        at = _end(self._row, data, at, end)
        ending = data[at : at + 2]
        if at + 1 >= end or ending[:1] == self._quote:
            return at + 1 if ending[:1] == b"\n" and at < end else None
        return at + 2 if ending == b"\r\n" else at + 1


def _end(pattern: re.Pattern[bytes], data: bytes, at: int, end: int) -> int:
    """Where what matches from `at` on ends."""
    found = pattern.match(data, at, end)
    return found.end() if found else at
