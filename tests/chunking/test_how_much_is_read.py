"""Bytes that are fetched, and held, beyond those of a piece's own records."""

import itertools
import struct
import tracemalloc

import pytest
from hypothesis import given, settings, strategies as st
from needed import needed
from test_records import FULL, SIZES, TEXT, bgzipped

from cloudpool.chunking import delimited, partition
from cloudpool.chunking.formats.fastq import Fastq


def test_what_is_read_beyond_the_objects_is_the_rest_of_a_record_a_cut(store, fetched):
    """The rest of the record at a cut, in requests that begin at 1/64 of a piece and double: so at most twice the rest."""

    @FULL
    @given(TEXT, SIZES)
    def check(text, size):
        url = store("counted.txt", text.encode())
        parts = partition(url, chunk_size=size)
        longest = max(map(len, text.encode().split(b"\n"))) + 1
        fetched.clear()
        for part in parts:
            part.read()
        assert sum(fetched) <= len(text.encode()) + (len(parts) - 1) * (2 * longest + size // 64)

    check()


def seekable(texts):
    """zstd frames with a table of them, and where each frame ends."""
    zstandard = needed("zstandard")
    frames = [zstandard.compress(text.encode()) for text in texts]
    rows = b"".join(struct.pack("<II", len(f), len(t.encode())) for f, t in zip(frames, texts, strict=True))
    table = rows + struct.pack("<IBI", len(frames), 0, 0x8F92EAB1)
    data = b"".join(frames) + struct.pack("<II", 0x184D2A5E, len(table)) + table
    return data, list(itertools.accumulate(map(len, frames)))


def test_what_is_read_beyond_zstd_frames_is_those_that_the_rest_of_a_record_is_in(store, fetched):
    """Frames are decompressed from their start, and a frame is known to be whole by 1 KiB of what is behind it."""

    @FULL
    @given(st.lists(TEXT.filter(bool), min_size=1, max_size=12), SIZES)
    def check(texts, size):
        texts = [text * 200 for text in texts]
        data, ends = seekable(texts)
        plain = "".join(texts)
        plain_ends = list(itertools.accumulate(len(text.encode()) for text in texts))
        parts = partition(store("counted.txt.zst", data), chunk_size=size)
        for part in parts:
            fetched.clear()
            part.read()
            if part.stop == len(data):
                continue
            # The record at the cut ends with the first line feed behind it.
            cut = plain_ends[ends.index(part.stop)]
            end = plain.encode().find(b"\n", cut) + 1 or len(plain.encode())
            needed = next(n for n, at in enumerate(plain_ends) if at >= min(end + 1024, plain_ends[-1]))
            rest = ends[needed] - part.stop
            if needed == len(ends) - 1:
                rest = len(data) - part.stop
            assert sum(fetched) <= part.size + 2 * rest + part.size // 64 + 1

    check()


def test_what_is_read_beyond_bgzip_blocks_is_what_finds_the_first_and_those_of_a_record(store, fetched):
    @settings(FULL, max_examples=FULL.max_examples // 4)
    @given(st.integers(50, 600), st.integers(70, 5000), st.integers(5_000, 100_000))
    def check(count, block, size):
        text = b"".join(b"%d %d\n" % (n, n * n * 7919 % 100_003) for n in range(count * 20))
        for part in partition(store("counted.txt.bgz", bgzipped(text, block)), chunk_size=size):
            fetched.clear()
            part.read()
            # Four blocks' length to find the first; the one at the cut, and as short a line is at most one more.
            assert sum(fetched) <= max(part.size, 4 << 16) + part.size // 64 + 4 * (block + 100) + 1

    check()


LONG = 24 << 20


@pytest.mark.parametrize(
    ("name", "head", "separator", "format"),
    [
        ("long.txt", b"", b"\n", None),
        ("long.jsonl", b"", b"\n", None),
        ("long.fa", b">a\n", b"\n>b\n", None),
        ("long.bin", b"", b"<end>", delimited(b"<end>")),
        ("long.csv", b"h\n", b"\n", "csv"),
    ],
)
def test_a_record_longer_than_pieces_is_held_by_none_and_read_once(
    store, fetched, name, head, separator, format
):
    data = b"1" + separator + head + b"1" * LONG + separator + b"2" * 100
    how = {"newlines_in_values": False} if format == "csv" else {}
    parts = partition(store(name, data), chunk_size="4 MiB", format=format, **how)
    assert len(parts) > 5
    fetched.clear()
    tracemalloc.start()
    sizes = [sum(map(len, part.buffers())) for part in parts]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sizes) == len(data)
    assert [bool(size) for size in sizes[1:-1]] == [False] * (len(sizes) - 2)
    # The piece in which it begins goes on to its end, by requests that double: once more, and as much again at most.
    assert sum(fetched) <= 3 * len(data)
    assert peak <= 6 << 20  # buffers of 1 MiB, and as many copies as it takes


def test_planning_reads_nothing_of_what_can_be_cut_unread(store, fetched):
    for name in ("a.txt", "a.jsonl", "a.fa", "a.fq", "a.parquet", "a.npy", "a.zip", "a.bin", "a.bgz"):
        parts = partition(store(name, bytes(1000)), chunk_size=100)
        assert len(parts) == 10, name
    assert fetched == []


def test_a_format_that_has_a_boundary_of_its_own_is_asked_about_all_that_follows_a_cut():
    assert Fastq().keep is None

    class Own(type(delimited(b"|"))):
        def boundary(self, data, at_end):
            return super().boundary(data, at_end)

    assert Own(b"||x").keep is None
    assert delimited(b"||x").keep == 2
