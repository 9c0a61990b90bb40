"""Objects of a web server: `https://host/path`. One at a time: there is nothing to list."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

from cloudpool.chunking.stores import Entry, Writer
from cloudpool.chunking.stores.http import Reply, request
from cloudpool.errors import ObjectChangedError

MOST_REDIRECTS = 10
SAFE = "%/?:@!$&'()*+,;=~[]"  # what a URL may have; what is escaped in it stays so
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class WebStore:
    """One host. Its options are sent as headers with each request."""

    origin: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    prefixes = False

    @classmethod
    def of(cls, scheme: str, netloc: str, options: dict[str, str]) -> WebStore:
        """`netloc` may begin with name:password@, which is sent as a header and never shown."""
        user, _, host = netloc.rpartition("@")
        if user and "authorization" not in map(str.lower, options):
            said = base64.b64encode(unquote_to_bytes(user)).decode()
            options = {**options, "Authorization": f"Basic {said}"}
        return cls(f"{scheme}://{host}", tuple(options.items()))

    def url(self, key: str) -> str:
        return self.origin + key

    def list(self, prefix: str, depth: int | None = None, hidden: bool = True) -> Iterator[Entry]:
        raise ValueError(f"{self.url(prefix)}: a web server lists nothing; name each object")

    def head(self, key: str) -> Entry:
        """By a GET of no more than the first byte: servers that answer it answer ranges, and some refuse HEAD."""
        with self._get(key, None, 0, 1) as (entry, reply):
            if entry is None:
                raise ValueError(
                    f"{self.url(key)}: the server does not say how long this is (no Content-Length)"
                )
            reply.fill(memoryview(bytearray(1)))  # so that the connection is free again
            return entry

    def read_into(self, entry: Entry, start: int, view: memoryview) -> int:
        with self.reply(entry, start, start + len(view)) as reply:
            return reply.fill(view)

    @contextmanager
    def reply(self, entry: Entry, start: int, stop: int) -> Iterator[Reply]:
        with self._get(entry.key, entry, start, stop) as (_, reply):
            yield reply

    def writer(self, key: str) -> Writer:
        raise ValueError(f"{self.url(key)}: a web server takes no output")

    @contextmanager
    def _get(
        self, key: str, known: Entry | None, start: int, stop: int
    ) -> Iterator[tuple[Entry | None, Reply]]:
        """The object as it is now, None when the server does not say how long it is, and the reply with its bytes."""
        headers = {**dict(self.headers), "Range": f"bytes={start}-{stop - 1}"}
        headers["Accept-Encoding"] = "identity"
        if known and known.etag:
            # Where there is no strong etag, the date of the last change stands for it.
            headers["If-Match" if known.etag.startswith('"') else "If-Unmodified-Since"] = known.etag
        url = self.url(key)
        for _ in range(MOST_REDIRECTS):
            at = urlsplit(url)
            target = quote(at.path + (f"?{at.query}" if at.query else ""), safe=SAFE)
            host = at.netloc.rpartition("@")[2]
            with request("GET", f"{at.scheme}://{host}", target or "/", headers) as reply:
                if reply.status in REDIRECTS and reply.headers.get("Location"):
                    reply.read()
                    url = urljoin(url, reply.headers["Location"])
                    headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
                    continue
                yield self._entry(reply, key, known, start), reply
                return
        raise ConnectionError(f"{self.url(key)}: more than {MOST_REDIRECTS} redirections")

    def _entry(self, reply: Reply, key: str, known: Entry | None, start: int) -> Entry | None:
        """What the head says; what is before `start` has been read then."""
        reply.check_passing()
        size = None
        if reply.status == 206:
            size = reply.total(self.url(key), start)
        elif reply.status == 200:  # no ranges here: what is before has to be read as well
            length = reply.headers.get("Content-Length", "")
            size = int(length) if length.isdigit() else None
        elif reply.status == 416 and not known:
            reply.read()
            total = reply.headers.get("Content-Range", "").rpartition("/")[2]
            return Entry(key, int(total) if total.isdigit() else 0, None, {})
        elif reply.status in (412, 416):
            raise ObjectChangedError(self.url(key), known.etag if known else None)
        else:
            self._refuse(reply, key)
        etag = reply.headers.get("ETag")
        changed = reply.headers.get("Last-Modified")
        if etag and not etag.startswith('"'):  # a weak one, W/"...", never matches
            etag = None
        now = etag if known and known.etag and known.etag.startswith('"') else changed
        if known and (size not in (None, known.size) or (known.etag and now and now != known.etag)):
            raise ObjectChangedError(self.url(key), known.etag)
        if reply.status == 200 and start:
            waste = memoryview(bytearray(min(start, 1 << 20)))
            while start and (got := reply.fill(waste[: min(start, len(waste))])):
                start -= got
        return None if size is None else Entry(key, size, etag or changed, dict(reply.headers.items()))

    def _refuse(self, reply: Reply, key: str) -> NoReturn:
        url = self.url(key)
        if reply.status in (404, 410):
            raise FileNotFoundError(f"there is no {url} (HTTP {reply.status})")
        if reply.status in (401, 403):
            raise PermissionError(
                f"{url} may not be read (HTTP {reply.status}): storage_options are sent as headers"
            )
        raise ConnectionError(f"{url}: the server answered HTTP {reply.status}")
