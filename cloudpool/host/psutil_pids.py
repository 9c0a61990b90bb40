"""psutil on a far host asks the kernel about this process, which knows it by another number than os.getpid() (identity.py).

Programs, and packages as they are imported (dask), say psutil.Process(os.getpid()). Until psutil is imported this costs nothing.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from cloudpool.host import identity


def install() -> None:
    """psutil, once it is imported here, takes this process's pid for the kernel's number of it."""
    if (psutil := sys.modules.get("psutil")) is not None:
        _translate(psutil)
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds nothing but psutil, with the others' help, and is gone then."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name != "psutil":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            sys.meta_path.insert(0, self)
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _translate(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _translate(psutil: Any) -> None:
    begin, exists = psutil.Process._init, psutil.pid_exists

    def _init(self: Any, pid: int | None, *arguments: Any, **options: Any) -> None:
        begin(self, _kernels(os.getpid() if pid is None else pid), *arguments, **options)

    psutil.Process._init = _init
    psutil.pid_exists = lambda pid: exists(_kernels(pid))


def _kernels(pid: int) -> int:
    return identity.kernels_pid() if pid == os.getpid() else pid
