"""Lock .. Barrier and Queue as managers give them out: `threading`'s and `queue`'s interface on our primitives.

A proxy has the primitive's handle and goes wherever that goes. Handles of one lock are one within a process, so that an
RLock fetched twice from a dict is held once, and a Condition knows that its lock is held.
"""

from __future__ import annotations

import time
from multiprocessing import synchronize
from queue import Full
from typing import Any
from weakref import WeakValueDictionary

from cloudpool.host import session as sessions
from cloudpool.sync import payload
from cloudpool.sync.barrier import Barrier
from cloudpool.sync.condition import Condition
from cloudpool.sync.event import Event
from cloudpool.sync.proxy import Proxy, gone, stdlib
from cloudpool.sync.queue import Items
from cloudpool.sync.semaphore import BoundedSemaphore, Lock, RLock, Semaphore, SemLock
from cloudpool.sync.shared import Shared

_locks: WeakValueDictionary[str, Any] = WeakValueDictionary()


class _OnPrimitive(Proxy):
    """A proxy of `_of`, one of our primitives. `_state` is the manager's, in the process that has that."""

    _state: Any = None

    def __init__(self, typeid: str, of: Any, *, manager: Any = None) -> None:
        self._typeid = typeid
        self._of = of
        if manager is not None:
            self._manager = manager
            self._state = manager._state

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._typeid, self._of)

    @property
    def _shared(self) -> Shared:
        """The object in the server."""
        return self._of if isinstance(self._of, Shared) else self._of._semlock

    @property
    def _id(self) -> str:
        return self._shared._id

    @property
    def _token(self) -> Any:
        return stdlib.Token(self._typeid, sessions.current().info.folder, self._id)

    def _there(self) -> Any:
        """The primitive. Raises ConnectionRefusedError after the manager's shutdown."""
        if self._state is not None and self._state.value == stdlib.State.SHUTDOWN:
            raise gone(self._typeid)
        return self._of

    def _getvalue(self) -> Any:
        raise stdlib.RemoteError(f"TypeError: cannot pickle {self._typeid!r} object\n")

    def __str__(self) -> str:
        return repr(self._of)


def _rebuild(cls: type[_OnPrimitive], typeid: str, of: Any) -> _OnPrimitive:
    return cls(typeid, _one(of) if isinstance(of, SemLock) else of)


def _one(lock: Any) -> Any:
    """This process's one handle of the lock."""
    return _locks.setdefault(lock._semlock._base, lock)


class AcquirerProxy(_OnPrimitive, stdlib.AcquirerProxy):
    """`threading.Lock`, `RLock`, `Semaphore` and `BoundedSemaphore`."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        lock = self._lock()
        if isinstance(lock, synchronize.Semaphore):
            if not blocking and timeout is not None:
                raise ValueError("can't specify timeout for non-blocking acquire")
        elif timeout is not None and timeout != -1:
            if not blocking:
                raise ValueError("can't specify a timeout for a non-blocking call")
            if timeout < 0:
                raise ValueError("timeout value must be a non-negative number")
        else:
            timeout = None
        return lock.acquire(blocking, timeout)  # type: ignore[no-any-return]

    def release(self) -> None:
        """As `threading`'s: RuntimeError for a Lock or RLock that is not held, ValueError for a full BoundedSemaphore."""
        lock = self._lock()
        try:
            lock.release()
        except AssertionError:
            raise RuntimeError("cannot release un-acquired lock") from None
        except ValueError:
            if isinstance(lock, synchronize.Semaphore):
                raise ValueError("Semaphore released too many times") from None  # noqa: TRY004 - as threading does
            raise RuntimeError("release unlocked lock") from None

    def _lock(self) -> Any:
        return self._there()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class ConditionProxy(AcquirerProxy, stdlib.ConditionProxy):
    """`threading.Condition`."""

    def __init__(self, typeid: str, of: Condition, *, manager: Any = None) -> None:
        of._lock = _one(of._lock)
        super().__init__(typeid, of, manager=manager)

    def _lock(self) -> Any:
        return self._there()._lock

    def _held(self, doing: str) -> Any:
        condition = self._there()
        if not condition._lock._semlock._is_mine():
            raise RuntimeError(f"cannot {doing} on un-acquired lock")
        return condition

    def wait(self, timeout: float | None = None) -> bool:
        return self._held("wait").wait(timeout)  # type: ignore[no-any-return]

    def notify(self, n: int = 1) -> None:
        self._held("notify").notify(n)

    def notify_all(self) -> None:
        self._held("notify").notify_all()

    def wait_for(self, predicate: Any, timeout: float | None = None) -> Any:
        end = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result


