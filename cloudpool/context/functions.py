"""The functions of a pool's calls in the server: each there once, however many calls use it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cloudpool import serialize
from cloudpool.context.tasks import Tasks
from cloudpool.errors import SessionLostError

MOST_IDLE = 32  # functions that are left in the server after their last call, for the next


@dataclass(slots=True)
class Function:
    """A function in the server, and how many calls use it."""

    token: str
    message: bytes
    calls: int = 0
    is_stored: bool = False

    @property
    def is_large(self) -> bool:
        return self.message[:1] == b"b"


class Functions:
    """The functions of one pool, by token. It lives and ends with the pool's calls."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._lock = threading.RLock()
        self._functions: dict[str, Function] = {}
        self._idle: OrderedDict[str, Function] = OrderedDict()  # those that no call uses
        self._last: tuple[Any, Function] | None = None  # used last, if its pickle is its name

    def use(self, func: Any) -> Function:
        """The function as it travels; a call's until it lets go of it. Raises what pickling raises."""
        with self._lock:
            last = self._last
            if last is not None and last[0] is func and serialize.goes_by_name(func):
                return self._used(last[1])
        token, message = self._tasks.pack_function(func)
        with self._lock:
            function = self._functions.setdefault(token, Function(token, message))
            is_its_name = not self._tasks.outward and serialize.goes_by_name(func)
            self._last = (func, function) if is_its_name else None
            return self._used(function)

    def _used(self, function: Function) -> Function:
        self._idle.pop(function.token, None)
        function.calls += 1
        return function

    def let_go(self, function: Function) -> None:
        """A large function goes with its last call, a small one some time later."""
        with self._lock:  # the server's answer included: the function may be used again right after
            function.calls -= 1
            if function.calls:
                return
            self._idle[function.token] = function
            if function.is_large or len(self._idle) > MOST_IDLE:
                _, idle = self._idle.popitem(last=function.is_large)
                del self._functions[idle.token]
                self._last = None
                with suppress(SessionLostError):
                    self._tasks.forget_function(idle.token)
                self._tasks.discard(idle.message)
