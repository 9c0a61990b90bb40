"""`Manager().list()` does what a list does, in any process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st


@pytest.fixture
def manager(ctx: Any) -> Iterator[Any]:
    with ctx.Manager() as manager:
        yield manager


INDEXES = st.integers(-6, 6)
SLICES = st.builds(slice, *[st.none() | INDEXES] * 2, st.none() | st.sampled_from([1, 2, -1, -2, 0]))
VALUES = st.one_of(st.integers(0, 3), st.sampled_from(["a", 1.0]))
MANY = st.lists(VALUES, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "remove", "count", "index", "__contains__"]), VALUES),
        st.tuples(st.sampled_from(["extend", "__add__"]), MANY),
        st.tuples(st.just("insert"), INDEXES, VALUES),
        st.tuples(st.sampled_from(["pop", "__delitem__", "__getitem__"]), INDEXES),
        st.tuples(st.sampled_from(["__delitem__", "__getitem__"]), SLICES),
        st.tuples(st.just("__setitem__"), INDEXES, VALUES),
        st.tuples(st.just("__setitem__"), SLICES, MANY),
        st.tuples(st.sampled_from(["reverse", "sort", "pop", "__len__", "copy"])),
        st.tuples(st.sampled_from(["__mul__", "__rmul__"]), st.integers(-1, 2)),
    )
)


def do(target: Any, name: str, *args: Any) -> Any:
    try:
        return getattr(target, name)(*args)
    except (IndexError, ValueError, TypeError) as error:
        return type(error), str(error).replace(repr(args[0]), "x") if args else str(error)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=MANY, steps=STEPS)
def test_it_is_a_list(manager: Any, start: list[Any], steps: list[Any]) -> None:
    real, ours = list(start), manager.list(start)
    for name, *args in steps:
        before = list(real)
        expected = do(real, name, *args)
        if name == "sort" and expected is not None:
            real[:] = before  # list.sort that raises leaves the list in any order; ours leaves it as it was
            expected = expected[0]
            assert do(ours, name, *args)[0] == expected
        else:
            assert do(ours, name, *args) == expected
        assert ours[:] == real


def test_it_is_repeated_and_extended_in_place(manager: Any) -> None:
    ours = handle = manager.list([1, 2])
    ours *= 2
    ours += [3]
    assert ours is handle
    assert list(ours) == [1, 2, 1, 2, 3]
    assert list(reversed(ours)) == [3, 2, 1, 2, 1]
    ours *= 0
    assert ours[:] == []


def test_it_sorts_by_a_key_that_does_not_pickle(manager: Any) -> None:
    ours = manager.list(["bb", "a", "ccc"])
    ours.sort(key=lambda word: -len(word))
    assert str(ours) == "['ccc', 'bb', 'a']"
    ours.sort(reverse=True, key=len)
    assert ours[:] == ["ccc", "bb", "a"]


def test_big_elements_come_and_go(manager: Any) -> None:
    ours = manager.list([np.zeros(50_000)])
    ours *= 2
    ours[0] = np.ones(50_000)
    assert [a[0] for a in ours] == [1, 0]
    assert ours.pop(0).sum() == 50_000
    assert ours[0].sum() == 0


def test_iteration_sees_changes(manager: Any) -> None:
    ours = manager.list([1, 2])
    iterator = iter(ours)
    ours[0] = 5
    assert next(iterator) == 5
    ours.append(3)
    assert list(iterator) == [2, 3]


def test_it_may_hold_itself(manager: Any) -> None:
    ours = manager.list()
    ours.append(ours)
    assert len(ours[0][0]) == 1


def _append(ours: Any, times: int) -> None:
    for i in range(times):
        ours.append(i)


def test_no_append_is_lost_to_a_sort(ctx: Any, manager: Any) -> None:
    ours = manager.list(range(50, 0, -1))
    process = ctx.Process(target=_append, args=(ours, 200))
    process.start()
    while len(ours) < 250:
        ours.sort(reverse=True)
        ours.reverse()
    process.join()
    ours.sort()
    assert ours[:] == sorted([*range(1, 51), *range(200)])


def _pop_all(ours: Any, taken: Any) -> None:
    try:
        while True:
            taken.append(ours.pop(0))
    except IndexError:
        pass


def test_processes_pop_each_element_once(ctx: Any, manager: Any) -> None:
    ours, taken = manager.list(range(300)), manager.list()
    processes = [ctx.Process(target=_pop_all, args=(ours, taken)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(taken) == list(range(300))
