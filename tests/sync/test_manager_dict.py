"""`Manager().dict()` does what a dict does, for any key, in any process."""

from __future__ import annotations

import decimal
import fractions
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st


class Point:
    """A key that only Python can compare: equal to a point of the same place, and to the number of its place."""

    def __init__(self, place: int) -> None:
        self.place = place

    def __eq__(self, other: object) -> bool:
        return self.place == (other.place if isinstance(other, Point) else other)

    def __hash__(self) -> int:
        return hash(self.place)

    def __repr__(self) -> str:
        return f"Point({self.place})"


@pytest.fixture
def manager(ctx: Any) -> Iterator[Any]:
    with ctx.Manager() as manager:
        yield manager


SAME = "x"  # one object twice in a tuple makes a memo reference in its pickle
LETTERS = ["a", "b", "x"]  # to make equal strings that are not interned
KEYS = st.one_of(
    st.sampled_from([1, 1.0, True, 0, False, decimal.Decimal(1), fractions.Fraction(1), 2, 2.5, None]),
    st.sampled_from(["a", "ab", "".join(LETTERS[:2]), b"a"]),
    st.sampled_from([(SAME, SAME), ("".join(LETTERS[:2]), "".join(LETTERS[:2])), ("ab", "".join(LETTERS[:2])), (1, (2.0, "x")), (1.0, (2, "x")), frozenset({1, 2}), frozenset({2.0, True})]),
    st.integers(0, 3).map(Point),
    st.tuples(st.integers(0, 2).map(Point), st.just("x")),
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "del", "pop", "get", "in", "setdefault", "popitem", "update"]),
        KEYS,
        st.integers(0, 9),
    )
)


def do(d: Any, step: str, key: Any, value: int) -> Any:
    try:
        if step == "set":
            d[key] = value
        elif step == "del":
            del d[key]
        elif step == "pop":
            return d.pop(key)
        elif step == "get":
            return d.get(key, "none"), d[key]
        elif step == "in":
            return key in d
        elif step == "setdefault":
            return d.setdefault(key, value)
        elif step == "popitem":
            return d.popitem()
        else:
            d.update({key: value, "more": value})
    except KeyError as error:
        return "KeyError", error.args
    return None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_it_is_a_dict(manager: Any, steps: list[tuple[str, Any, int]]) -> None:
    real: dict[Any, Any] = {}
    ours = manager.dict()
    other = pickle.loads(pickle.dumps(ours))  # a handle that has not seen what the first one did
    for number, (step, key, value) in enumerate(steps):
        handle = (ours, other)[number % 2]
        assert do(handle, step, key, value) == do(real, step, key, value)
    for handle in (ours, other):
        assert list(handle.items()) == list(real.items())
        assert [type(key) for key in handle] == [type(key) for key in real]
        assert len(handle) == len(real)


def test_the_words_of_its_errors(manager: Any) -> None:
    d = manager.dict()
    with pytest.raises(KeyError, match=r"^'nothing'$"):
        d["nothing"]
    with pytest.raises(KeyError, match="popitem\\(\\): dictionary is empty"):
        d.popitem()
    for use in (
        lambda: d.get([]),
        lambda: d.__setitem__([], 1),
        lambda: [] in d,
        lambda: d.pop(([],)),
        lambda: d[{}],
    ):
        with pytest.raises(TypeError, match="unhashable type"):
            use()


def test_it_copies_merges_and_clears(manager: Any) -> None:
    d = manager.dict([("a", 1)], b=2)
    assert d.copy() == {"a": 1, "b": 2}
    assert d | {"c": 3} == {"a": 1, "b": 2, "c": 3}
    assert {"c": 3} | d == {"c": 3, "a": 1, "b": 2}
    d |= manager.dict(z=0)
    assert str(d) == "{'a': 1, 'b': 2, 'z': 0}"
    assert repr(d).startswith("<DictProxy object, typeid 'dict' at 0x")
    d.clear()
    assert d.copy() == {}
    d["new"] = 1
    assert d.keys() == ["new"]


def test_many_items_at_once_keep_their_order(manager: Any) -> None:
    content = {f"k{i}": i for i in range(10_000)}
    d = manager.dict(content)
    assert list(d.copy()) == list(content)


def test_a_key_that_is_nan_is_never_found(manager: Any) -> None:
    d = manager.dict()
    d[float("nan")] = 1
    d[float("nan")] = 2
    assert len(d) == 2
    assert d.get(float("nan")) is None


def test_iteration_notices_a_change_of_size(manager: Any) -> None:
    d = manager.dict(a=1, b=2)
    iterator = iter(d)
    assert next(iterator) == "a"
    d["c"] = 3
    with pytest.raises(RuntimeError, match="changed size"):
        next(iterator)


def test_a_big_value_is_replaced_and_read(manager: Any) -> None:
    d = manager.dict()
    d["a"] = np.arange(100_000)
    d["a"] = np.arange(100_000) + 1
    assert d["a"][0] == 1
    assert d.copy()["a"][-1] == 100_000
    assert d.pop("a").sum() == np.arange(100_001).sum()


def _increment(d: Any, lock: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            d["n"] += 1


def test_processes_count_together_under_a_lock(ctx: Any, manager: Any) -> None:
    d, lock = manager.dict(n=0), manager.Lock()
    processes = [ctx.Process(target=_increment, args=(d, lock, 100)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert d["n"] == 200


def test_processes_that_take_keys_take_each_once(ctx: Any, manager: Any) -> None:
    keys: list[Any] = [*range(10), *(Point(i) for i in range(10, 20))]
    d, won = manager.dict({key: [] for key in keys}), manager.list()
    processes = [ctx.Process(target=_take_all, args=(d, keys, won)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(won) == list(range(20))
    assert len(d) == 0


def _take_all(d: Any, keys: list[Any], won: Any) -> None:
    for key in keys:
        if d.pop(key, None) is not None:
            won.append(hash(key))


def _insert_points(d: Any, start: Any) -> None:
    start.wait()
    for i in range(30):
        d[Point(i)] = i
        d[i] = i


def test_equal_keys_inserted_at_once_by_processes_are_one(ctx: Any, manager: Any) -> None:
    d, start = manager.dict(), manager.Event()
    processes = [ctx.Process(target=_insert_points, args=(d, start)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert {hash(key): value for key, value in d.items()} == {i: i for i in range(30)}
    assert len(d) == 30


def test_proxies_nest(manager: Any) -> None:
    d = manager.dict(inner=manager.dict(a=1))
    d["list"] = manager.list()
    d["list"].append(1)
    d["inner"]["b"] = 2
    assert d["list"][:] == [1]
    assert d["inner"].copy() == {"a": 1, "b": 2}


def test_an_operation_is_one_command(manager: Any, monitor: Any) -> None:
    d = manager.dict(a=1)
    d["a"], _ = 2, d["a"]  # the script is known from here on

    def commands(use: Any) -> int:
        monitor.skip()
        use()
        # Only what names the dict: the agent's own commands come when they come.
        return sum(d._id in line and '"PEXPIRE"' not in line for line in monitor.skip())

    assert commands(lambda: d["a"]) == 1
    # Those that a script runs are counted as well: the script, a look at what is there, the value, what was done.
    assert commands(lambda: d.__setitem__("a", 3)) == 4
