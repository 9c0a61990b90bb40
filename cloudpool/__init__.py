"""cloudpool: `import cloudpool as multiprocessing`, and the program's processes and primitives can live anywhere.

Every public name of `multiprocessing`, with CPython's semantics; see docs/compatibility.md for the few differences.
Names are looked up when first used, so that the import is cheap.
"""

import atexit as _atexit
import sys

if sys.platform != "linux":
    raise ImportError(
        "cloudpool needs Linux: install it inside WSL (`wsl --install`)."
        if sys.platform == "win32"
        else "cloudpool needs Linux: run it in a container or a virtual machine."
    )

__version__ = "0.1.0"

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

_SUBMODULES = frozenset({
    "connection", "context", "dummy", "errors", "forkserver", "heap", "install", "managers", "pool", "popen_fork",
    "popen_forkserver", "popen_spawn_posix", "process", "queues", "reduction", "resource_sharer",
    "resource_tracker", "settings", "shared_memory", "sharedctypes", "spawn", "synchronize", "util",
})  # fmt: skip

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost milliseconds
if TYPE_CHECKING:  # the stdlib's signatures are ours, but for what makes a pool
    from multiprocessing import (
        Array,
        AuthenticationError,
        Barrier,
        BoundedSemaphore,
        BufferTooShort,
        Condition,
        Event,
        JoinableQueue,
        Lock,
        Manager,
        Pipe,
        Process,
        ProcessError,
        Queue,
        RawArray,
        RawValue,
        RLock,
        Semaphore,
        SimpleQueue,
        TimeoutError,
        Value,
        active_children,
        allow_connection_pickling,
        cpu_count,
        current_process,
        freeze_support,
        get_all_start_methods,
        get_logger,
        get_start_method,
        log_to_stderr,
        parent_process,
        reducer,
        set_executable,
        set_forkserver_preload,
        set_start_method,
    )

    from cloudpool import (
        connection as connection,
        context as context,
        dummy as dummy,
        errors as errors,
        forkserver as forkserver,
        heap as heap,
        managers as managers,
        pool as pool,
        popen_fork as popen_fork,
        popen_forkserver as popen_forkserver,
        popen_spawn_posix as popen_spawn_posix,
        process as process,
        queues as queues,
        reduction as reduction,
        resource_sharer as resource_sharer,
        resource_tracker as resource_tracker,
        settings as settings,
        shared_memory as shared_memory,
        sharedctypes as sharedctypes,
        spawn as spawn,
        synchronize as synchronize,
        util as util,
    )
    from cloudpool.context.executor import Executor as Executor
    from cloudpool.install import _Callable

    install: _Callable
    Pool = context.default_context.Pool
    get_context = context.default_context.get_context
else:

    def __getattr__(name: str) -> object:
        if name in _SUBMODULES:
            from importlib import import_module

            return import_module(f"cloudpool.{name}")
        if name == "Executor":  # ours: not in __all__, which is multiprocessing's to the letter
            from cloudpool.context.executor import Executor

            return Executor
        if name not in __all__ and name not in ("SUBDEBUG", "SUBWARNING"):
            raise AttributeError(f"module 'cloudpool' has no attribute {name!r}")
        from cloudpool.context.contexts import default_context

        if name in ("SUBDEBUG", "SUBWARNING"):
            import multiprocessing

            return getattr(multiprocessing, name)
        if name == "reducer":  # a property that can be set: not to be remembered here
            return default_context.reducer
        value = globals()[name] = getattr(default_context, name)
        return value


del TYPE_CHECKING  # multiprocessing has no such name


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})


# Handlers run in reverse order: those that are registered after the import still have the program's shared objects.
# The stdlib's own is that of multiprocessing.util; where it was there before, it runs after this one.
_util_was_there = "multiprocessing.util" in sys.modules


@_atexit.register
def _end_session() -> None:
    if (sessions := sys.modules.get("cloudpool.host.session")) is not None:
        sessions.end_with_program(_util_was_there)
