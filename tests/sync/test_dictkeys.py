"""The name of a dict key's field: one name for equal keys, and for equal keys only."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import pathlib
import uuid
import zoneinfo
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cloudpool.sync.dictkeys import field, key_of, tells_key


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Loud(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str(self).lower() == str(other).lower()

    def __hash__(self) -> int:
        return hash(str(self).lower())


class Quiet(str):
    __slots__ = ()


NUMBERS = st.one_of(
    st.integers(), st.integers(-3, 3), st.booleans(), st.floats(allow_nan=False), st.fractions(),
    st.complex_numbers(allow_nan=False), st.decimals(allow_nan=False), st.sampled_from([1, 1.0, True, 0.5, -0.0, 2**64]),
    st.integers(-3, 3).map(decimal.Decimal), st.integers(-3, 3).map(fractions.Fraction), st.integers(-3, 3).map(float),
)  # fmt: skip
WORDS = st.one_of(
    st.text(max_size=3), st.sampled_from(["a", "yes", "1", ""]), st.sampled_from(["a", "b"]).map(Quiet)
)
TIMES = st.one_of(
    st.dates(), st.datetimes(), st.timedeltas(),
    st.datetimes(timezones=st.sampled_from([dt.UTC, zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("America/New_York")])),
)  # fmt: skip
OTHERS = st.sampled_from([None, Colour.RED, Colour.CRIMSON, Colour.BLUE, Level.LOW, Word.YES, b"", b"a", uuid.UUID(int=7),
                          pathlib.PurePosixPath("a/b"), pathlib.PosixPath("a//b")])  # fmt: skip
KEYS = st.recursive(
    st.one_of(NUMBERS, WORDS, TIMES, OTHERS),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)


def one_key(a: Any, b: Any) -> bool:
    """Whether a dict takes them for one key."""
    return len({a: 0, b: 0}) == 1


@given(KEYS, KEYS)
def test_two_keys_have_one_name_when_a_dict_takes_them_for_one(a: Any, b: Any) -> None:
    if field(a) is not None and field(b) is not None:
        assert (field(a) == field(b)) == one_key(a, b)


PLAIN = st.one_of(
    st.integers(-3, 3), st.booleans(), st.floats(allow_nan=False), st.complex_numbers(allow_nan=False)
)
NUMPY = st.one_of(
    st.integers(-3, 3).map(np.int64), st.booleans().map(np.bool_), st.floats(allow_nan=False).map(np.float64),
    st.floats(width=32, allow_nan=False).map(np.float32), st.complex_numbers(allow_nan=False).map(np.complex128),
)  # fmt: skip


@given(NUMPY, st.one_of(PLAIN, NUMPY))
def test_numpy_scalars_are_one_key_with_numbers(a: Any, b: Any) -> None:
    """Not mixed with Fraction and Decimal: numpy's own comparison with those may raise."""
    assert (field(a) == field(b)) == one_key(a, b)


@given(KEYS)
def test_a_name_that_tells_the_key_gives_it_back(key: Any) -> None:
    name = field(key)
    if tells_key(key):
        assert name is not None
        assert key_of(name) == key
        assert type(key_of(name)) is type(key)


@pytest.mark.parametrize(
    "keys",
    [
        (1, 1.0, True, 1 + 0j, decimal.Decimal(1), decimal.Decimal("1.00"), fractions.Fraction(1), np.int8(1), np.float32(1), np.bool_(True), Level.LOW),
        (0.5, decimal.Decimal("0.5"), fractions.Fraction(1, 2), np.float16(0.5)),
        (float("inf"), decimal.Decimal("inf"), np.float64("inf")),
        (0, 0.0, -0.0, False, decimal.Decimal("-0")),
        (10**5000, 10**5000 + 0),
        ("yes", Word.YES, Quiet("yes"), np.str_("yes")),
        (Colour.RED, Colour.CRIMSON),
        ((1, "a"), (1.0, Quiet("a"))),
        (frozenset({1, 2}), frozenset({2.0, True})),
    ],
)  # fmt: skip
def test_equal_keys_of_different_types_have_one_name(keys: tuple[Any, ...]) -> None:
    assert len({field(key) for key in keys}) == 1
    assert field(keys[0]) is not None


@pytest.mark.parametrize(
    "keys",
    [
        ("1", 1, b"1", (1,), frozenset({1})),
        (None, "None", 0),
        (Colour.RED, Colour.BLUE, 1),
        (("ab",), ("a", "b"), ("a", ("b",))),
    ],
)
def test_different_keys_have_different_names(keys: tuple[Any, ...]) -> None:
    assert len({field(key) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    "key",
    [float("nan"), decimal.Decimal("nan"), (1, float("nan")), Loud("a"), object(), np.datetime64("2020-01-01"), decimal.Decimal("1e9999"), [], (1, [])],
)  # fmt: skip
def test_what_the_type_does_not_settle_has_no_name(key: Any) -> None:
    assert field(key) is None


def test_aware_times_are_one_key_across_zones() -> None:
    noon = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)
    assert field(noon) == field(noon.astimezone(zoneinfo.ZoneInfo("Asia/Tokyo")))
    assert field(noon) != field(noon.replace(tzinfo=None))


def test_a_repeated_hour_is_left_to_python() -> None:
    repeated = dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    assert field(repeated) is None
