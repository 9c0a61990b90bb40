"""A file on disk that is stored when it is closed: for stores that take an object in one piece."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

IN_MEMORY_BYTES = 8 << 20


class Spool:
    """Owned by who writes; `store` is called with the file, at its start, by close()."""

    def __init__(self, store: Callable[[Any], object]) -> None:
        self._store = store
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - closed by close() or discard()

    def write(self, data: Any, /) -> int:
        return self._file.write(data)

    def close(self) -> None:
        self._file.seek(0)
        self._store(self._file)
        self._file.close()

    def discard(self) -> None:
        self._file.close()
