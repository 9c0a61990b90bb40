"""Sizes as people write them: "64 MiB"."""

from __future__ import annotations

import operator
import re

_WRITTEN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([kmgtp]?)(i?)b\s*", re.IGNORECASE)
_POWERS = " kmgtp"


def size_bytes(name: str, size: object) -> int:
    """Bytes of `size`, a whole number or text such as "64 MiB" (2**20) or "64 MB" (10**6). `name` is for the errors.

    Raises TypeError for what is neither, ValueError for text that is no size and for less than one byte.
    """
    if not isinstance(size, str):
        return at_least_one(name, size)
    written = _WRITTEN.fullmatch(size)
    if not written:
        raise ValueError(f'{name} must be a number of bytes or a size such as "64 MiB", not {size!r}')
    number, prefix, binary = written.groups()
    found = int(float(number) * (1024 if binary else 1000) ** _POWERS.index(prefix.lower() or " "))
    return at_least_one(name, found)


def at_least_one(name: str, number: object) -> int:
    try:
        whole = operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {number!r}") from None
    if whole < 1:
        raise ValueError(f"{name} must be at least 1, not {whole}")
    return whole
