"""Make `import multiprocessing` mean cloudpool, for programs that are run without changing a character.

    who imports multiprocessing, multiprocessing.pool, ...       gets
    the script, its modules, other packages, concurrent.futures  cloudpool, cloudpool.pool, ...
    cloudpool, and multiprocessing's own modules, and loky       the stdlib's
    importlib.import_module("multiprocessing"), mock.patch       cloudpool, likewise by who calls it
    pickle, sys.modules["multiprocessing"]                       the stdlib's

The import statement is redirected, by who issues it, and sys.modules is left alone. Putting cloudpool there under the
stdlib's names breaks what cloudpool builds on: the stdlib's functions import their siblings when they run
(`from . import util` in BaseProcess._bootstrap), pickle refuses a class that it does not find under its own name, and
each late import in cloudpool would find cloudpool again.

Processes started by fork inherit this, those by spawn and forkserver get it with their preparation data, before their main
module is imported. For any other way of starting one: apply(state()) there, before that import.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["apply", "install", "state", "uninstall"]

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STDLIB = "multiprocessing"
CLOUDPOOL = "cloudpool"
# Besides themselves: loky, joblib's too, rewrites multiprocessing's insides, and its workers are no processes of ours.
UNTOUCHED = (f"{STDLIB}.", f"{CLOUDPOOL}.", "loky.", "joblib.externals.loky.")

_replaced: list[tuple[object, str, Any]] = []  # what uninstall() puts back: (object, attribute, value)


def install() -> None:
    """Redirect the import statements of this process, and of those that it starts, until uninstall()."""
    if _replaced:
        return
    from multiprocessing import forkserver, spawn

    _replace(builtins, "__import__", _Redirecting(builtins.__import__))
    _replace(importlib, "import_module", _ImportingModule(importlib.import_module))
    _replace(spawn, "get_preparation_data", _Preparing(spawn.get_preparation_data))
    # A fork server imports what it preloads without preparation data: a main module from there would have the stdlib.
    server: Any = forkserver._forkserver
    _replace(server, "_preload_modules", [name for name in server._preload_modules if name != "__main__"])
    if (executors := sys.modules.get("concurrent.futures.process")) is not None:
        _rebind(executors)


def _rebind(executors: Any) -> None:
    """concurrent.futures.process was imported before: what it took from multiprocessing then."""
    import cloudpool
    from cloudpool.sync.queue import Queue

    for name in ("mp", "multiprocessing"):
        if hasattr(executors, name):
            _replace(executors, name, cloudpool)
    _replace(executors, "Queue", Queue)
    _replace(executors._SafeQueue, "__bases__", (Queue,))


def uninstall() -> None:
    """Put back everything that install() replaced. What was imported meanwhile keeps what it got."""
    while _replaced:
        owner, name, value = _replaced.pop()
        setattr(owner, name, value)


def state() -> bool:
    """What another process needs to be told about this one, for apply()."""
    return bool(_replaced)


def apply(state: bool) -> None:
    """Do in this process as in the one that `state` is from."""
    if state:
        install()


class _Redirecting:
    """builtins.__import__: the one it replaces, with another name where the importing module is to get cloudpool."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0 and _is_statement(globals, fromlist):
            name = _redirected(name)
        module: ModuleType = self.original(name, globals, locals, fromlist, level)
        return module


class _ImportingModule:
    """importlib.import_module, likewise: lazy loaders, unittest.mock.patch and pkgutil.resolve_name import by it."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __call__(self, name: str, package: str | None = None) -> ModuleType:
        if not _is_untouched(sys._getframe(1).f_globals):
            if package == STDLIB and name.startswith("."):
                name, package = package + name, None
            name = _redirected(name)
        module: ModuleType = self.original(name, package)
        return module


def _redirected(name: str) -> str:
    return CLOUDPOOL + name.removeprefix(STDLIB) if name.partition(".")[0] == STDLIB else name


def _is_statement(globals: Mapping[str, object] | None, fromlist: object) -> bool:
    """Whether this is an import statement of a module that is to get cloudpool.

    What pickle imports it then looks up in sys.modules by the same name: it calls without globals, or, from C, with a list.
    """
    if globals is None or isinstance(fromlist, list):
        return False
    return not _is_untouched(globals)


def _is_untouched(globals: Mapping[str, object]) -> bool:
    return f"{globals.get('__name__')}.".startswith(UNTOUCHED)


class _Preparing:
    """multiprocessing.spawn.get_preparation_data, with an entry that installs where it is unpickled."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __call__(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = self.original(name)
        return {**data, CLOUDPOOL: _Arriving()}


class _Arriving:
    def __reduce__(self) -> tuple[object, tuple[bool]]:
        return apply, (state(),)


def _replace(owner: object, name: str, value: object) -> None:
    _replaced.append((owner, name, getattr(owner, name)))
    setattr(owner, name, value)


class _Callable(ModuleType):
    """This module: `cloudpool.install()` is to work however often, and the first import binds that name to the module."""

    def __call__(self) -> None:
        install()


sys.modules[__name__].__class__ = _Callable
