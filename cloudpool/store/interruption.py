"""Whose an exception is that came out of a socket's call: the socket's, or a signal handler's that ran meanwhile.

Handlers raise what they like, TimeoutError most of all, and that is an OSError as a cut connection's are.
"""

from __future__ import annotations

from traceback import walk_tb

_OURS = {"cloudpool", "socket", "ssl", "redis", "selectors", "threading", "contextlib"}


def is_handlers(error: BaseException) -> bool:
    """Whether a frame of other code than ours, and what that calls, has raised it."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__))
    return any(module.partition(".")[0] not in _OURS for module in modules)
