"""A dict key as the name of a field: equal keys have one name, whatever their pickles look like.

    1, 1.0, True, Decimal(1), Fraction(1), numpy.int64(1)    n1
    "a"                                                      sa
    b"a"                                                     ba
    (1, "a")                                                 (2:n12:sa

Keys are equal for a dict when their hashes and they themselves are. Where that is certain from the type alone, the
name tells; of any other type (`field` returns None) Python itself must compare the keys. A subclass counts as its base
class only while it leaves both `__eq__` and `__hash__` alone.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

_SMALL = 10**18  # an int below goes in decimal: short and quick; above in hex, which has no limit of digits
_FAR = 1000  # a Decimal of a larger exponent is left to Python: writing it out would take for ever
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TICK = dt.timedelta(microseconds=1)


def field(key: Any) -> bytes | None:
    """The field's name; None for a key that Python must compare with the others (an unhashable one as well)."""
    kind = type(key)
    if kind is str:
        return _text(key)
    if kind is int:
        return _integer(key)
    if key is None:
        return b"0"
    name = _NAMES.get(kind)
    if name is None:
        name = _name_of(kind)
    return name(key) if name is not None else None


def tells_key(key: Any) -> bool:
    """Whether `key_of` gives back the key itself, not just an equal one."""
    kind = type(key)
    return kind is str or kind is int or kind is bytes or key is None


def is_key(name: bytes) -> bool:
    """Whether `key_of` knows a key for that name."""
    return (
        name == b"0" or name[:1] in (b"s", b"b", b"N") or (name[:1] == b"n" and name[1:] not in (b"+", b"-"))
    )


def key_of(name: bytes) -> Any:
    """The key that a field's name tells."""
    kind, rest = name[:1], name[1:]
    if kind == b"s":
        return rest.decode("utf-8", "surrogatepass")
    if kind == b"n":
        return int(rest)
    if kind == b"N":
        return int(rest, 16)
    return rest if kind == b"b" else None


# -- one function for each form ----------------------------------------------------------------------------------------


def _text(key: str) -> bytes:
    try:
        return b"s" + str.encode(key)
    except UnicodeEncodeError:
        return b"s" + str.encode(key, "utf-8", "surrogatepass")


def _bytes(key: bytes) -> bytes:
    return b"b" + key


def _integer(key: int) -> bytes:
    return b"n%d" % key if -_SMALL < key < _SMALL else b"N%x" % key


def _ratio(numerator: int, denominator: int) -> bytes:
    return _integer(numerator) if denominator == 1 else b"q%x/%x" % (numerator, denominator)


def _fraction(key: fractions.Fraction) -> bytes:
    return _ratio(key.numerator, key.denominator)


def _float(key: float) -> bytes | None:
    if math.isfinite(key):
        return _ratio(*float.as_integer_ratio(key))
    return None if math.isnan(key) else b"n+" if key > 0 else b"n-"  # one NaN equals no other


def _decimal(key: decimal.Decimal) -> bytes | None:
    if key.is_finite():
        return _ratio(*key.as_integer_ratio()) if not key or abs(key.adjusted()) < _FAR else None
    return None if key.is_nan() else b"n+" if key > 0 else b"n-"


def _complex(key: complex) -> bytes | None:
    if key.imag == 0:
        return _float(key.real)
    real, imag = _float(key.real), _float(key.imag)
    return None if real is None or imag is None else b"c%b,%b" % (real, imag)


def _joined(keys: list[bytes | None], opening: bytes) -> bytes | None:
    if None in keys:
        return None
    return opening + b"".join(b"%d:%b" % (len(k), k) for k in keys if k is not None)


def _tuple(key: tuple[Any, ...]) -> bytes | None:
    return _joined([field(k) for k in tuple.__iter__(key)], b"(")


def _frozenset(key: frozenset[Any]) -> bytes | None:
    names = [field(k) for k in frozenset.__iter__(key)]
    return None if None in names else _joined(sorted(names), b"{")  # type: ignore[type-var]


def _enum(key: enum.Enum) -> bytes | None:
    kind = type(key)
    name = key._name_
    if "<locals>" in kind.__qualname__ or name is None or kind.__members__.get(name) is not key:
        return None
    module = (
        "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    )  # what spawn calls the same module
    return f"e{module}:{kind.__qualname__}:{name}".encode()


def _datetime(key: dt.datetime) -> bytes | None:
    offset = key.utcoffset()
    if offset is None:
        return b"t" + key.replace(tzinfo=None, fold=0).isoformat().encode()
    if key.replace(fold=not key.fold).utcoffset() != offset:
        return None  # a time that a clock change skips or repeats: equal to none of another zone, says the stdlib
    return b"u%d" % ((key - _EPOCH) // _TICK)


def _date(key: dt.date) -> bytes:
    return b"d%d" % key.toordinal()


def _timedelta(key: dt.timedelta) -> bytes:
    return b"D%d" % (key // _TICK)


def _uuid(key: uuid.UUID) -> bytes:
    return b"U" + key.bytes


def _path(key: pathlib.PurePosixPath) -> bytes:
    return b"P" + str(key).encode("utf-8", "surrogateescape")


def _numpy(key: Any) -> bytes | None:
    """A number or string of numpy is one key with Python's of the same value."""
    plain = key.item() if key.dtype.kind in "biufcSU" else None  # not a date or a difference of dates
    return field(plain) if type(plain) in (bool, int, float, complex, str, bytes) else None


Name = Callable[[Any], "bytes | None"]

_NAMES: dict[type, Name] = {
    bool: _integer,
    float: _float,
    complex: _complex,
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    bytes: _bytes,
    tuple: _tuple,
    frozenset: _frozenset,
    dt.datetime: _datetime,
    dt.date: _date,
    dt.timedelta: _timedelta,
    uuid.UUID: _uuid,
    pathlib.PurePosixPath: _path,
    pathlib.PosixPath: _path,
}
_BASES: dict[type, Name] = {
    base: _NAMES.get(base, _text if base is str else _integer)
    for base in (str, int, float, complex, bytes, tuple, frozenset)
}


def _name_of(kind: Any) -> Name | None:
    """The form for a type that is not in the table: a subclass, an enum, numpy's."""
    if kind.__module__ == "numpy" and hasattr(kind, "dtype"):
        return _numpy
    for base, name in _BASES.items():
        if issubclass(kind, base) and kind.__eq__ is base.__eq__ and kind.__hash__ is base.__hash__:
            return name
    if issubclass(kind, enum.Enum) and kind.__eq__ is object.__eq__ and kind.__hash__ is enum.Enum.__hash__:
        return _enum
    return None
