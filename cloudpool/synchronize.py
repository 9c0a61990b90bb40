"""`multiprocessing.synchronize`, on the session's server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # ours have the stdlib's signatures
    from multiprocessing.synchronize import *
    from multiprocessing.synchronize import (
        RECURSIVE_MUTEX as RECURSIVE_MUTEX,
        SEM_VALUE_MAX as SEM_VALUE_MAX,
        SEMAPHORE as SEMAPHORE,
        Barrier as Barrier,
        SemLock as SemLock,
        _LockLike as _LockLike,
    )
else:
    from multiprocessing.synchronize import RECURSIVE_MUTEX, SEM_VALUE_MAX, SEMAPHORE

    from cloudpool.sync.barrier import Barrier
    from cloudpool.sync.condition import Condition
    from cloudpool.sync.event import Event
    from cloudpool.sync.semaphore import BoundedSemaphore, Lock, RLock, Semaphore, SemLock

__all__ = [
    "RECURSIVE_MUTEX",
    "SEMAPHORE",
    "SEM_VALUE_MAX",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "RLock",
    "SemLock",
    "Semaphore",
]
