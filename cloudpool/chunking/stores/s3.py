"""S3 and what speaks like it (MinIO, Ceph, R2): `s3://bucket/key`.

A client of our own on the stdlib's HTTP: obstore, the fastest library for it, hangs in a forked child of a process that
used it, and a listing fails by one key that it holds for ill-formed. docs/chunking.md has what was measured.
"""

from __future__ import annotations

import base64
import hashlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from cloudpool.chunking.stores import Entry, TransientError
from cloudpool.chunking.stores.credentials import Keys, find_keys, find_region
from cloudpool.chunking.stores.http import Reply, request
from cloudpool.chunking.stores.retries import patiently
from cloudpool.chunking.stores.signing import path_of, query_of, signed
from cloudpool.errors import ObjectChangedError

OPTIONS = {
    "access_key_id": "access_key", "aws_access_key_id": "access_key", "key": "access_key",
    "secret_access_key": "secret_key", "aws_secret_access_key": "secret_key", "secret": "secret_key",
    "session_token": "token", "aws_session_token": "token", "token": "token",
    "region": "region", "region_name": "region", "profile": "profile", "profile_name": "profile",
    "request_payer": "request_payer",
}  # fmt: skip
PART_BYTES = 8 << 20  # of a multipart upload; at least 5 MiB by the protocol
MOST_PARTS = 10_000

_regions: dict[tuple[str, str | None], str] = {}  # of buckets that have said where they are


