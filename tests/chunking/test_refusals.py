"""What will not do is refused while planning where that can be known, else by the piece that reads it, with object and place."""

import gzip
import inspect
import io
import sys

import pytest
from needed import needed

from cloudpool.chunking import Format, partition
from cloudpool.chunking.formats import ARGUMENTS
from cloudpool.chunking.sizes import size_bytes
from cloudpool.chunking.stores import memory
from cloudpool.errors import FormatError, MissingExtraError, ObjectChangedError

# -- what will not do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("64 MiB", 64 << 20),
        ("64MB", 64_000_000),
        ("1.5 kib", 1536),
        ("7 B", 7),
        (12, 12),
        (".5 GB", 500_000_000),
    ],
)
def test_sizes(size, count):
    assert size_bytes("chunk_size", size) == count


@pytest.mark.parametrize("size", [0, -1, "0 B", "64 M", "many", "-3 MB", "", "1e3 B"])
def test_sizes_that_are_none_are_refused_while_planning(store, size):
    with pytest.raises(ValueError, match="chunk_size must be"):
        partition(store("x.txt", b"x"), chunk_size=size)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"chunk_size": 1.5}, TypeError, "whole number"),
        ({"chunk_size": 1, "chunks": 1}, TypeError, "chunk_size or chunks, not both"),
        ({"chunks": 0}, ValueError, "chunks must be at least 1"),
        ({"format": "xml"}, ValueError, "there is no format 'xml': choose one of bytes, text"),
        ({"compression": "rar"}, ValueError, "there is no compression 'rar'"),
        ({"encoding": "utf-16"}, ValueError, "utf-16 is no superset of ASCII: a line feed may be part"),
        ({"encoding": "utf-7"}, ValueError, "no superset of ASCII"),
        ({"encoding": "klingon"}, LookupError, "klingon"),
        ({"newline": "\r\n"}, ValueError, "newline must be"),
        ({"columns": 3}, TypeError, "partition\\(\\) as text: .*'columns'$"),
        ({"chunksize": 3}, TypeError, r"'chunksize'\. Did you mean 'chunk_size'\?$"),
        ({"compresion": "gzip"}, TypeError, r"Did you mean 'compression'\?$"),
        ({"format": "csv", "delimeter": ";"}, TypeError, r"'delimeter'.*\. Did you mean 'delimiter'\?$"),
        ({"format": "csv", "qouting": 1}, TypeError, r"'qouting'.*\. Did you mean 'quoting'\?$"),
        (
            {"format": Format(), "chunksize": 3},
            TypeError,
            r"made already: chunksize\. Did you mean 'chunk_size'\?$",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused_while_planning(store, arguments, error, said):
    with pytest.raises(error, match=said):
        partition(store("x.txt", b"x"), **arguments)


def test_a_misspelt_argument_for_a_sequence_is_told_of():
    with pytest.raises(TypeError, match=r"Did you mean 'chunks'\?$"):
        partition([1, 2, 3], chunk=2)


def test_all_arguments_of_partition_are_known_to_whom_looks_for_a_near_one():
    own = [
        name for name in inspect.signature(partition).parameters if name not in ("source", "format_options")
    ]
    assert sorted(ARGUMENTS) == sorted([*own, "compression"])


@pytest.mark.parametrize(
    "options", [{}, {"format": "csv"}, {"chunk_size": "64 MiB"}, {"chunks": 3, "pack": True}]
)
@pytest.mark.parametrize("none", [[], ()])
def test_no_urls_are_no_partitions_whatever_the_options(none, options):
    assert list(partition(none, **options)) == []


@pytest.mark.parametrize(
    "arguments", [{"format": "xml"}, {"compression": "rar"}, {"chunks": 0}, {"chunk_size": "many"}]
)
def test_arguments_are_checked_though_there_are_no_urls(arguments):
    with pytest.raises(ValueError):
        partition([], **arguments)


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("", ValueError, "not an empty text"),
        (["memory://x", ""], ValueError, "not an empty text"),
        ("s3://", ValueError, "no bucket in this URL"),
        ("https://", ValueError, "no host"),
        ("file://elsewhere/x", ValueError, "path of this machine"),
        ("memory://nothing/", FileNotFoundError, "no object under memory://nothing/"),
        ("memory://nothing/*.txt", FileNotFoundError, r"no object that matches nothing/\*\.txt"),
        ("/nowhere/at/all.txt", FileNotFoundError, "/nowhere/at/all.txt"),
        ("/nowhere/", FileNotFoundError, "/nowhere/"),
    ],
)
def test_urls_that_mean_nothing_are_refused_while_planning(url, error, said):
    with pytest.raises(error, match=said):
        partition(url)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"gs://bucket/ needs .* pip install .*\[gs\]'"):
        partition("gs://bucket/key")


