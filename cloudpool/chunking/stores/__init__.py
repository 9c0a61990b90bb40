"""Where objects are. A store is found by the scheme of a URL, knows one bucket (or host, or disk), and is cheap to pickle.

Store.list(prefix)   objects whose keys begin so, in the order of their keys
Store.head(key)      one object, or FileNotFoundError
Store.read_into()    bytes of an object, once: stream.py asks again, from where it broke
Store.reply()        where there are connections: an open reply, of which `fill(view)` or `take(most)` gives as much as is wanted at a time
Store.writer(key)    a file that becomes an object when it is closed
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from cloudpool.errors import MissingExtraError

__all__ = ["Entry", "Location", "Store", "TransientError", "locate"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing has it. Its etag is what an `If-Match` can be asked with; None where the store has none."""

    key: str
    size: int
    etag: str | None = None
    metadata: dict[str, str] | None = field(default=None, compare=False)  # None: ask head()


class TransientError(Exception):
    """A request failed in a way that may pass: stream.py tries again."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s  # that the server asked for


class Writer(Protocol):
    """A file that becomes an object, whole, when it is closed; after discard() nothing is left of it."""

    def write(self, data: Any, /) -> int: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


class Store(Protocol):
    """One bucket, host or disk. Pickled with each partition: what it is made of, no connections."""

    prefixes: bool  # it can list; a web server cannot

    def url(self, key: str) -> str:
        """As a person would write it."""

    def list(self, prefix: str, depth: int | None = None, hidden: bool = True) -> Iterator[Entry]:
        """The objects whose keys begin with `prefix`, in the order of their keys. Raises FileNotFoundError, PermissionError.

        Left out may be, if that is less work: keys with more than `depth` slashes after it; not `hidden`, what is in folders
        whose names begin with . or _.
        """

    def head(self, key: str) -> Entry:
        """One object, with its metadata. Raises FileNotFoundError, PermissionError, TransientError."""

    def read_into(self, entry: Entry, start: int, view: memoryview) -> int:
        """Fill `view` with the object's bytes from `start` on; how many there are, which is fewer when the connection broke.

        Raises ObjectChangedError when the object is not the one that `entry` means, TransientError when there is not one byte.
        """

    def writer(self, key: str) -> Writer: ...


@dataclass(frozen=True, slots=True)
class Location:
    """What a URL means: a store and a key in it, which may be a prefix or a glob."""

    store: Store
    key: str


def locate(
    url: str | os.PathLike[str], *, endpoint_url: str | None = None, anonymous: bool = False,
    options: dict[str, Any] | None = None,
) -> Location:  # fmt: skip
    """The store and key of a URL or plain path. Raises ValueError for a URL that is none, MissingExtraError."""
    text = os.fspath(url)
    if not isinstance(text, str):
        raise TypeError(f"a URL or path must be text, not {text!r}")
    options = dict(options or {})
    scheme, colon, rest = text.partition("://")
    if not colon:
        from cloudpool.chunking.stores.files import FileStore

        return Location(FileStore(), _absolute(text))
    scheme = scheme.lower()
    if scheme == "file":
        from cloudpool.chunking.stores.files import FileStore

        parsed = urlsplit(text)
        if parsed.netloc not in ("", "localhost"):
            raise ValueError(f"{text}: a file URL names a path of this machine: file:///folder/name")
        return Location(FileStore(), _absolute(unquote(rest.removeprefix(parsed.netloc))))
    if scheme == "memory":
        from cloudpool.chunking.stores.memory import MemoryStore

        return Location(MemoryStore(), rest.lstrip("/"))
    if scheme in ("http", "https"):
        from cloudpool.chunking.stores.web import WebStore

        parsed = urlsplit(text)
        if not parsed.hostname:
            raise ValueError(f"{text}: there is no host in this URL")
        path = text[text.index(parsed.netloc, len(scheme) + 3) + len(parsed.netloc) :]
        return Location(WebStore.of(scheme, parsed.netloc, options), path or "/")
    if scheme in ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"):
        bucket, _, key = rest.partition("/")
        if not bucket:
            raise ValueError(f"{text}: there is no bucket in this URL")
        if scheme in ("s3", "s3a"):
            from cloudpool.chunking.stores.s3 import S3Store

            return Location(S3Store.of(bucket, endpoint_url, anonymous, options), key)
        from cloudpool.chunking.stores.clouds import CloudStore

        return Location(CloudStore.of(scheme, bucket, endpoint_url, anonymous, options), key)
    try:
        from cloudpool.chunking.stores.fsspec import FsspecStore
    except ImportError:
        raise MissingExtraError("fsspec", f"A {scheme}:// URL") from None
    if anonymous:
        options.setdefault("anon", True)
    if endpoint_url:
        options.setdefault("endpoint_url", endpoint_url)
    return Location(*FsspecStore.of(text, options))


def _absolute(path: str) -> str:
    """The full path, a trailing slash kept: it says that a folder is meant."""
    full = os.path.abspath(os.path.expanduser(path))
    return full + "/" if path.endswith("/") and not full.endswith("/") else full


def copy_into(file: BinaryIO, view: memoryview) -> int:
    """Fill `view` from `file`; how many bytes there were."""
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            break
        done += got
    return done
