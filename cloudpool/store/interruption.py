"""Signal handlers run in the main thread, between any two instructions of it: whether there are any, and what is theirs.

They raise what they like, TimeoutError most of all, and that is an OSError as a cut connection's are.
"""

from __future__ import annotations

import threading
from signal import NSIG, default_int_handler, getsignal
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any

try:
    from _signal import getsignal as _handler_of  # type: ignore[import-not-found] # no enum for each answer: a tenth of the time
except ImportError:
    _handler_of = getsignal


def may_come() -> bool:
    """Whether a handler of the program's own may run in the calling thread. Ctrl-C's usual one does not count."""
    if threading.get_ident() != threading.main_thread().ident:
        return False
    return bool(_handlers())


def is_handlers(error: BaseException) -> bool:
    """Whether a handler that is there now has raised it, and not what the thread was at."""
    if error.__traceback__ is None or threading.get_ident() != threading.main_thread().ident:
        return False
    codes = {code for handler in _handlers() if (code := _code(handler)) is not None}
    return any(frame.f_code in codes for frame, _ in walk_tb(error.__traceback__))


def is_no_cut(error: BaseException) -> bool:
    """Whether a handler has raised it while the thread talked to the server or the agent: the connection is not cut then.

    Also one that is there no more, having set another in its place: there, nothing but a handler is given a frame.
    """
    if error.__traceback__ is None or threading.get_ident() != threading.main_thread().ident:
        return False
    return is_handlers(error) or any(_has_frame(frame) for frame, _ in walk_tb(error.__traceback__))


def _has_frame(frame: FrameType) -> bool:
    for value in frame.f_locals.values():
        if isinstance(value, FrameType):
            return True
        if type(value) is tuple and any(isinstance(item, FrameType) for item in value):  # *args
            return True
    return False


def _handlers() -> list[Any]:
    handlers = [_handler_of(number) for number in range(1, NSIG)]
    return [handler for handler in handlers if callable(handler) and handler is not default_int_handler]


def _code(handler: Any) -> CodeType | None:
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    if not hasattr(handler, "__code__"):
        handler = getattr(handler, "__func__", type(handler).__call__)
    return getattr(handler, "__code__", None)
