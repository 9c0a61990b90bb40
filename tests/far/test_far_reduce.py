"""map_reduce() over far hosts: partial results go from host to host, and not through the root."""

from __future__ import annotations

import random

from cloudpool.chunking import map_reduce, partition
from cloudpool.store.wire import Connection

LARGE = 500_000
PARTS = 20


def noise(part):
    """Large, and not to be compressed."""
    (number,) = part
    return random.Random(number).randbytes(LARGE)


def greatest(values):
    return max(values)


def test_partial_results_do_not_go_through_the_root(far, monkeypatch):
    received = []
    more = Connection._more

    def counted(self):
        data = more(self)
        received.append(len(data))
        return data

    monkeypatch.setattr(Connection, "_more", counted)
    with far.Pool(4) as pool:
        found = map_reduce(pool, noise, partition(range(PARTS), chunks=PARTS), greatest)
    pool.join()
    assert found == max(random.Random(n).randbytes(LARGE) for n in range(PARTS))
    assert LARGE > 2 * 64 << 10  # what is smaller is its own message
    assert sum(received) < 2 * LARGE  # the last value, and names of the others
