"""From URLs to a plan: which objects there are, and where each is cut. One LIST a thousand objects, and reads only for what
cannot be cut unseen."""

from __future__ import annotations

import fnmatch
import heapq
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cloudpool.chunking.compression import Codec, codec_of_name, find_codec
from cloudpool.chunking.formats import (
    ARGUMENTS,
    DEFAULT_CHUNK_BYTES,
    Format,
    did_you_mean,
    find,
    format_of_name,
)
from cloudpool.chunking.parts import Cut, Packed
from cloudpool.chunking.piece import Partition, Source
from cloudpool.chunking.stores import Entry, Location, Store, locate
from cloudpool.chunking.stores.retries import fill, patiently

GLOB = re.compile(r"[*?\[]")
HIDDEN = re.compile(r"/[._]")  # as Spark, Hive and Arrow have it
AT_ONCE = 8  # requests while planning: for lists of URLs


@dataclass
class Request:
    """What partition() was asked for."""

    format: str | Format | None = None
    compression: str | None = None
    index: bool = False
    chunk_bytes: int | None = None
    chunks: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    pack: bool = False
    place: dict[str, Any] = field(default_factory=dict)  # arguments of locate()
    options: dict[str, Any] = field(default_factory=dict)  # of the format


def plan(urls: list[str | os.PathLike[str]], request: Request) -> list[Cut | Packed]:
    """The cuts of all objects that the URLs mean. Raises FileNotFoundError, PermissionError, ValueError, FormatError."""
    sources = Sources(request)
    found = [
        (store, entry) for store, entry in objects(urls, request.place)
        if chosen(entry.key, request.include, request.exclude)
    ]  # fmt: skip
    if not found and urls:
        what = "left by include and exclude" if request.include or request.exclude else "there"
        raise FileNotFoundError(f"no object is {what}: {', '.join(map(str, urls[:3]))}")
    cuts = [
        Cut(sources.of(store, entry, compression), entry)
        for (store, entry), compression in zip(found, compressions(found, request), strict=True)
    ]
    cuts = shares(cuts, request)
    return packed(cuts, request) if request.pack else list(cuts)


# -- which objects ------------------------------------------------------------------------------------------------------


def objects(urls: Iterable[str | os.PathLike[str]], place: dict[str, Any]) -> Iterator[tuple[Store, Entry]]:
    """The objects of each URL in turn."""
    locations = [locate(url, **place) for url in urls]
    if len(locations) == 1:
        yield from _meant(locations[0])
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(lambda location: list(_meant(location)), locations):
            yield from found


def _meant(location: Location) -> Iterator[tuple[Store, Entry]]:
    """An object by that name; else those under it as a prefix; a glob's matches."""
    store, key = location.store, location.key
    if not store.prefixes:
        yield store, patiently(store.url(key), lambda: store.head(key))
        return
    if key and not key.endswith("/"):
        try:  # first of all as a name: a key may have any character, those of globs as well
            entry = patiently(store.url(key), lambda: store.head(key))
        except (FileNotFoundError, NotADirectoryError):
            if not GLOB.search(key):
                try:
                    under = list(_files(store.list(key + "/", hidden=False), key + "/"))
                except FileNotFoundError:
                    under = []
                if not under:
                    raise
                yield from ((store, entry) for entry in under)
                return
        except IsADirectoryError:
            key += "/"
        else:
            yield store, entry
            return
    magic = GLOB.search(key)
    if magic is None:
        found = _files(store.list(key, hidden=False), key)
    else:
        pattern = glob(key, hides=True)
        depth = None if "**" in key else key.count("/", magic.start())
        listed = store.list(key[: magic.start()], depth)
        found = (entry for entry in _files(listed) if pattern.fullmatch(entry.key))
    none = True
    for entry in found:
        none = False
        yield store, entry
    if none:
        what = f"no object under {store.url(key)}" if magic is None else f"no object that matches {key}"
        raise FileNotFoundError(f"there is {what} (those whose names begin with . or _ must be named)")


def _files(entries: Iterable[Entry], folder: str | None = None) -> Iterator[Entry]:
    """Without the empty objects that stand for folders, and without what is hidden in the folder."""
    for entry in entries:
        if entry.key.endswith("/") and not entry.size:
            continue
        if folder is None or not HIDDEN.search("/" + entry.key[len(folder) :]):
            yield entry


