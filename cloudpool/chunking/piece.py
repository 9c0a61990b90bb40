"""Partition: a piece of an object, whose records it iterates over; Pack: several small objects in one piece."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from cloudpool.chunking.compression import Codec, find_codec, seen
from cloudpool.chunking.formats import Format
from cloudpool.chunking.output import Output
from cloudpool.chunking.ownership import owned
from cloudpool.chunking.stores import Entry, Store
from cloudpool.chunking.stores.retries import patiently
from cloudpool.chunking.stream import Flow, RandomAccess, blocks, steps
from cloudpool.errors import FormatError

BUFFER_BYTES = 1 << 20
SEEK_BUFFER_BYTES = 128 << 10


@dataclass(frozen=True)
class Source:
    """What the partitions of one call share."""

    store: Store
    format: Format
    codec: Codec | None = None
    sniffs: bool = False  # nobody has said how it is compressed, so its first bytes may


class Partition:
    """The records of an object that begin between two places in it. Made by partition(); reads nothing before it is asked to.

    Iterating gives the records of its format, as often as one likes. `start` and `stop` are where the object was cut: the
    records are those between the first record's start after either.
    """

    def __init__(
        self, source: Source, entry: Entry, index: int, start: int, stop: int, exact: bool = False
    ) -> None:
        self._source, self._entry, self._exact = source, entry, exact
        self.index, self.start, self.stop = index, start, stop

    def __reduce__(self) -> tuple[Any, ...]:
        return Partition, (self._source, self._entry, self.index, self.start, self.stop, self._exact)

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return self._source.store.url(self._entry.key)

    @property
    def size(self) -> int:
        """Bytes between start and stop."""
        return self.stop - self.start

    @property
    def object_size(self) -> int:
        return self._entry.size

    @property
    def etag(self) -> str | None:
        """The object's version: reading fails when it is another by then."""
        return self._entry.etag

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What the store keeps with the object, as its user set it. Asks the store, once."""
        if self._entry.metadata is not None:
            return self._entry.metadata
        store, key = self._source.store, self._entry.key
        return patiently(self.url, lambda: store.head(key)).metadata or {}

    @property
    def format(self) -> Format:
        return self._source.format

    @property
    def whole(self) -> bool:
        """It is the object, uncut."""
        return self.start == 0 and self.stop == self.object_size

    @property
    def where(self) -> str:
        """For errors: the object, and which bytes of it."""
        return f"{self.url}, bytes {self.start} to {self.stop}"

    def __repr__(self) -> str:
        cut = "" if self.whole else f", bytes {self.start} to {self.stop} of {self.object_size}"
        return f"<Partition {self.index}: {self.url}{cut}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partition) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self.url, self.etag, self.index, self.start, self.stop

    # -- what is in it ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return self.format.read(self)

    def open(self) -> io.BufferedReader:
        """The piece as a file of its format, which csv, pandas or numpy read: of CSV, it begins with the header."""
        return self.format.open(self)

    def read(self) -> bytes:
        """All of open()."""
        with self.open() as file:
            return file.read()

    @property
    def header(self) -> list[str]:
        """The first row of the CSV object that this is a piece of."""
        return self._of_format("header", "CSV")  # type: ignore[no-any-return]

    def array(self) -> Any:
        """The piece's rows of an NPY object, as a numpy array."""
        return self._of_format("array", "NPY")

    def table(self) -> Any:
        """The piece's row groups of a Parquet object, as a pyarrow.Table."""
        return self._of_format("table", "Parquet")

    def _of_format(self, what: str, kind: str) -> Any:
        if not hasattr(self.format, what):
            raise AttributeError(f"{self.url} is not {kind}: a partition of {self.format!r} has no {what}")
        return getattr(self.format, what)(self)

    def output(self, url: str, *, suffix: str = "", **place: Any) -> Output:
        """A file to write this piece's result to: `url` + "part-00003" + suffix. It appears whole, or not at all.

        Use it as `with part.output(...) as file`: when the block ends well, or by file.commit(), the file is there; close()
        alone leaves nothing. The name is the partition's, so a task that runs twice leaves one object. With `encoding` it takes
        text. `place` is that, and endpoint_url, anonymous and storage_options, as partition() takes them.
        """
        return Output.of(self.index, url, suffix, place)

    # -- for formats --------------------------------------------------------------------------------------------------

    def open_records(self) -> io.BufferedReader:
        """The bytes of the piece's records, decompressed: a file to be read from front to back."""
        return io.BufferedReader(Flow(self.buffers, self.url), BUFFER_BYTES)

    def open_object(self) -> io.BufferedReader:
        """The object's bytes from its start to its end, as they are stored: a file that seeks."""
        return io.BufferedReader(self.raw_object(), SEEK_BUFFER_BYTES)

    def raw_object(self) -> RandomAccess:
        return RandomAccess(self._source.store, self._entry, 0, self.object_size)

    def open_from_start(self) -> io.BufferedReader:
        """The object's bytes from the piece's start to the object's end, as they are stored: a file that seeks."""
        store, entry = self._source.store, self._entry
        return io.BufferedReader(RandomAccess(store, entry, self.start, entry.size), SEEK_BUFFER_BYTES)

    def blocks(self, start: int, stop: int) -> Iterator[memoryview]:
        """The object's bytes [start, stop)."""
        return blocks(self._source.store, self._entry, start, stop)

    @property
    def compressed(self) -> bool:
        return self._source.codec is not None

    def open_start(self) -> io.BufferedReader:
        """The object from its start on, decompressed, in small steps: for a header."""
        codec = self._source.codec
        store, entry = self._source.store, self._entry

        def start() -> Iterator[memoryview]:
            return (
                steps(store, entry, 0, 4096) if codec is None else codec.flows(store, entry, 0, entry.size)[0]
            )

        return io.BufferedReader(Flow(start, self.url), 4096)

    def buffers(self) -> Iterator[memoryview]:
        """What open_records() reads: each buffer is good until the next one is asked for."""
        store, entry, codec = self._source.store, self._entry, self._source.codec
        if codec is None:
            own: Iterator[memoryview] = blocks(store, entry, self.start, self.stop)
            if self._source.sniffs and self.start == 0 and self.format.text:
                own, compression = seen(own)
                if compression is not None:
                    codec = self._as_seen(compression)
                    own.close()  # type: ignore[attr-defined] # a generator
        if codec is None:
            if self._exact or self.format.anywhere:
                yield from own
                return
            beyond: Iterator[memoryview] = steps(store, entry, self.stop, self.size // 64)
        else:
            own, beyond = codec.flows(store, entry, self.start, self.stop)
        yield from owned(own, beyond, self._boundary, self.start == 0, self.format.keep)

    def _as_seen(self, compression: str) -> Codec:
        """The codec for an object that is compressed though its name does not say so, if it is not too late to know."""
        if not self.whole or self._exact:
            raise FormatError(
                f"{self.url} is compressed by {compression}, though its name does not say so: pass "
                f"compression={compression!r} to partition()"
            )
        return find_codec(compression, False)

    def _boundary(self, data: bytearray, at_end: bool) -> int | None:
        try:
            return self.format.boundary(data, at_end)
        except FormatError as error:
            raise FormatError(f"{self.where}: {error}") from None


class Pack:
    """Several whole objects as one piece: what iterates over a Partition does over all of theirs, in order."""

    def __init__(self, parts: list[Partition], index: int) -> None:
        self.parts = parts
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return Pack, (self.parts, self.index)

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self.parts)

    @property
    def url(self) -> str:
        """The first object's; `parts` has them all."""
        return self.parts[0].url

    start = 0

    @property
    def stop(self) -> int:
        return self.size

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    object_size = size

    def open(self) -> io.BufferedReader:
        """The objects one behind the other, as a file of their format: of CSV, with one header.

        Raises TypeError for formats of which several files are none (NPY, Parquet, zip, tar).
        """
        for part in self.parts:
            if not part.format.joins:
                raise TypeError(
                    f"{part.url} and others, of {part.format!r}, are no file together: iterate, or open each of .parts"
                )
        return io.BufferedReader(
            Flow(self._files, f"{self.url} and {len(self.parts) - 1} more"), BUFFER_BYTES
        )

    def _files(self) -> Iterator[bytes]:
        first = next((part for part in self.parts if part.size), None)  # whose header it is
        last = b""  # the last byte so far
        for part in self.parts:
            with part.format.open_next(part, first) if first and part is not first else part.open() as file:
                ending = part.format.ending
                if last and last != ending and ending and file.peek(1):
                    yield ending
                while buffer := file.read1(BUFFER_BYTES):
                    yield buffer
                    last = buffer[-1:]

    def read(self) -> bytes:
        """All of open()."""
        with self.open() as file:
            return file.read()

    def output(self, url: str, *, suffix: str = "", **place: Any) -> Output:
        """As Partition.output."""
        return Output.of(self.index, url, suffix, place)

    def __repr__(self) -> str:
        return f"<Pack {self.index}: {len(self.parts)} objects, {self.size} bytes, {self.url} first>"
