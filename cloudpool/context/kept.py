"""Results that stay where workers find them: map_reduce() passes their names on, not what they are.

A worker puts the result into a message (sync/payload.py), which names a blob when it is large; the message goes through the
root like any result, and to whoever is to go on with it. It may be read until the root drops it, so a task that is run again
finds its arguments.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cloudpool.host import session as sessions
from cloudpool.sync import payload


class Kept:
    """A value by the message that it is in."""

    __slots__ = ("_message", "_where")

    def __init__(self, message: bytes, where: bytes) -> None:
        self._message, self._where = message, where

    @classmethod
    def of(cls, value: Any) -> Kept:
        where = b"kept " + os.urandom(12).hex().encode()
        return cls(payload.pack(value, sessions.current(), where, by_value=False), where)

    def value(self) -> Any:
        return payload.unpack(self._message, sessions.current(), self._where)

    def drop(self) -> None:
        """Nobody will ask for the value again."""
        payload.discard(self._message, sessions.current())

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self._message, self._where)


class Keeping:
    """A function whose result is kept, and whose argument may be a list of such results."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, argument: Any) -> Kept:
        if isinstance(argument, list) and any(type(item) is Kept for item in argument):
            argument = [item.value() for item in argument]
        return Kept.of(self._function(argument))

    def __reduce__(self) -> tuple[Any, ...]:
        return Keeping, (self._function,)
