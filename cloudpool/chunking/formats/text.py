"""Lines of text, each with its ending, as open(path, newline="\\n") gives them: joined they are the object."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from cloudpool.chunking.formats import Format
from cloudpool.chunking.formats.encodings import checked, of_piece, undecodable

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition


READ_BYTES = 128 << 10


class Text(Format):
    """`newline` is "\\n" (which ends lines in \\r\\n as well) or "\\r"."""

    def __init__(self, encoding: str = "utf-8", newline: str = "\n", errors: str = "strict") -> None:
        if newline not in ("\n", "\r"):
            raise ValueError(f'newline must be "\\n" (lines in \\r\\n end so, too) or "\\r", not {newline!r}')
        self.encoding, self.newline, self.errors = checked(encoding), newline, errors
        self.separator = newline.encode()

    def records(self, part: Partition, file: io.BufferedReader) -> Iterator[str]:
        return lines(file, part.where, of_piece(self.encoding, part.start == 0), self.newline, self.errors)


def lines(
    file: io.BufferedReader, where: str, encoding: str, newline: str, errors: str = "strict"
) -> Iterator[str]:
    """Lines as a TextIOWrapper gives them (newline "\\n", "\\r", or "" for each of these and "\\r\\n"), but faster.

    A TextIOWrapper over anything but a file asks at each line whether that is closed, which takes half of the time.
    Raises FormatError, which says `where`, for bytes that are no text.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    return chain.from_iterable(_batches(file, decoder, newline, where))


def _batches(
    file: io.BufferedReader, decoder: codecs.IncrementalDecoder, newline: str, where: str
) -> Iterator[Iterable[str]]:
    begun: list[str] = []  # of a line that goes on
    with file:
        while True:
            data = file.read1(READ_BYTES)
            try:
                text = decoder.decode(data, not data)
            except UnicodeDecodeError as error:
                raise undecodable(where, error) from None
            if not data:
                break
            cut = text.rfind(newline or "\n") + 1
            if not newline:  # a carriage return at the end may have its line feed in what follows
                cut = max(cut, text.rfind("\r", 0, -1) + 1)
            begun.append(text[:cut])
            if cut:
                yield _lines("".join(begun), newline)
                begun.clear()
                begun.append(text[cut:])
            else:
                begun[-1] = text
        yield _lines("".join((*begun, text)), newline)


def _lines(text: str, newline: str) -> Iterable[str]:
    if newline == "\r":  # with which StringIO would translate line feeds
        *whole, last = text.split("\r")
        return [line + "\r" for line in whole] + [last][: len(last)]
    return io.StringIO(text, newline)