@dataclass(frozen=True, slots=True)
class S3Store:
    """One bucket. Keys that were passed travel with it and are never shown; others are found where it is used."""

    bucket: str
    endpoint: str | None = None
    anonymous: bool = False
    keys: Keys | None = field(default=None, repr=False)
    profile: str | None = None
    region: str | None = None
    requester_pays: bool = False

    prefixes = True

    @classmethod
    def of(
        cls, bucket: str, endpoint_url: str | None, anonymous: bool, options: Mapping[str, Any]
    ) -> S3Store:
        given: dict[str, Any] = {}
        for name, value in options.items():
            if name not in OPTIONS:
                raise ValueError(
                    f"storage_options has {name!r}, which S3 does not know: it takes {', '.join(OPTIONS)}"
                )
            given[OPTIONS[name]] = value
        keys = None
        if given.get("access_key"):
            keys = Keys(given["access_key"], given.get("secret_key", ""), given.get("token"))
        env = os.environ
        endpoint = endpoint_url or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None
        if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
            raise ValueError(f"endpoint_url must begin with http:// or https://, not {endpoint!r}")
        payer = given.get("request_payer")
        return cls(
            bucket, endpoint and endpoint.rstrip("/"), anonymous, keys, given.get("profile"), given.get("region"),
            payer in (True, "requester"),
        )  # fmt: skip

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def list(self, prefix: str, depth: int | None = None, hidden: bool = True) -> Iterator[Entry]:
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        if depth == 0:
            query["delimiter"] = "/"
        while True:
            body = patiently(self.url(prefix), lambda: self._whole("GET", "", query, prefix))
            try:
                page = ET.fromstring(body)  # noqa: S314 - expat bounds entities, and the server is the user's choice
            except ET.ParseError as error:
                raise OSError(
                    f"{self.url(prefix)}: this server does not answer as S3 does ({error})"
                ) from None
            space = page.tag[: page.tag.index("}") + 1] if page.tag.startswith("{") else ""
            for found in page.iter(space + "Contents"):
                key = unquote(
                    (found.findtext(space + "Key") or "").replace("+", " "), errors="surrogateescape"
                )
                yield Entry(key, int(found.findtext(space + "Size") or 0), found.findtext(space + "ETag"))
            if page.findtext(space + "IsTruncated") != "true":
                return
            query["continuation-token"] = page.findtext(space + "NextContinuationToken") or ""

    def head(self, key: str) -> Entry:
        with self._ask("HEAD", key) as reply:
            if reply.status != 200:
                self._refuse(reply, key, reply.read())
            reply.read()
            metadata = {
                name[len("x-amz-meta-") :].lower(): value
                for name, value in reply.headers.items()
                if name.lower().startswith("x-amz-meta-")
            }
            return Entry(
                key, int(reply.headers.get("Content-Length", 0)), reply.headers.get("ETag"), metadata
            )

    def read_into(self, entry: Entry, start: int, view: memoryview) -> int:
        with self.reply(entry, start, start + len(view)) as reply:
            return reply.fill(view)

    @contextmanager
    def reply(self, entry: Entry, start: int, stop: int) -> Iterator[Reply]:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if entry.etag:
            headers["If-Match"] = entry.etag
        with self._ask("GET", entry.key, headers=headers) as reply:
            if reply.status != 206:
                self._refuse(reply, entry.key, reply.read(), entry)
            # A server that heeds no If-Match is found out all the same.
            etag, total = reply.headers.get("ETag"), reply.total(self.url(entry.key), start)
            if (entry.etag and etag and etag != entry.etag) or total not in (None, entry.size):
                raise ObjectChangedError(self.url(entry.key), entry.etag)
            yield reply

    def writer(self, key: str) -> S3Writer:
        return S3Writer(self, key)

    def delete(self, key: str) -> None:
        """One attempt. An object that is not there is no error."""
        self._whole("DELETE", key, {}, key)

    # -- requests ---------------------------------------------------------------------------------------------------

    def _whole(
        self, method: str, key: str, query: Mapping[str, str], about: str, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:  # fmt: skip
        """The body of a reply that is to be 200 or 204."""
        with self._ask(method, key, query, headers, body) as reply:
            data = reply.read()
            if reply.status not in (200, 204):
                self._refuse(reply, about, data)
            return data

    @contextmanager
    def _ask(
        self, method: str, key: str, query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, body: bytes | None = None,
    ) -> Iterator[Reply]:  # fmt: skip
        """Send a request, signed unless anonymous; once more when the bucket says that it is in another region."""
        place = self.bucket, self.endpoint
        for last in (False, True):
            region = _regions.get(place) or self.region or find_region(self.profile)
            origin, path = self._address(region, key)
            asked = query_of(query or {})
            full = dict(headers or {})
            if self.requester_pays:
                full["x-amz-request-payer"] = "requester"
            if not self.anonymous:
                keys = self.keys or find_keys(self.profile)
                full = signed(method, urlsplit(origin).netloc, path, asked, full, body, keys, region)
            with request(method, origin, path + (f"?{asked}" if asked else ""), full, body) as reply:
                reply.check_passing()
                elsewhere = reply.headers.get("x-amz-bucket-region")
                if not last and reply.status in (301, 307, 400, 403) and elsewhere not in (None, region):
                    reply.read()
                    _regions[place] = elsewhere
                    continue
                yield reply
                return

    def _address(self, region: str, key: str) -> tuple[str, str]:
        """The server and path of a key: AWS has a name for each bucket, unless a dot in it would not fit the certificate."""
        escaped = path_of(key)
        if self.endpoint:
            at = urlsplit(self.endpoint)
            return f"{at.scheme}://{at.netloc}", f"{at.path}/{self.bucket}/{escaped}"
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        if "." in self.bucket:
            return f"https://s3.{region}.{suffix}", f"/{self.bucket}/{escaped}"
        return f"https://{self.bucket}.s3.{region}.{suffix}", f"/{escaped}"

    def _refuse(self, reply: Reply, key: str, body: bytes, entry: Entry | None = None) -> NoReturn:
        """Raise what a reply means that is not the one hoped for."""
        url, status = self.url(key), reply.status
        code = body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode(errors="replace")
        if status == 412 or (status == 416 and entry is not None):
            raise ObjectChangedError(url, entry.etag if entry else None)
        if code in ("RequestTimeout", "SlowDown", "InternalError", "RequestTimeTooSkewed", "IncompleteBody"):
            raise TransientError(f"HTTP {status} {code}")
        at = f" at {self.endpoint}" if self.endpoint else ""
        if code == "NoSuchBucket":
            raise FileNotFoundError(f"there is no bucket s3://{self.bucket}{at}")
        if status == 404:
            raise FileNotFoundError(f"there is no object {url}{at}: it is not there, or not any more")
        if status in (401, 403):
            who = "without credentials" if self.anonymous else "with these credentials"
            raise PermissionError(
                f"{url}{at} may not be read or written {who} (HTTP {status} {code})".rstrip()
            )
        raise ConnectionError(f"{url}{at}: S3 answered HTTP {status} {code}".rstrip())


class S3Writer:
    """An object that is there when close() returns, sent in parts while it is written. Owned by one thread."""

    def __init__(self, store: S3Store, key: str) -> None:
        self._store, self._key = store, key
        self._data = bytearray()
        self._upload: str | None = None
        self._parts: list[str] = []

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._data += view
        # 10,000 parts at most: they grow, so that there is room for 5 TiB.
        size = PART_BYTES << (len(self._parts) // 1000)
        while len(self._data) >= size:
            self._send(bytes(self._data[:size]))
            del self._data[:size]
        return len(view)

    def close(self) -> None:
        if self._upload is None:
            data = bytes(self._data)
            self._call("PUT", {}, data, _checked(data))
            return
        if self._data:
            self._send(bytes(self._data))
        parts = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>"
            for n, etag in enumerate(self._parts, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = self._call("POST", {"uploadId": self._upload}, body)
        if b"<Error>" in answer:  # it may answer 200 before it fails
            raise OSError(
                f"{self._store.url(self._key)}: the upload failed: {answer[:300].decode(errors='replace')}"
            )

    def discard(self) -> None:
        self._data.clear()
        if self._upload is not None:
            self._call("DELETE", {"uploadId": self._upload})
            self._upload = None

    def _send(self, data: bytes) -> None:
        if self._upload is None:
            answer = self._call("POST", {"uploads": ""})
            self._upload = answer.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()
        number = str(len(self._parts) + 1)
        query = {"partNumber": number, "uploadId": self._upload}

        def put() -> str:
            with self._store._ask("PUT", self._key, query, _checked(data), data) as reply:
                answer = reply.read()
                if reply.status != 200:
                    self._store._refuse(reply, self._key, answer)
                return reply.headers.get("ETag", "")

        self._parts.append(patiently(self._store.url(self._key), put))

    def _call(
        self,
        method: str,
        query: dict[str, str],
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        return patiently(
            self._store.url(self._key),
            lambda: self._store._whole(method, self._key, query, self._key, body, headers),
        )


def _checked(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(digest).decode()}
