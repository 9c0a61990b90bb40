"""Storage for large payloads, in the place of the server's memory: a bucket of S3, or a folder that all hosts share.

    <blob_url>/cloudpool-<session>-<when it began>/<name>.<number>        one piece of a payload, sealed; written whole or not

By the client of cloudpool.chunking: obstore hangs in forked children, boto3 is 15 MB that images need not have. What it is
asked for is tried again for some 20 s where that may help; then it is a BlobStoreError that says what does. Few sessions have
one, and all import this: what it needs is imported late.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpool.errors import BlobStoreError, CloudpoolError

if TYPE_CHECKING:
    import datetime as dt

    from cloudpool.settings import Settings

FOLDER = "cloudpool-"  # what a session's folder begins with
STAMP = "%Y%m%dT%H%M%SZ"
RIGHTS = "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"
_PROBE = "probe"
_tried: set[str] = set()  # sessions' places that were found to serve, by this process or its parents


_using = threading.local()


def is_in_use() -> bool:
    """Whether this thread is in the middle of a request: what it needs for that cannot come from there."""
    return getattr(_using, "is_so", False)


class Place(NamedTuple):
    """Where one session's payloads are, for any host. It may hold secrets: it travels as the session's key does."""

    url: str  # of the session's own folder; without a slash at its end
    endpoint: str = ""  # of a storage that is not AWS's
    region: str = ""
    keys: tuple[str, ...] = ()  # those of the root; without any, each host has its own
    is_made: bool = False  # the folder above was not there before the session: it goes with it, if empty

    def __repr__(self) -> str:
        return f"Place(url={self.url!r})"

    @staticmethod
    def encode(place: Place | None) -> tuple[Any, ...] | None:
        """As marshal and JSON take it."""
        return None if place is None else tuple(place)

    @classmethod
    def decode(cls, fields: Any) -> Place | None:
        if fields is None:
            return None
        url, endpoint, region, keys, is_made = fields
        return cls(url, endpoint, region, tuple(keys), is_made)

    @classmethod
    def of(cls, chosen: Settings, session_id: str) -> Place | None:
        """A new session's. Raises BlobStoreError when the root has no credentials to give."""
        base = cls.base(chosen)
        if base is None:
            return None
        now = time.strftime(STAMP, time.gmtime())
        is_made = base.is_folder and not os.path.exists(base.folder)
        return base._replace(url=f"{base.url}/{FOLDER}{session_id}-{now}", is_made=is_made)

    @classmethod
    def base(cls, chosen: Settings) -> Place | None:
        """Where the sessions' folders are. Raises as `of`."""
        if chosen.blob_url is None or chosen.blob_url.startswith("file:"):
            return None if chosen.blob_url is None else cls(chosen.blob_url)
        from cloudpool.chunking.stores.credentials import find_keys, find_region

        keys: tuple[str, ...] = ()
        if chosen.blob_credentials == "root":
            with _told(chosen.blob_url, "cannot be used"):
                keys = tuple(key for key in find_keys(None) if key)
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        return cls(chosen.blob_url, endpoint, find_region(None), keys)

    @property
    def is_folder(self) -> bool:
        return self.url.startswith("file:")

    @property
    def folder(self) -> str:
        """Its path, where it is one."""
        from urllib.parse import unquote, urlsplit

        return unquote(urlsplit(self.url).path)

    def remove_folder(self) -> None:
        """Where it is one: with what writers that were killed have begun."""
        if not self.is_folder:
            return
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)
        if self.is_made:
            with suppress(OSError):  # others use it now; or it is where a host has it mounted
                os.rmdir(os.path.dirname(self.folder))


