"""Objects in this process's memory: `memory://name`. A forked process sees those that were there before the fork."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloudpool.chunking.stores import Entry
from cloudpool.errors import ObjectChangedError

OBJECTS: dict[str, bytes] = {}
_etags: dict[str, tuple[bytes, str]] = {}  # the bytes that each was made of: objects are hashed once


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """All of `OBJECTS`."""

    prefixes = True
    local = True

    def url(self, key: str) -> str:
        return "memory://" + key

    def list(self, prefix: str, depth: int | None = None, hidden: bool = True) -> Iterator[Entry]:
        for key in sorted(OBJECTS):
            if key.startswith(prefix):
                yield self.head(key)

    def head(self, key: str) -> Entry:
        data = self._data(key)
        if key not in _etags or _etags[key][0] is not data:
            _etags[key] = data, hashlib.blake2b(data, digest_size=16).hexdigest()
        return Entry(key, len(data), _etags[key][1], {})

    def read_into(self, entry: Entry, start: int, view: memoryview) -> int:
        if self.head(entry.key).etag != entry.etag:
            raise ObjectChangedError(self.url(entry.key), entry.etag)
        data = self._data(entry.key)[start : start + len(view)]
        view[: len(data)] = data
        return len(data)

    def writer(self, key: str) -> MemoryWriter:
        return MemoryWriter(key)

    def _data(self, key: str) -> bytes:
        try:
            return OBJECTS[key]
        except KeyError:
            raise FileNotFoundError(
                f"there is no object memory://{key} in this process: a process that was started by spawn sees none"
            ) from None


class MemoryWriter:
    """A buffer that becomes an object when it is closed."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._data = bytearray()

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._data += view
        return len(view)

    def close(self) -> None:
        OBJECTS[self._key] = bytes(self._data)

    def discard(self) -> None:
        self._data.clear()
