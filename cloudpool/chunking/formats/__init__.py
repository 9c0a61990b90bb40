"""What a record is. A format is one small class; the name of an object or `format=` chooses it.

A format of lines, blocks or the like says what is between records (`separator`), or where the first one after a cut begins
(`boundary`), and makes records of a file of whole ones (`records`). One that has an index of its own (Parquet, zip) reads from the object what it finds there
(`read`). Other packages bring theirs by an entry point in the group "cloudpool.formats".
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from cloudpool.chunking.piece import Partition

__all__ = ["Format", "find", "format_of_name"]

DEFAULT_CHUNK_BYTES = 64 << 20

# name -> module and class, imported when it is chosen
BUILT_IN = {
    "bytes": "bytes:Bytes",
    "text": "text:Text",
    "csv": "csv:Csv",
    "tsv": "csv:Tsv",
    "jsonl": "jsonl:JsonLines",
    "fasta": "fasta:Fasta",
    "fastq": "fastq:Fastq",
    "parquet": "parquet:Parquet",
    "npy": "npy:Npy",
    "zip": "zip:Zip",
    "tar": "tar:Tar",
}
SUFFIXES = {
    "txt": "text", "text": "text", "log": "text", "md": "text", "csv": "csv", "tsv": "tsv", "tab": "tsv",
    "jsonl": "jsonl", "ndjson": "jsonl", "fasta": "fasta", "fa": "fasta", "fna": "fasta", "faa": "fasta", "ffn": "fasta",
    "fastq": "fastq", "fq": "fastq", "parquet": "parquet", "pq": "parquet", "npy": "npy", "zip": "zip", "tar": "tar",
    "tgz": "tar",
}  # fmt: skip

# partition()'s own arguments, which a misspelt option may have meant
ARGUMENTS = (
    "format", "chunk_size", "chunks", "include", "exclude", "pack", "index", "endpoint_url", "anonymous",
    "storage_options", "compression",
)  # fmt: skip


class Format:
    """What formats have in common. Made once a call of partition(), by its options; pickled with the partitions."""

    splits = True  # it can begin in the middle of an object
    piece_bytes: int | None = DEFAULT_CHUNK_BYTES  # of a piece where nobody says; None: an object is a piece
    compressible = True  # it reads from front to back, so what is in a gzip will do
    scans = False  # it has to read an object to know where it can be cut: cuts()
    text = True  # what begins as a gzip does is not of this format, but compressed
    ending = b""  # put between objects in one file, where the one before does not end so
    joins = True  # files of it, one behind the other, are a file of it
    exact = False  # the places of cuts() are where records begin
    separator: bytes | None = None  # a record begins behind each of these, or at its last `opening` bytes
    opening = 0

    def boundary(self, data: bytearray, at_end: bool) -> int | None:
        """Where the first record begins in `data`, the bytes after a cut; None: more bytes are needed.

        Must say the same however much follows. `at_end`: there is no more; len(data) then means that no record begins.
        By the separator; overridden by formats that have none.
        """
        assert self.separator is not None, "a format has a separator, or a boundary() of its own"
        found = data.find(self.separator)
        if found >= 0:
            return found + len(self.separator) - self.opening
        return len(data) if at_end else None

    @property
    def keep(self) -> int | None:
        """As ownership.owned() takes it: what a separator may have begun in."""
        if self.separator is None or type(self).boundary is not Format.boundary:
            return None
        return len(self.separator) - 1

    @property
    def anywhere(self) -> bool:
        """Whether it can be cut between any two bytes, so that nobody needs to look for a boundary."""
        return False

    def records(self, part: Partition, file: io.BufferedReader) -> Iterator[Any]:
        """The records in `file`, which holds whole ones."""
        raise NotImplementedError

    def read(self, part: Partition) -> Iterator[Any]:
        """The records of a partition: overridden by formats that read the object by an index."""
        # No generator around it: of text, the lines come from C. The file is closed when the iterator goes.
        return self.records(part, part.open_records())

    def open(self, part: Partition) -> io.BufferedReader:
        """The partition as a file of its format: overridden by those that have something before the records."""
        return part.open_records()

    def open_next(self, part: Partition, first: Partition) -> io.BufferedReader:
        """A whole object behind others in one file, of which `first` is the first: overridden by those that have a header."""
        return self.open(part)

    def cuts(self, part: Partition, size: int) -> list[int] | None:
        """Places to cut a whole object (`part`) at, about `size` apart, for a format that has to read it to know; else None."""
        return None

    def __repr__(self) -> str:
        options = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if not hasattr(Format, name)
        )
        return f"{type(self).__name__}({options})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def find(name: str, options: dict[str, Any]) -> Format:
    """A format by its name, made with its options. Raises ValueError for a name that nobody knows, TypeError for options."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        kind = getattr(import_module(f"cloudpool.chunking.formats.{module}"), attribute)
    else:
        found = _brought(name)
        if not found:
            others = sorted({point.name for point in _brought()})
            raise ValueError(f"there is no format {name!r}: choose one of {', '.join([*BUILT_IN, *others])}")
        kind = found[0].load()
    try:
        made: Format = kind(**options)
    except TypeError as error:
        import inspect  # for errors alone

        said = str(error).rpartition("__init__() ")[2].partition(". Did you mean")[0]
        known = [*ARGUMENTS, *inspect.signature(kind).parameters, *getattr(kind, "OPTIONS", ())]
        raise TypeError(f"partition() as {name}: {said}{did_you_mean(options, known)}") from None
    return made


def did_you_mean(names: Iterable[str], known: Iterable[str]) -> str:
    """What to add to an error about names of which some may be misspelt."""
    import difflib  # for errors alone

    known = list(known)
    near = [
        repr(other)
        for name in names
        if name not in known
        for other in difflib.get_close_matches(name, known, 1, 0.75)
    ]
    return f". Did you mean {', '.join(near)}?" if near else ""


def format_of_name(key: str) -> str:
    """The format that the last part of a key means: by its suffix; text where there is none, bytes for one unknown."""
    stem, dot, suffix = key.rpartition("/")[2].rpartition(".")
    if not dot or not stem:
        return "text"
    if suffix.lower() in SUFFIXES:
        return SUFFIXES[suffix.lower()]
    return suffix.lower() if _brought(suffix.lower()) else "bytes"


@cache
def _brought(name: str | None = None) -> list[EntryPoint]:
    """Formats of other packages. Looking through all that are installed takes milliseconds, and objects are many."""
    from importlib.metadata import entry_points  # 2 MiB that few need

    points = entry_points(group="cloudpool.formats")
    return list(points if name is None else points.select(name=name))
