"""What a few compressed bytes swell to is not in memory at once; what is cut short is told of."""

import gzip
import os
import zlib

import pytest
from needed import needed

from cloudpool.chunking import partition
from cloudpool.errors import FormatError


def test_zstd_that_swells_is_given_in_small_buffers(store):
    zstd = needed("zstandard")
    size = 64 << 20
    (part,) = partition(store("bomb.bin.zst", zstd.compress(bytes(size))))
    sizes = [len(buffer) for buffer in part.buffers()]
    assert sum(sizes) == size
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize("plain", [b"", b"x" * 100_000, os.urandom(100_000), b"ab" * 7])
def test_zstd_that_ends_within_a_frame_is_told_of(store, plain):
    zstd = needed("zstandard")
    frame = zstd.compress(plain)
    whole = frame + frame
    for end in {0, len(frame), len(whole)}:
        (part,) = partition(store("x.bin.zst", whole[:end]))
        assert part.read() == plain * (end // len(frame))
    some = [*range(1, 30), *range(len(frame) - 30, len(frame)), *range(29, len(frame), 9973)]
    for end in {len(frame) + n for n in some if 0 < n < len(frame)}:
        (part,) = partition(store("x.bin.zst", whole[:end]))
        with pytest.raises(FormatError, match=r"x\.bin\.zst is broken as zstd, or cut short"):
            part.read()


def test_many_members_of_a_gzip_are_not_copied_over_and_over(store, monkeypatch):
    """Bytes that the inflaters take, as each copies what it leaves: a slice's for each member, and not a block's."""
    taken = []

    class Inflater:
        def __init__(self, *arguments):
            self._own = inflaters(*arguments)

        def decompress(self, data, *most):
            taken.append(len(data))
            return self._own.decompress(data, *most)

        def __getattr__(self, name):
            return getattr(self._own, name)

    inflaters = zlib.decompressobj
    member = gzip.compress(b"x" * 100, mtime=0)
    count = (1 << 20) // len(member)
    (part,) = partition(store("members.bin.gz", member * count))
    monkeypatch.setattr(zlib, "decompressobj", Inflater)
    assert part.read() == b"x" * 100 * count
    assert max(taken) <= 64 << 10
