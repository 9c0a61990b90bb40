"""Process for each start method: the stdlib's BaseProcess with a Popen that the session knows of."""

from __future__ import annotations

import math
import sys
import time
from functools import cache
from multiprocessing import context as stdlib, process, util
from typing import Any

from cloudpool import methods, settings
from cloudpool.host import session as sessions

LAST = -10_000  # the priority of a finalizer that runs after all others


class SessionProcess(process.BaseProcess):
    """A process of the session. Its orderly end is told to the agent: whatever else ends it is a death."""

    _start_method: str

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, `timeout` seconds at most. What this thread has put is in the server before."""
        if (session := sessions.existing()) is not None:
            # A put that was cut would else be sent again with the next command only.
            began = time.monotonic()
            session.channel().settle(math.inf if timeout is None else timeout)
            timeout = timeout if timeout is None else max(0.0, timeout - (time.monotonic() - began))
        super().join(timeout)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        from cloudpool.context import contexts

        if self._start_method is not None:
            contexts.force_start_method(self._start_method)
        exitcode: int = super()._bootstrap(parent_sentinel=parent_sentinel)
        if sys.version_info < (3, 13):
            _ended()
        return exitcode

    @staticmethod
    def _after_fork() -> None:
        process.BaseProcess._after_fork()
        _end_last()


def _end_last() -> None:
    """Since 3.13 finalizers and exit handlers run after `_bootstrap`: then the end is told by the last of them."""
    if sys.version_info >= (3, 13):
        util.Finalize(None, _ended, exitpriority=LAST)


def _ended() -> None:
    if (session := sessions.existing()) is not None:
        session.ended()


@cache
def _tell_it_stays(start_method: str) -> None:
    """Who has sent the program's processes elsewhere, from outside, is told that it keeps some here by its own choice."""
    outside = settings.start_method_from_outside()
    if not outside or not methods.is_far(outside) or process.parent_process() is not None:
        return
    if start_method in (settings.current().overflow or ()) or sys.stderr is None:
        return
    print(
        f"cloudpool: the program itself names {start_method!r}: those processes are on this machine, not on {outside!r}. "
        f"multiprocessing.Process or get_context({outside!r}) has them there.",
        file=sys.stderr,
        flush=True,
    )


class ForkProcess(SessionProcess, stdlib.ForkProcess):
    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        _tell_it_stays("fork")
        from cloudpool.runners.local import ForkPopen

        return ForkPopen(process_obj)


class SpawnProcess(SessionProcess, stdlib.SpawnProcess):
    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        _tell_it_stays("spawn")
        return _spawned(process_obj)

    @staticmethod
    def _after_fork() -> None:
        _end_last()  # and a fresh interpreter has inherited nothing


class HomeProcess(SpawnProcess):
    """One that cannot be elsewhere, whatever the program wishes."""

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        return _spawned(process_obj)


def _spawned(process_obj: process.BaseProcess) -> Any:
    from cloudpool.context.contexts import prologue
    from cloudpool.runners.local import SpawnPopen

    return SpawnPopen(process_obj, prologue())


class ForkServerProcess(SessionProcess, stdlib.ForkServerProcess):
    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        _tell_it_stays("forkserver")
        from cloudpool.context.contexts import prologue
        from cloudpool.runners.local import ForkServerPopen

        return ForkServerPopen(process_obj, prologue())


@cache
def far_process(method: str) -> type[SessionProcess]:
    """The class of processes on the hosts of a runner: the start method that has its name."""

    class FarProcess(SessionProcess):
        # The stdlib's bootstrap must not look for a context of that name; `enter` has made it the default.
        _start_method = None  # type: ignore[assignment]

        @staticmethod
        def _Popen(process_obj: process.BaseProcess) -> Any:
            from cloudpool.context import relay
            from cloudpool.context.contexts import enter
            from cloudpool.runners.far import FarPopen

            return FarPopen(process_obj, method, (enter, (method, None)), relay.reducers())

        @staticmethod
        def _after_fork() -> None:
            _end_last()  # and a fresh interpreter has inherited nothing

    FarProcess.__name__ = FarProcess.__qualname__ = method.capitalize() + "Process"
    return FarProcess


def __getattr__(name: str) -> type[SessionProcess]:
    """Where pickle finds the classes that `far_process` makes."""
    method = name.removesuffix("Process").lower()
    if method != name and methods.is_far(method):
        return far_process(method)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