def test_a_file_that_changes_is_an_error(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\n" * 1000)
    parts = partition(path, chunks=2)
    path.write_bytes(b"b\n" * 1000)
    with pytest.raises(ObjectChangedError, match=r"x\.txt has changed since partition\(\)"):
        parts[1].read()


BROKEN = [
    ("x.txt.gz", b"no gzip at all", "x.txt.gz is broken as gzip"),
    ("x.txt.gz", gzip.compress(b"abc\n" * 1000)[:-6], "x.txt.gz is cut short"),
    ("x.txt.bgz", b"\x1f\x8b\x08\x04" + b"\0" * 40, "byte 0: there is no bgzip block here"),
    ("x.parquet", b"PAR1 and no foot", r"x\.parquet, bytes 0 to 16 cannot be read as Parquet"),
    ("x.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", r"x\.npy is not NPY"),
    ("x.zip", b"PK and nothing", r"x\.zip cannot be read as zip"),
    ("x.tar", b"x" * 1000, r"x\.tar, bytes 0 to 1000 cannot be read as tar"),
    ("x.jsonl", b'{"a": 1}\n{"a":\n', r"x\.jsonl, bytes 0 to 15, line 2 of it is not JSON"),
    ("x.jsonl", b'"\xff"\n', r"x\.jsonl, bytes 0 to 4, line 1 of it is not JSON: 'utf-8'"),
    (
        "x.txt",
        b"a\n\xff\n",
        r"x\.txt, bytes 0 to 4 is not utf-8: invalid start byte, at b'\\xff\\n': say what .* encoding=",
    ),
    ("x.txt", b"a\n\xc3", r"x\.txt, bytes 0 to 3 is not utf-8: unexpected end of data"),
    ("x.csv", b"h\n\xff\n", r"x\.csv, bytes 0 to 4 is not utf-8"),
    ("x.fa", b">a\n\xff\n", r"x\.fa, bytes 0 to 5 is not utf-8"),
    (
        "x.csv",
        b"h\n" + b"x" * 200_000,
        r"x\.csv, bytes 0 to 200002, line 2 of it is not CSV: field larger than .*limit",
    ),
    ("x.fa", b"ACGT\n>x\n", "x.fa, bytes 0 to 8 is not FASTA: it begins with 'ACGT"),
    ("x.fq", b"@a\nACGT\n+\nII\n", "record 1 of it is not FASTQ: 4 bases have 2 qualities"),
]


@pytest.mark.parametrize(("name", "data", "said"), BROKEN)
def test_what_is_broken_is_an_error_that_names_the_object_and_the_place(store, name, data, said):
    if name.endswith("parquet"):
        needed("pyarrow")
    (part,) = partition(store(name, data))
    with pytest.raises(FormatError, match=said):
        list(part)


def test_a_header_that_is_no_text_or_no_csv_is_told_of(store):
    url = store("x.csv", b"\xff,b\n" + b"1,2\n" * 10)
    with pytest.raises(FormatError, match=r"x\.csv, its header, is not utf-8"):
        partition(url, chunk_size=20)[1].header  # noqa: B018
    url = store("x.csv", b"x" * 200_000 + b"\n1\n" * 10)
    with pytest.raises(FormatError, match=r"x\.csv, bytes .*is not CSV: field larger"):
        partition(url, chunk_size=200_010)[1].header  # noqa: B018


def test_parquet_whose_pages_are_broken_names_the_object(store):
    pa = needed("pyarrow")
    pq = needed("pyarrow.parquet")
    data = io.BytesIO()
    pq.write_table(pa.table({"s": [str(n) * 9 for n in range(5000)]}), data, use_dictionary=False)
    broken = bytearray(data.getvalue())
    for at, value in ((4, 0xFF), (60, 0xFF)):  # a page's head; compressed data
        broken = bytearray(data.getvalue())
        broken[at : at + 40] = bytes([value]) * 40
        (part,) = partition(store("x.parquet", bytes(broken)))
        with pytest.raises(FormatError, match=r"x\.parquet, bytes 0 to \d+ cannot be read as Parquet"):
            part.table()
        with pytest.raises(FormatError, match=r"x\.parquet, bytes 0 to \d+ cannot be read as Parquet"):
            list(part)


def test_what_a_store_raises_beneath_pyarrow_stays_what_it_is(store):
    needed("pyarrow")
    (part,) = partition(store("x.parquet", b"PAR1 and no foot"))
    store("x.parquet", b"PAR1 and another")
    with pytest.raises(ObjectChangedError):
        list(part)


def test_what_is_inside_a_gzip_must_be_read_from_front_to_back(store):
    with pytest.raises(ValueError, match=r"cannot be inside of gzip"):
        partition(store("x.npy.gz", b""))


def test_compression_is_seen_by_its_first_bytes_where_the_name_does_not_tell(store):
    url = store("plain.txt", gzip.compress(b"a\nb\n"))
    assert list(partition(url)[0]) == ["a\n", "b\n"]
    assert partition(url, format="bytes")[0].read() == memory.OBJECTS["plain.txt"]
    with pytest.raises(
        FormatError, match="compressed by gzip, though its name does not say so: pass compression='gzip'"
    ):
        list(partition(url, chunk_size=5)[0])
    assert list(partition(url, chunk_size=5, compression="gzip")[0]) == ["a\n", "b\n"]


def test_small_gzips_are_not_looked_into_while_planning(store, fetched):
    urls = [store(f"{n}.txt.gz", gzip.compress(b"x\n")) for n in range(5)]
    assert len(partition(urls, chunk_size="1 MiB")) == len(partition(urls, chunks=5)) == 5
    assert fetched == []