@lru_cache(maxsize=256)
def glob(pattern: str, hides: bool = False) -> re.Pattern[str]:
    """* and ? stop at a slash, ** does not. `hides`: none of them is the . or _ that a name begins with."""
    parts = []
    shown = "(?:(?<=[^/])|(?![._]))" if hides else ""
    any_path = "(?:[^/]|/(?![._]))*" if hides else ".*"
    for word in re.split(r"(\*\*/?|\*|\?|\[[^]]+\])", pattern):
        match word:
            case "**/":
                parts.append(f"(?:{shown}{any_path}/)?")
            case "**":
                parts.append(shown + any_path)
            case "*":
                parts.append(shown + "[^/]*")
            case "?":
                parts.append(shown + "[^/]")
            case _ if word.startswith("[") and word.endswith("]") and len(word) > 2:
                parts.append(shown + fnmatch.translate(word)[4:-3])
            case _:
                parts.append(re.escape(word))
    return re.compile("".join(parts), re.DOTALL)


def chosen(key: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    """Globs without a slash are of the last part of the key, others of all of it or its end."""
    if include and not any(_matches(key, pattern) for pattern in include):
        return False
    return not any(_matches(key, pattern) for pattern in exclude)


def _matches(key: str, pattern: str) -> bool:
    if "/" not in pattern:
        return glob(pattern).fullmatch(key.rpartition("/")[2]) is not None
    return glob(pattern).fullmatch(key) is not None or glob("**/" + pattern).fullmatch(key) is not None


# -- what they are ------------------------------------------------------------------------------------------------------


class Sources:
    """The source of each object: what partitions of the same store, format and compression share."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._codecs: dict[str, Codec] = {}
        self._formats: dict[str, Format] = {}
        self._made: dict[tuple[Store, int, str | None], Source] = {}
        # Before any object is looked at: there may be none.
        if isinstance(request.format, str):
            self._formats[request.format] = find(request.format, request.options)
        if request.compression not in (None, "none"):
            self._codecs[request.compression] = find_codec(request.compression, request.index)

    def of(self, store: Store, entry: Entry, compression: str | None) -> Source:
        codec = None
        if compression is not None:
            codec = self._codecs.setdefault(compression, find_codec(compression, self._request.index))
        name = name_of(store, entry)
        format = self._format(name.rpartition(".")[0] if codec_of_name(name) else name, entry)
        if codec is not None and not format.compressible:
            raise ValueError(
                f"{store.url(entry.key)}: {format!r} is read from many places, so it cannot be inside of {compression}; "
                f"decompress the object first"
            )
        key = store, id(format), compression
        if key not in self._made:
            self._made[key] = Source(store, format, codec, self._request.compression is None)
        return self._made[key]

    def _format(self, name: str, entry: Entry) -> Format:
        wanted = self._request.format
        if isinstance(wanted, Format):
            if self._request.options:
                names = self._request.options
                raise TypeError(
                    f"options of a format that is made already: {', '.join(names)}{did_you_mean(names, ARGUMENTS)}"
                )
            return wanted
        if wanted is None:
            wanted = "tar" if entry.key.lower().endswith(".tgz") else format_of_name(name)
        if wanted not in self._formats:
            self._formats[wanted] = find(wanted, self._request.options)
        return self._formats[wanted]


def compressions(found: list[tuple[Store, Entry]], request: Request) -> list[str | None]:
    """Of each object: as asked, or by name; and where that leaves open whether it can be cut by its first bytes."""
    if request.compression is not None:
        return [None if request.compression == "none" else request.compression] * len(found)
    chunks = (request.chunks or 0) > len(found)
    named = [codec_of_name(name_of(store, entry)) for store, entry in found]
    open_ones = [
        n for n, (_, entry) in enumerate(found)
        if named[n] == "gzip" and entry.size > 18
        and (entry.size > request.chunk_bytes if request.chunk_bytes else chunks)
    ]  # fmt: skip
    with ThreadPoolExecutor(AT_ONCE) as pool:  # its threads start when there is one
        for n, blocked in zip(open_ones, pool.map(lambda n: _is_bgzip(*found[n]), open_ones), strict=True):
            if blocked:
                named[n] = "bgzip"
    return named


def _is_bgzip(store: Store, entry: Entry) -> bool:
    """bgzip's files are .gz, too."""
    head = bytearray(18)
    fill(store, entry, 0, memoryview(head))
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:16] == b"BC\x02\x00"


