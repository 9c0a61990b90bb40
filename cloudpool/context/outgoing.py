"""The tasks of one call on their way out: pickled, gathered, submitted several a trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudpool.context.submitter import MOST, MOST_BYTES
from cloudpool.context.tasks import Task
from cloudpool.store.interruption import is_handlers

if TYPE_CHECKING:
    from cloudpool.context.calls import Call, Calls
    from cloudpool.context.losses import Outcome

FIRST_BYTES = 32 << 10  # go first, then twice as many each time: workers begin while the rest is pickled


class Outgoing:
    """Tasks of one call on their way into the line, several a trip."""

    def __init__(self, calls: Calls, call: Call) -> None:
        self._calls, self._call = calls, call
        self._elements: list[bytes] = []
        self._kept: dict[bytes, Outcome] = {}
        self._size_bytes, self._enough_bytes = 0, FIRST_BYTES
        self._refused: Exception | None = None  # why the function cannot be pickled

    def __len__(self) -> int:
        return len(self._elements) + len(self._kept)

    def add(self, index: int, func: Any, x: Any) -> None:
        """A task: with `func` None, x is a pair of the function and a tuple of arguments. What cannot be pickled is kept."""
        call = self._call
        items = 1
        if func is None:
            func, x = x
            items = len(x)
        id = b"%d.%d" % (call.job, index)
        try:
            if call.function is None:
                if self._refused is not None:
                    raise self._refused
                try:
                    call.function = self._calls.functions.use(func)
                except Exception as error:
                    if not is_handlers(error):
                        self._refused = error
                    raise
                call.items = items
            token = call.function.token.encode()
            message = self._calls._tasks.pack_task(x, id, token, call.mode)
        except Exception as error:  # every failure reaches whoever waits for the call
            if is_handlers(error):  # who waits is the thread that it came to
                raise
            self.keep(index, error)
            return
        if message[:1] == b"b":
            call.blobs[id] = message
        element = Task(id, token, items, 0, call.to, call.mode, message).element()
        self._elements.append(element)
        self._size_bytes += len(element)
        if len(self._elements) >= MOST or self._size_bytes >= self._enough_bytes:
            self._enough_bytes = min(2 * self._enough_bytes, MOST_BYTES)
            self.flush()

    def keep(self, index: int, error: BaseException) -> None:
        self._kept[b"%d.%d" % (self._call.job, index)] = False, error

    def flush(self) -> None:
        if not len(self):
            return
        with self._calls._lock:
            if self._call.job in self._calls._calls:
                self._call.under_way += len(self)
                self._calls._under_way += len(self)
            else:  # it has failed: what was sent before was refused
                self._elements, self._kept = [], {}
                self._calls.discard_blobs(self._call)
        if self._elements:
            assert self._call.function is not None
            self._calls._submitter.send(self._elements, self._call.function)
        if self._kept:
            self._calls.keep(self._kept, self._call.to)
        self._elements, self._kept, self._size_bytes = [], {}, 0
