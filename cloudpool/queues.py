"""`multiprocessing.queues`, on the session's server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # ours have the stdlib's signatures
    from multiprocessing.queues import *
else:
    from queue import Empty, Full  # noqa: F401 - as in the stdlib, not in __all__

    from cloudpool.sync.queue import JoinableQueue, Queue, SimpleQueue

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]