def name_of(store: Store, entry: Entry) -> str:
    """What has the suffixes: of a web server's URL, the path."""
    return entry.key if store.prefixes else entry.key.partition("?")[0]


# -- where they are cut -------------------------------------------------------------------------------------------------


def shares(cuts: list[Cut], request: Request) -> list[Cut]:
    """Each object with its places: pieces of a size, a number of pieces shared out by size, or what its format says."""
    if request.chunks is None:
        sizes = [request.chunk_bytes or cut.source.format.piece_bytes or 0 for cut in cuts]
    else:
        counts = shared_out([cut.entry.size if _splits(cut.source) else 0 for cut in cuts], request.chunks)
        sizes = [
            -(-cut.entry.size // count) if count > 1 else 0 for cut, count in zip(cuts, counts, strict=True)
        ]
    with ThreadPoolExecutor(AT_ONCE) as pool:  # its threads start when something has to be read
        jobs: list[Cut | Future[Cut]] = []
        for cut, size in zip(cuts, sizes, strict=True):
            if not size or cut.entry.size <= size:
                jobs.append(cut)
            elif request.chunk_bytes is None and request.chunks is None and _needs_reading(cut.source):
                jobs.append(cut)  # nobody asked, and it is not for nothing
            elif cut.source.codec is None and not _needs_reading(cut.source):
                jobs.append(Cut(cut.source, cut.entry, size) if cut.source.format.splits else cut)
            else:
                jobs.append(pool.submit(placed, cut, size))
        return [job if isinstance(job, Cut) else job.result() for job in jobs]


def _splits(source: Source) -> bool:
    return source.format.splits or _needs_reading(source)


def _needs_reading(source: Source) -> bool:
    return source.codec is not None or source.format.scans


def placed(cut: Cut, size: int) -> Cut:
    """A cut at places that are found by reading the object; the object whole, where there are none."""
    source, entry = cut.source, cut.entry
    if source.codec is not None:
        found = source.codec.cuts(source.store, entry, size) if source.format.splits else None
        if found is None:
            return cut
        codec, places = found
        return Cut(Source(source.store, source.format, codec), entry, 0, (0, *places, entry.size))
    at = source.format.cuts(Partition(source, entry, 0, 0, entry.size), size)
    return cut if at is None else Cut(source, entry, 0, (0, *at, entry.size), source.format.exact)


def shared_out(sizes: list[int], chunks: int) -> list[int]:
    """How many pieces each object gets of `chunks`: at least one, then those whose pieces are the largest."""
    counts = [1] * len(sizes)
    line = [(-float(size), n) for n, size in enumerate(sizes) if size > 1]
    heapq.heapify(line)
    for _ in range(chunks - len(sizes)):
        if not line:
            break
        _, n = heapq.heappop(line)
        counts[n] += 1
        if counts[n] < sizes[n]:
            heapq.heappush(line, (-sizes[n] / counts[n], n))
    return counts


def packed(cuts: list[Cut], request: Request) -> list[Cut | Packed]:
    """Consecutive objects that are one piece each go together, up to the size of a piece."""
    if request.chunks is not None:
        total = sum(cut.entry.size for cut in cuts)
        most = -(-total // request.chunks)
    else:
        most = request.chunk_bytes or DEFAULT_CHUNK_BYTES
    made: list[Cut | Packed] = []
    together: list[Cut] = []

    def finish() -> None:
        if together:
            made.append(Packed(tuple(together)) if len(together) > 1 else together[0])
            together.clear()

    size = 0
    for cut in cuts:
        if len(cut) > 1:
            finish()
            made.append(cut)
            continue
        if not together or size + cut.entry.size > most:
            finish()
            size = 0
        together.append(cut)
        size += cut.entry.size
    finish()
    return made
