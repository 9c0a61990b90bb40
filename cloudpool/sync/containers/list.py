"""list: a Redis list of messages, behind a first element '' that keeps an empty list there.

What needs Python's equality or order (sort, remove, slices ...) reads all, works here, and writes back by a script that
does nothing when the list has changed since: then it starts again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Self, SupportsIndex

from cloudpool.sync import payload
from cloudpool.sync.proxy import GoneError, Referent, gone, stdlib

EMPTY = -2
BATCH = 10_000  # elements that go to the server in one script
Replacement = tuple[int, int, list[bytes], Any]  # from where, how many, by what; what the method returns


class ListProxy(Referent, stdlib.ListProxy):
    """`Manager().list()`: list's semantics; an element that is changed must be assigned again, as in the stdlib."""

    _kind = "list"
    _typeid = "list"

    def __init__(self, content: list[Any], *, manager: Any = None, about: str = "") -> None:
        self._manager = manager
        self._create(("DEL", "items"), ("RPUSH", "items", ""), about=about)
        self.extend(content)

    # -- reading --------------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._slice(index)
        at = _index(index, "list indices must be integers or slices, not {}")
        at = at if at < 0 else at + 1
        channel = self._here().channel()
        message = channel.call("LINDEX", self._base + "items", at)
        if not message:
            self._there()
            raise IndexError("list index out of range")
        try:
            return self._unpack(
                message, self._place, lambda: channel.call("LINDEX", self._base + "items", at) or None
            )
        except GoneError:
            raise IndexError("list index out of range") from None

    def _slice(self, index: slice) -> list[Any]:
        start = 0 if index.start is None else _index(index.start)
        stop = index.stop if index.stop is None else _index(index.stop)
        if index.step is not None and index.step != 1:
            return self._getvalue()[index]
        first = start if start <= 0 else start + 1
        last = -1 if stop is None else stop - 1 if stop < 0 else stop
        return self._unpack_all(lambda: self._range(first, last))

    def _range(self, first: int, last: int) -> list[bytes]:
        """Messages from the server's index `first` to `last`."""
        found: list[bytes] = self._here().channel().call("LRANGE", self._base + "items", first, last)
        if not found:
            self._there()
        return found[1:] if found[:1] == [b""] else found

    def _unpack_all(self, read: Callable[[], list[bytes]]) -> list[Any]:
        messages = read()
        while True:
            try:
                return [payload.unpack(message, self._session, self._place) for message in messages]
            except FileNotFoundError:  # a blob of an element that has been replaced since
                before, messages = messages, read()
                if before == messages:
                    raise

    def _getvalue(self) -> list[Any]:
        return self._unpack_all(lambda: self._range(0, -1))

    def copy(self) -> list[Any]:
        return self._getvalue()

    def __len__(self) -> int:
        length: int = self._here().channel().call("LLEN", self._base + "items")
        if not length:
            raise gone(self._typeid)
        return length - 1

    def _there(self) -> None:
        if not self._here().channel().call("EXISTS", self._base + "items"):
            raise gone(self._typeid)

    def __contains__(self, value: Any) -> bool:
        return value in self._getvalue()

    def count(self, value: Any) -> int:
        return self._getvalue().count(value)

    def index(self, value: Any, *bounds: int) -> int:
        return self._getvalue().index(value, *bounds)

    def __reversed__(self) -> Any:
        return reversed(self._getvalue())

    def __add__(self, other: Any) -> list[Any]:
        return self._getvalue() + (other[:] if isinstance(other, stdlib.ListProxy) else other)  # type: ignore[no-any-return]

    def __mul__(self, n: Any) -> list[Any]:
        return self._getvalue() * n  # type: ignore[no-any-return]

    __rmul__ = __mul__

    # -- changing in one trip -------------------------------------------------------------------------------------------

    def append(self, value: Any) -> None:
        self._change("list_push", self._pack(value, self._place))

    def extend(self, values: Iterable[Any]) -> None:
        messages = [self._pack(value, self._place) for value in values]
        for i in range(0, len(messages), BATCH):
            self._change("list_push", *messages[i : i + BATCH])

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc] # list has it so
        self.extend(values)
        return self

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._change("list_insert", _index(index), self._pack(value, self._place))

    def pop(self, index: SupportsIndex = -1) -> Any:
        message = self._change("list_pop", _index(index))
        if message == EMPTY:
            raise IndexError("pop from empty list")
        if message == 0:
            raise IndexError("pop index out of range")
        return self._taken(message, self._place)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._set_slice(index, value)
            return
        at = _index(index, "list indices must be integers or slices, not {}")
        message = self._pack(value, self._place)
        replaced = self._change("list_set", at if at < 0 else at + 1, message)
        if replaced == 0:
            payload.discard(message, self._session)
            raise IndexError("list assignment index out of range")
        payload.discard(replaced, self._session)

    def __delitem__(self, index: Any) -> None:
        if isinstance(index, slice):
            self._delete_slice(index)
            return
        message = self._change("list_pop", _index(index, "list indices must be integers or slices, not {}"))
        if message in (0, EMPTY):
            raise IndexError("list assignment index out of range")
        payload.discard(message, self._session)

    # -- changing what has been read --------------------------------------------------------------------------------------

    def _edit(self, plan: Callable[[list[bytes]], Replacement]) -> Any:
        """Replace, in the list as it is, what `plan` says; again when another was quicker."""
        while True:
            messages = self._range(0, -1)
            start, count, new, result = plan(messages)
            digest = hashlib.sha1(
                b"".join([b"%d:%b" % (len(m), m) for m in messages]), usedforsecurity=False
            ).hexdigest()
            if self._change("list_replace", digest, start, count, *new) == b"":
                kept = {*messages[:start], *messages[start + count :], *new}
                for message in messages[start : start + count]:
                    if message[:1] == b"b" and message not in kept:
                        payload.discard(message, self._session)
                return result

    def _objects(self, messages: list[bytes]) -> list[Any]:
        return [payload.unpack(message, self._session, self._place) for message in messages]

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """As list.sort. `key` runs here."""

        def plan(messages: list[bytes]) -> Replacement:
            objects = self._objects(messages)
            ranks = objects if key is None else [key(value) for value in objects]
            order = sorted(range(len(ranks)), key=ranks.__getitem__, reverse=reverse)
            return 0, len(messages), [messages[i] for i in order], None

        self._edit(plan)

    def reverse(self) -> None:
        self._edit(lambda messages: (0, len(messages), messages[::-1], None))

    def remove(self, value: Any) -> None:
        def plan(messages: list[bytes]) -> Replacement:
            for i, message in enumerate(messages):
                if value == payload.unpack(message, self._session, self._place):
                    return i, 1, [], None
            raise ValueError("list.remove(x): x not in list")

        self._edit(plan)

    def clear(self) -> None:
        self._edit(lambda messages: (0, len(messages), [], None))

    def _set_slice(self, index: slice, values: Any) -> None:
        new = [self._pack(value, self._place) for value in values]

        def plan(messages: list[bytes]) -> Replacement:
            changed = list(messages)
            changed[index] = new
            return 0, len(messages), changed, None

        self._edit(plan)

    def _delete_slice(self, index: slice) -> None:
        def plan(messages: list[bytes]) -> Replacement:
            changed = list(messages)
            del changed[index]
            return 0, len(messages), changed, None

        self._edit(plan)

    def __imul__(self, n: SupportsIndex) -> Self:  # type: ignore[misc] # list has it so
        def again(message: bytes) -> bytes:
            """A blob belongs to one element."""
            if message[:1] == b"p":
                return message
            return self._pack(payload.unpack(message, self._session, self._place), self._place)

        def plan(messages: list[bytes]) -> Replacement:
            times = _index(n, "can't multiply sequence by non-int of type {!r}")
            if times <= 0:
                return 0, len(messages), [], None
            return len(messages), 0, [again(m) for _ in range(times - 1) for m in messages], None

        self._edit(plan)
        return self


def _index(value: Any, otherwise: str = "{!r} object cannot be interpreted as an integer") -> int:
    """As operator.index, with list's own words."""
    try:
        return int(value.__index__())
    except AttributeError:
        raise TypeError(otherwise.format(type(value).__name__)) from None
