"""A file within an archive, as iterating over a zip or tar gives it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO


class Member:
    """Its name, its size in bytes, and what is in it. Of an archive in a gzip: only until the next one is asked for."""

    __slots__ = ("_opener", "archive", "name", "size")

    def __init__(self, archive: str, name: str, size: int, opener: Callable[[], IO[bytes]]) -> None:
        self.archive, self.name, self.size, self._opener = archive, name, size, opener

    def open(self) -> io.BufferedReader:
        """Its bytes as a file."""
        file = self._opener()
        return file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[arg-type]

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()

    def __repr__(self) -> str:
        return f"<{self.name} in {self.archive}, {self.size} bytes>"
