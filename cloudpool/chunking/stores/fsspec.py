"""Any URL that fsspec has a file system for: `hf://`, `sftp://`, `hdfs://`, ..."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import fsspec

from cloudpool.chunking.stores import Entry, TransientError
from cloudpool.chunking.stores.spool import Spool
from cloudpool.errors import ObjectChangedError


@dataclass(frozen=True, slots=True)
class FsspecStore:
    """One file system. The etag is what it says of a file's version, where it says anything."""

    protocol: str
    options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    prefixes = True

    @classmethod
    def of(cls, url: str, options: dict[str, Any]) -> tuple[FsspecStore, str]:
        """The store, and the URL's path in it. Raises ValueError for a protocol that nobody knows, ImportError."""
        found, path = fsspec.core.url_to_fs(url, **options)
        protocol = url.partition("://")[0]
        implied = found._get_kwargs_from_urls(url)
        key = str(path) + ("/" if url.endswith("/") and not str(path).endswith("/") else "")
        return cls(protocol, tuple({**implied, **options}.items())), key

    def url(self, key: str) -> str:
        return str(self._files.unstrip_protocol(key))

    def list(self, prefix: str, depth: int | None = None, hidden: bool = True) -> Iterator[Entry]:
        folder = prefix.rpartition("/")[0]
        found = self._files.find(folder, maxdepth=None if depth is None else depth + 1, detail=True)
        for key in sorted(found):
            if key.startswith(prefix):
                yield _entry(key, found[key])

    def head(self, key: str) -> Entry:
        self._files.invalidate_cache()
        found = self._files.info(key)
        if found["type"] == "directory":
            raise IsADirectoryError(f"{self.url(key)} is a folder: {self.url(key)}/ means the files in it")
        return _entry(key, found)

    def read_into(self, entry: Entry, start: int, view: memoryview) -> int:
        try:
            if self.head(entry.key) != entry:  # there is no If-Match: it is asked beside each request
                raise ObjectChangedError(self.url(entry.key), entry.etag)
            data = self._files.cat_file(entry.key, start=start, end=start + len(view))
        except (ConnectionError, TimeoutError) as error:
            raise TransientError(str(error)) from error
        view[: len(data)] = data
        return len(data)

    def writer(self, key: str) -> Spool:
        def store(file: Any) -> None:
            self._files.makedirs(key.rpartition("/")[0], exist_ok=True)
            beside = f"{key}.{os.getpid()}.part"
            with self._files.open(beside, "wb") as there:
                shutil.copyfileobj(file, there, 1 << 20)
            self._files.mv(beside, key)

        return Spool(store)

    @property
    def _files(self) -> Any:
        return _made(os.getpid(), self.protocol, self.options)


@lru_cache(maxsize=64)
def _made(process: int, protocol: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """A file system of this process's own: many keep connections, which a forked child must not share."""
    return fsspec.filesystem(protocol, skip_instance_cache=True, **dict(options))


def _entry(key: str, found: dict[str, Any]) -> Entry:
    version = next(
        (found[name] for name in ("ETag", "etag", "version_id", "mtime", "created") if found.get(name)), None
    )
    return Entry(key, found["size"] or 0, None if version is None else str(version))
