"""What is read of a process's output once it has ended."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from cloudpool.host.output import Source

MOST_READS = 1000


def test_a_process_left_behind_that_keeps_printing_is_not_read_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    r, w = os.pipe()
    os.set_blocking(w, False)
    reads, read = 0, os.read

    def read_beside_a_fast_writer(fd: int, size: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < MOST_READS
        with suppress(BlockingIOError):
            os.write(w, b"y\n" * 40_000)
        return read(fd, size)

    source = Source(1, r)
    monkeypatch.setattr(os, "read", read_beside_a_fast_writer)
    source.hurry()
    source.read()
    assert source.is_over
    os.close(r)
    os.close(w)


def test_all_that_a_process_has_printed_before_its_end_is_read() -> None:
    r, w = os.pipe()
    os.set_blocking(w, False)
    size = os.write(w, b"x" * (1 << 20))
    source = Source(1, r)
    source.hurry()
    assert len(source.read()) == size
    os.close(r)
    os.close(w)
