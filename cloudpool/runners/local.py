"""Processes on this host: the stdlib's own Popen for fork, spawn and forkserver, each child reported to the agent.

A program that has used no primitive has no agent: then nothing is reported, and nothing differs from the stdlib.
"""

from __future__ import annotations

import site
import threading
from collections.abc import Callable
from multiprocessing import forkserver, popen_fork, popen_forkserver, popen_spawn_posix
from multiprocessing.process import BaseProcess
from operator import getitem
from typing import Any

from cloudpool.host import session as sessions
from cloudpool.host.interpreter import import_places

Prologue = tuple[Callable[..., Any], tuple[Any, ...]]  # what a fresh interpreter calls first


class _Place:
    """Unpickles to nothing, having put a folder on sys.path: a fresh interpreter gets its parent's only later."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return site.addsitedir, (self._folder,)


class _Call:
    """Unpickles by calling `function`."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._function, self._arguments


class _Name(str):
    """A process's name whose pickle first does what a fresh interpreter must do before it imports the main module.

    The stdlib's preparation data are the first thing that such a child unpickles, and the name is all of them that the
    process object decides.
    """

    __slots__ = ("prologue",)
    prologue: Prologue

    def __reduce__(self) -> tuple[Any, ...]:
        return getitem, ([*map(_Place, import_places()), _Call(*self.prologue), str(self)], -1)


class ForkPopen(popen_fork.Popen):
    """Start by fork; the child holds what its parent holds."""

    def _launch(self, process_obj: BaseProcess) -> None:
        sessions.expect_child()
        super()._launch(process_obj)
        if (session := sessions.existing()) is not None:
            session.born(self.pid, sessions.take_ticket(), [])


class _FreshPopen:
    """What spawn and forkserver share: the prologue goes ahead, and the handles in the pickle are the child's."""

    pid: int

    def __init__(self, process_obj: BaseProcess, prologue: Prologue) -> None:
        self._prologue = prologue
        self.shared_ids: list[str] = []
        super().__init__(process_obj)  # type: ignore[call-arg] # the stdlib's Popen, beside this class in the bases

    def _launch(self, process_obj: BaseProcess) -> None:
        plain = process_obj._name
        process_obj._name = name = _Name(plain)
        name.prologue = self._prologue
        try:
            super()._launch(process_obj)  # type: ignore[misc] # the stdlib's as well
        finally:
            process_obj._name = plain
        if (session := sessions.existing()) is not None:
            session.born(self.pid, None, self.shared_ids)


class SpawnPopen(_FreshPopen, popen_spawn_posix.Popen):
    """Start by a fresh interpreter."""


_preloading = threading.Lock()


class ForkServerPopen(_FreshPopen, popen_forkserver.Popen):
    """Start by a fork of the fork server, which has imported what every prologue needs: that took most of a child's start."""

    def _launch(self, process_obj: BaseProcess) -> None:
        server: Any = forkserver._forkserver
        with _preloading:
            users = server._preload_modules
            server._preload_modules = [*users, self._prologue[0].__module__, "cloudpool.host.membership"]
            try:
                server.ensure_running()
            finally:
                server._preload_modules = users
        super()._launch(process_obj)
