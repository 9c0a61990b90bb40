"""The stdlib's Queue on its way to a far host: ProcessPoolExecutor makes one for its calls, whatever its context is.

    put --> its feeder --pipe of this machine--> a thread here --> SimpleQueue in the server --> get, far away

Only that way: what far workers send back goes through a queue that the executor asks the context for.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import queues
from multiprocessing.connection import Connection
from typing import Any
from weakref import WeakKeyDictionary

from cloudpool.errors import SessionLostError
from cloudpool.sync.queue import Queue, SimpleQueue

_relays: WeakKeyDictionary[queues.Queue[Any], SimpleQueue] = WeakKeyDictionary()


def reducers() -> dict[type, Callable[[Any], Any]]:
    """Reductions by type, for what is pickled for a far process."""
    futures = sys.modules.get("concurrent.futures.process")
    kinds = [queues.Queue, *([futures._SafeQueue] if futures is not None else ())]
    # Under `run` the executor's is one of ours, which travels by itself.
    return {kind: _reduce for kind in kinds if not issubclass(kind, Queue)}


class Relayed:
    """The far end of such a queue: all that a worker of an executor asks of it."""

    def __init__(self, items: SimpleQueue, room: Any) -> None:
        self._items, self._room = items, room

    def get(self, block: bool = True) -> Any:
        """The next item. Blocks until there is one."""
        data = self._items.get()
        self._room.release()
        return pickle.loads(data)


def _reduce(queue: Any) -> tuple[Any, ...]:
    items = _relays.get(queue)
    if items is None:
        items = _relays[queue] = SimpleQueue()
        # A descriptor of its own: the queue closes the other when it likes.
        reader = Connection(os.dup(queue._reader.fileno()), writable=False)
        threading.Thread(target=_relay, args=(reader, items), name="cloudpool-relay", daemon=True).start()
    return Relayed, (items, queue._sem)


def _relay(reader: Connection, items: SimpleQueue) -> None:
    """Until the queue is closed."""
    with reader, suppress(EOFError, SessionLostError):
        while True:
            items.put(reader.recv_bytes())
