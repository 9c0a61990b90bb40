"""Pool(2), warm: calls of all kinds, small and large."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rows import check, median_s, row, times


def same(x: Any) -> Any:
    return x


def megabyte(i: int) -> bytes:
    return bytes([i]) * 1_000_000


def picked(large: bytes, i: int) -> int:
    return large[i * 1000]


def pooled(mp: Any, times: int, call: Callable[[Any], Any], expected: Any) -> float:
    pool = mp.Pool(2)
    pool.map(same, range(4))
    seconds = median_s(lambda: call(pool), times, expected)
    pool.close()
    pool.join()
    return seconds


def mapped(mp: Any, count: int, times: int) -> float:
    return pooled(mp, times, lambda pool: pool.map(same, range(count)), list(range(count))) / count


@row(times(2.0))
def map_100(mp: Any) -> float:
    return mapped(mp, 100, 51)


@row(times(1.2))
def map_10_000(mp: Any) -> float:
    return mapped(mp, 10_000, 15)


@row(times(1.0))
def map_100_000(mp: Any) -> float:
    return mapped(mp, 100_000, 5)


@row(times(0.8))
def imap_unordered(mp: Any) -> float:
    return (
        pooled(mp, 5, lambda pool: sorted(pool.imap_unordered(same, range(2000))), list(range(2000))) / 2000
    )


@row(times(1.0))
def apply(mp: Any) -> float:
    return pooled(mp, 500, lambda pool: pool.apply(same, (7,)), 7)


@row(times(0.8))
def apply_async_5_000(mp: Any) -> float:
    def call(pool: Any) -> list[int]:
        return [result.get() for result in [pool.apply_async(same, (i,)) for i in range(5000)]]

    return pooled(mp, 3, call, list(range(5000))) / 5000


@row(times(0.7))
def map_32_arguments_of_1_mb(mp: Any) -> float:
    blocks = [megabyte(i) for i in range(32)]
    return pooled(mp, 9, lambda pool: pool.map(len, blocks), [1_000_000] * 32) / 32


@row(times(0.4))
def map_32_results_of_1_mb(mp: Any) -> float:
    def call(pool: Any) -> list[bytes]:
        results: list[bytes] = pool.map(megabyte, range(32))
        return results

    return pooled(mp, 9, call, [megabyte(i) for i in range(32)]) / 32


@row(times(0.15))
def map_partial_of_30_mb(mp: Any) -> float:
    large = b"".join(i.to_bytes(1, "little") * 1000 for i in range(250)) * 120
    check(len(large) == 30_000_000)
    return pooled(mp, 5, lambda pool: pool.map(functools.partial(picked, large), range(64)), list(range(64)))
