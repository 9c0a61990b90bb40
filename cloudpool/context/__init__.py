"""What a program calls: contexts, processes, pools and managers. Under the names of `multiprocessing.context`."""

from multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    reduction,
    set_spawning_popen,
)

from cloudpool.context.contexts import (
    BaseContext,
    DefaultContext,
    ForkContext,
    ForkServerContext,
    Process,
    SpawnContext,
    _contexts,
    default_context,
    force_start_method,
)
from cloudpool.context.process import ForkProcess, ForkServerProcess, SpawnProcess

_concrete_contexts = _contexts  # others look into, and add to, the table by the stdlib's name
_default_context = default_context  # joblib and others reach for it by the stdlib's name
_force_start_method = force_start_method

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "default_context",
    "get_spawning_popen",
    "reduction",
    "set_spawning_popen",
]
