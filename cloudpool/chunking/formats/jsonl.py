"""JSON Lines: a value a line; blank lines give nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cloudpool.chunking.formats import Format
from cloudpool.errors import FormatError

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition


class JsonLines(Format):
    """UTF-8, as JSON is. Raises FormatError for a line that is none."""

    separator = ending = b"\n"

    def records(self, part: Partition, file: io.BufferedReader) -> Iterator[Any]:
        loads = json.loads
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                yield loads(line)
            except ValueError as error:
                raise FormatError(f"{part.where}, line {number} of it is not JSON: {error}") from None