class Bucket:
    """One session's storage. It has no connections of its own: it may be used in any thread, and after a fork."""

    def __init__(self, place: Place) -> None:
        """Raises BlobStoreError."""
        options: dict[str, Any] = {}
        if place.keys:
            names = ("access_key_id", "secret_access_key", "session_token")
            options = dict(zip(names, place.keys, strict=False))
        if place.region and place.url.startswith("s3:"):
            options["region"] = place.region
        with _told(place.url, "cannot be used"):
            from cloudpool.chunking.stores import locate

            # Stores differ in what they are made of: what is used of them here, both kinds have.
            at = locate(place.url, endpoint_url=place.endpoint or None, options=options)
        self._store: Any = at.store
        self._place, self._url, self._folder = place, place.url, at.key

    def put(self, name: str, data: bytes) -> None:
        """Write an object. Raises BlobStoreError; then nothing is there."""
        with _told(self._url, f"does not take a payload of {len(data)} bytes"):
            writer = self._store.writer(self._key(name))
            try:
                writer.write(data)
                writer.close()
            except BaseException:
                with suppress(Exception):  # what went wrong before is to be told
                    writer.discard()
                raise

    def get(self, name: str, size: int) -> bytearray:
        """Read an object of so many bytes. Raises FileNotFoundError, BlobStoreError."""
        from cloudpool.chunking.stores import Entry
        from cloudpool.chunking.stores.retries import fill
        from cloudpool.errors import ObjectChangedError

        data = bytearray(size)
        with _told(self._url, f"does not give a payload of {size} bytes"):
            try:
                fill(self._store, Entry(self._key(name), size), 0, memoryview(data))
            except (FileNotFoundError, ObjectChangedError):
                pass
            else:
                return data
        raise FileNotFoundError(f"{name} is gone from {self._url}")

    def delete(self, name: str) -> None:
        """Delete an object, if that can be done now: what is left goes with the session."""
        from cloudpool.chunking.stores import TransientError

        with suppress(OSError, TransientError):
            self._store.delete(self._key(name))

    def clear(self, within_s: float = math.inf) -> None:
        """Delete all that the session has there; after so long no further object. Raises BlobStoreError, then too."""
        ends_at = time.monotonic() + within_s
        with _told(self._url, "keeps what the session left"):
            if self._place.is_folder:
                self._place.remove_folder()
                return
            for entry in self._store.list(self._folder + "/"):
                if time.monotonic() > ends_at:
                    raise TimeoutError(f"it takes longer than {within_s:g} s")
                self._store.delete(entry.key)

    def try_out(self) -> None:
        """Write, list, read and delete a small object, once. Raises BlobStoreError, soon where nothing answers."""
        from cloudpool.chunking.stores import TransientError

        if self._url in _tried:
            return
        if self._place.is_folder:
            self._check_folder()
        key = self._key(_PROBE)
        with _told(self._url.rpartition("/")[0], "cannot be used"):
            try:
                self._store.head(key)
            except TransientError as error:
                raise ConnectionError(str(error)) from error
            except OSError:  # not there; or of a kind that the answer to a HEAD does not tell
                pass
            self.put(_PROBE, _PROBE.encode())
            if key not in {entry.key for entry in self._store.list(key)}:
                raise OSError("what was written is not listed")
            if self.get(_PROBE, len(_PROBE)) != _PROBE.encode():
                raise OSError("what was written is not what is read")
            self._store.delete(key)
        _tried.add(self._url)

    def _check_folder(self) -> None:
        """Raises BlobStoreError for one that would be made in a place that is not there either: it is misspelt, or not mounted."""
        above = os.path.dirname(os.path.dirname(self._place.folder))
        if not os.path.isdir(above):
            raise BlobStoreError(
                f"the folder {self._url.rpartition('/')[0]} (blob_url) cannot be made: there is no {above}.\n"
                "Make or mount that, or correct CLOUDPOOL_BLOB_URL."
            )

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"


def sessions(place: Place) -> Iterator[tuple[str, dt.datetime, Callable[[], None]]]:
    """Of all that is below `place`: a session's id, when it began, and what removes its objects. Raises BlobStoreError."""
    import datetime as dt

    bucket = Bucket(place)
    above = f"{bucket._folder}/" if bucket._folder else ""
    found = set()
    with _told(place.url, "cannot be listed"), suppress(FileNotFoundError):
        for entry in bucket._store.list(above + FOLDER):
            found.add(entry.key[len(above) :].partition("/")[0])
    for folder in sorted(found):
        session_id, _, stamp = folder.removeprefix(FOLDER).rpartition("-")
        try:
            began = dt.datetime.strptime(stamp, STAMP).replace(tzinfo=dt.UTC)
        except ValueError:  # not ours
            continue
        yield session_id, began, Bucket(place._replace(url=f"{place.url}/{folder}")).clear


def lifecycle(url: str) -> str:
    """What to tell S3, so that what nobody could delete goes in the end."""
    import json

    bucket, _, prefix = url.partition("://")[2].partition("/")
    rule = {
        "ID": "cloudpool",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{prefix}/{FOLDER}" if prefix else FOLDER},
        "Expiration": {"Days": 7},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    return (
        "Once, for what a crash leaves (with more days than any program runs):\n"
        f"aws s3api put-bucket-lifecycle-configuration --bucket {bucket} "
        f"--lifecycle-configuration '{json.dumps({'Rules': [rule]})}'"
    )


@contextmanager
def _told(url: str, what: str) -> Iterator[None]:
    """What goes wrong is a BlobStoreError that says what helps."""
    from cloudpool.chunking.stores import TransientError

    was_in_use, _using.is_so = is_in_use(), True
    try:
        yield
    except BlobStoreError:
        raise
    except (OSError, TransientError, CloudpoolError, ImportError, ValueError) as error:
        told = f"the storage {url} (blob_url) {what}: {error}\n{_cure(url, error)}"
        raise BlobStoreError(told) from None
    finally:
        _using.is_so = was_in_use


def _cure(url: str, error: Exception) -> str:
    if url.startswith("file:"):
        return "It must be a folder that root and hosts share and may write to, with room (containers: docker_mounts)."
    if isinstance(error, PermissionError | ImportError):
        return (
            f"Credentials need {RIGHTS} there. Hosts use their own (a role);\n"
            "CLOUDPOOL_BLOB_CREDENTIALS=root gives them the root's."
        )
    if isinstance(error, FileNotFoundError):
        return "Make the bucket, or name another in CLOUDPOOL_BLOB_URL; AWS_ENDPOINT_URL is for storage that is not AWS's."
    return "See whether it is reached from there (AWS_ENDPOINT_URL, network, proxies); then start the program again."
