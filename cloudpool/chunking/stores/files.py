"""Files of this machine: `file://` and plain paths. A key is a full path."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any
from urllib.parse import quote

from cloudpool.chunking.stores import Entry
from cloudpool.errors import ObjectChangedError


@dataclass(frozen=True, slots=True)
class FileStore:
    """The file system. The etag of a file is its inode, size and time of change, which each read compares."""

    prefixes = True
    local = True

    def url(self, key: str) -> str:
        return "file://" + quote(key)

    def list(self, prefix: str, depth: int | None = None, hidden: bool = True) -> Iterator[Entry]:
        """A prefix that ends in a slash is a folder; symbolic links to files count, those to folders are not followed."""
        folder = prefix[: prefix.rindex("/") + 1]
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"there is no folder {folder}")
        for key, found in sorted(_files(folder, prefix, depth, hidden), key=itemgetter(0)):
            yield _entry(key, found)

    def head(self, key: str) -> Entry:
        found = os.stat(key)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{key} is a folder: {key}/ means the files in it")
        return _entry(key, found)

    def read_into(self, entry: Entry, start: int, view: memoryview) -> int:
        fd = os.open(entry.key, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if entry.etag is not None and _etag(os.fstat(fd)) != entry.etag:
                raise ObjectChangedError(self.url(entry.key), entry.etag)
            return os.preadv(fd, [view], start)
        finally:
            os.close(fd)

    def writer(self, key: str) -> FileWriter:
        return FileWriter(key)

    def delete(self, key: str) -> None:
        """A file that is not there is no error."""
        with suppress(FileNotFoundError):
            os.unlink(key)


class FileWriter:
    """A file beside the one that it becomes. Owned by who writes; discard() or a death leaves the old one as it was."""

    def __init__(self, key: str) -> None:
        os.makedirs(os.path.dirname(key), exist_ok=True)
        self._key = key
        self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed by close() or discard()
            dir=os.path.dirname(key), prefix=".cloudpool-", delete=False
        )

    def write(self, data: Any, /) -> int:
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()
        mask = os.umask(0)  # a temporary file is its owner's alone; what it becomes is a file like any other
        os.umask(mask)
        os.chmod(self._file.name, 0o666 & ~mask)
        os.replace(self._file.name, self._key)

    def discard(self) -> None:
        self._file.close()
        os.unlink(self._file.name)


def _files(folder: str, prefix: str, depth: int | None, hidden: bool) -> Iterator[tuple[str, os.stat_result]]:
    """The files that list() is to give, each asked about once."""
    for found in os.scandir(folder):
        if not found.path.startswith(prefix) or not (hidden or found.name[0] not in "._"):
            continue
        if found.is_dir(follow_symlinks=False):
            if depth != 0:
                yield from _files(found.path + "/", prefix, depth and depth - 1, hidden)
        elif found.is_file() and not found.name.startswith(".cloudpool-"):
            yield found.path, found.stat()


def _entry(key: str, found: os.stat_result) -> Entry:
    return Entry(key, found.st_size, _etag(found), {})


def _etag(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