class EventProxy(_OnPrimitive, stdlib.EventProxy):
    """`threading.Event`."""

    def is_set(self) -> bool:
        return self._there().is_set()  # type: ignore[no-any-return]

    def set(self) -> None:
        self._there().set()

    def clear(self) -> None:
        self._there().clear()

    def wait(self, timeout: float | None = None) -> bool:
        return self._there().wait(timeout)  # type: ignore[no-any-return]


class BarrierProxy(_OnPrimitive, stdlib.BarrierProxy):
    """`threading.Barrier`. Its action runs in the process that arrives last."""

    def wait(self, timeout: float | None = None) -> int:
        return self._there().wait(timeout)  # type: ignore[no-any-return]

    def abort(self) -> None:
        self._there().abort()

    def reset(self) -> None:
        self._there().reset()

    @property
    def parties(self) -> int:
        return self._there().parties  # type: ignore[no-any-return]

    @property
    def n_waiting(self) -> int:
        return self._there().n_waiting  # type: ignore[no-any-return]

    @property
    def broken(self) -> bool:
        return self._there().broken  # type: ignore[no-any-return]

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - the stdlib's signature
        if methodname == "__getattribute__":
            return getattr(self, *args)
        return super()._callmethod(methodname, args, kwds)


class QueueProxy(_OnPrimitive):
    """`queue.Queue`: what `put` has put is there when it returns; what does not pickle raises at once."""

    _exposed_ = ("empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "task_done")

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put. When bounded and full, block (`timeout` seconds at most). Raises Full."""
        items: Items = self._there()
        wait_s = _wait(block, timeout) if items.maxsize else None
        message = payload.pack(item, items._here(), items.where, read_once=not items.joinable, into=items._id)
        if not items.put(message, wait_s):
            items.refuse(message)
            raise Full
        items.settle()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item. Blocks (`timeout` seconds at most). Raises Empty."""
        return self._there().get(_wait(block, timeout))

    def put_nowait(self, item: Any) -> None:
        self.put(item, False)

    def get_nowait(self) -> Any:
        return self.get(False)

    def qsize(self) -> int:
        return len(self._there())

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        return bool(0 < self._of.maxsize <= self.qsize())

    def task_done(self) -> None:
        """One item got earlier is done. Raises ValueError when more are than were put."""
        self._there().task_done()

    def join(self) -> None:
        """Block until every item is done."""
        self._there().join()


QueueProxy.__name__ = "AutoProxy[Queue]"  # what the stdlib's repr says


def _wait(block: bool, timeout: float | None) -> float | None:
    """Seconds to wait; None for ever."""
    if not block:
        return 0.0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


# -- makers, by typeid -----------------------------------------------------------------------------------------------


def make_lock(ctx: Any, manager: Any) -> AcquirerProxy:
    return AcquirerProxy("Lock", _one(Lock(ctx=ctx)), manager=manager)


def make_rlock(ctx: Any, manager: Any) -> AcquirerProxy:
    return AcquirerProxy("RLock", _one(RLock(ctx=ctx)), manager=manager)


def make_semaphore(ctx: Any, manager: Any, value: int = 1) -> AcquirerProxy:
    return AcquirerProxy("Semaphore", _one(Semaphore(_not_negative(value), ctx=ctx)), manager=manager)


def make_bounded_semaphore(ctx: Any, manager: Any, value: int = 1) -> AcquirerProxy:
    return AcquirerProxy(
        "BoundedSemaphore", _one(BoundedSemaphore(_not_negative(value), ctx=ctx)), manager=manager
    )


def _not_negative(value: int) -> int:
    """A semaphore's first value. Raises ValueError below 0, as `threading` does: multiprocessing's own raise OSError."""
    if value < 0:
        raise ValueError("semaphore initial value must be >= 0")
    return value


def make_condition(ctx: Any, manager: Any, lock: Any = None) -> ConditionProxy:
    lock = lock._lock() if isinstance(lock, AcquirerProxy) else lock
    return ConditionProxy("Condition", Condition(lock, ctx=ctx), manager=manager)


def make_event(ctx: Any, manager: Any) -> EventProxy:
    return EventProxy("Event", Event(ctx=ctx), manager=manager)


def make_barrier(
    ctx: Any, manager: Any, parties: int, action: Any = None, timeout: float | None = None
) -> BarrierProxy:
    return BarrierProxy("Barrier", Barrier(parties, action, timeout, ctx=ctx), manager=manager)


def make_queue(ctx: Any, manager: Any, maxsize: int = 0) -> QueueProxy:
    """An item counts as got when `get` returns it: programs that use `Manager().Queue()` rarely call task_done."""
    return QueueProxy("Queue", Items(max(0, maxsize)), manager=manager)


def make_joinable_queue(ctx: Any, manager: Any, maxsize: int = 0) -> QueueProxy:
    """An item that was got and not marked done when its process died comes back."""
    return QueueProxy("JoinableQueue", Items(max(0, maxsize), joinable=True), manager=manager)
