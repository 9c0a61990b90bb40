"""Shared memory without a lock: what it costs to touch it."""

from __future__ import annotations

from typing import Any

from rows import check, each_s, row, times


def _elements_s(array: Any) -> float:
    def once(i: int) -> None:
        array[i % 1000] = i
        check(array[i % 1000] == i)

    return each_s(once)


def _slices_s(array: Any) -> float:
    numbers = list(range(1000))

    def once(_: int) -> None:
        array[:] = numbers

    seconds = each_s(once)
    check(array[:] == numbers)
    return seconds


@row(times(1.1))
def raw_array_element(mp: Any) -> float:
    return _elements_s(mp.RawArray("i", 1000))


@row(times(1.1))
def raw_array_slice(mp: Any) -> float:
    return _slices_s(mp.RawArray("i", 1000))


@row(times(1.1))
def get_obj_element(mp: Any) -> float:
    return _elements_s(mp.Array("i", 1000).get_obj())


@row(times(1.1))
def get_obj_slice(mp: Any) -> float:
    return _slices_s(mp.Array("i", 1000).get_obj())


@row(times(1.1))
def numpy_view(mp: Any) -> float:
    import numpy as np

    view = np.frombuffer(mp.RawArray("d", 1_000_000))

    def once(i: int) -> None:
        view[:] = i
        check(float(view[-1]) == i)

    return each_s(once)
