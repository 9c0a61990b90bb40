"""Google's and Azure's storage, by obstore: `gs://bucket/key`, `az://container/key`, `abfss://container@account...`.

obstore has threads that a fork does not copy, and waits for them for ever in a forked child. So it is used in one process: a
child of one that used it says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cloudpool.chunking.stores import Entry, TransientError
from cloudpool.chunking.stores.spool import Spool
from cloudpool.errors import MissingExtraError, ObjectChangedError

_used_by = 0  # the process whose threads obstore has


@dataclass(frozen=True, slots=True)
class CloudStore:
    """One bucket or container. Options are obstore's; without any it looks where the clouds' own tools do."""

    root: str
    extra: str
    options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    prefixes = True

    @classmethod
    def of(
        cls, scheme: str, bucket: str, endpoint_url: str | None, anonymous: bool, options: Mapping[str, Any]
    ) -> CloudStore:
        given = dict(options)
        if endpoint_url:
            given["endpoint"] = endpoint_url
        if anonymous:
            given["skip_signature"] = True
        google = scheme in ("gs", "gcs")
        return cls(f"{'gs' if google else scheme}://{bucket}", "gs" if google else "az", tuple(given.items()))

    def url(self, key: str) -> str:
        return f"{self.root}/{key}"

    def list(self, prefix: str, depth: int | None = None, hidden: bool = True) -> Iterator[Entry]:
        # obstore's prefixes end at slashes: of the rest it is asked here.
        folder = prefix.rpartition("/")[0]
        for page in self._call("list", folder or None, chunk_size=1000):
            for found in sorted(page, key=lambda meta: str(meta["path"])):
                if found["path"].startswith(prefix):
                    yield Entry(found["path"], found["size"], found["e_tag"])

    def head(self, key: str) -> Entry:
        found = self._call("get", key, options={"head": True})
        metadata = {
            str(name): str(value)
            for name, value in found.attributes.items()
            if not str(name).startswith("Content-")
        }
        return Entry(key, found.meta["size"], found.meta["e_tag"], metadata)

    def read_into(self, entry: Entry, start: int, view: memoryview) -> int:
        options: dict[str, Any] = {"range": (start, start + len(view))}
        if entry.etag:
            options["if_match"] = entry.etag
        data = memoryview(self._call("get", entry.key, options=options, about=entry).bytes())
        view[: len(data)] = data
        return len(data)

    def writer(self, key: str) -> Spool:
        return Spool(lambda file: self._call("put", key, file))

    def _call(self, name: str, *args: Any, about: Entry | None = None, **kwargs: Any) -> Any:
        obstore, store = _opened(self)
        errors = obstore.exceptions
        url = self.url(str(args[0] or "")) if args else self.root
        try:
            return getattr(obstore, name)(store, *args, **kwargs)
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no object {url}, or no such bucket") from None
        except errors.PreconditionError:
            raise ObjectChangedError(url, about.etag if about else None) from None
        except (errors.PermissionDeniedError, errors.UnauthenticatedError) as error:
            raise PermissionError(
                f"{url} may not be read or written with these credentials: {_line(error)}"
            ) from None
        except errors.BaseError as error:
            raise TransientError(_line(error)) from error


def _opened(store: CloudStore) -> tuple[Any, Any]:
    global _used_by
    if _used_by not in (0, os.getpid()):
        raise RuntimeError(
            f"{store.root} was used before this process was forked, which its library (obstore) does not survive: "
            f"use the start method spawn or forkserver, or make the Pool before the partitions"
        )
    try:
        import obstore
        import obstore.exceptions
    except ImportError:
        raise MissingExtraError(store.extra, f"A URL such as {store.root}/") from None
    _used_by = os.getpid()
    return obstore, _made(store)


@cache
def _made(store: CloudStore) -> Any:
    from obstore.store import from_url

    return from_url(store.root, **dict(store.options))


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
