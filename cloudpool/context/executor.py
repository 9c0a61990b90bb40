"""Executor: the interface of `concurrent.futures` over a Pool's tasks.

    submit --> waiting (may be cancelled) --> Pool.apply_async (running) --callback--> Future

As many tasks as keep the workers busy are with the pool; the rest wait here, where a Future can still be cancelled.
A dead worker costs its task another attempt and then that Future alone, not the whole executor.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from cloudpool.context.contexts import default_context
from cloudpool.context.pool import Pool
from cloudpool.errors import SessionLostError
from cloudpool.host import session as sessions

P = ParamSpec("P")
T = TypeVar("T")

AHEAD = 2  # tasks with the pool for each worker: one that runs and one that is there when it ends


class Executor(futures.Executor):
    """`concurrent.futures.ProcessPoolExecutor`'s interface on cloudpool's workers, started at the first `submit`.

    `mp_context` is one of cloudpool's contexts. Use it in a `with` block, or call `shutdown`; else the program's end
    waits for what was submitted.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None and max_tasks_per_child < 1:
            raise ValueError("max_tasks_per_child must be >= 1")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._ctx = mp_context or default_context.get_context()
        self._workers = max_workers or self._ctx.cpu_count()
        self._make_pool = partial(
            Pool, self._workers, initializer, tuple(initargs), max_tasks_per_child, self._ctx
        )
        self._pool: Pool | None = None
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[tuple[futures.Future[Any], Callable[..., None]]] = deque()
        self._running = 0
        self._is_sending = False
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Have `fn(*args, **kwargs)` called in a worker. Raises RuntimeError after `shutdown` and at the interpreter's."""
        future: futures.Future[T] = futures.Future()

        def start(pool: Pool, **callbacks: Callable[[Any], None]) -> None:
            if isinstance(fn, _Each):
                chunk: Any = args[0]
                pool.starmap_async(fn.func, chunk, len(chunk), progress=False, **callbacks)
            else:
                pool.apply_async(fn, args, kwargs, **callbacks)

        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _is_ending:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._pool is None:
                self._pool = self._make_pool()
                _started.add(self)
            self._waiting.append((future, start))
            self._send()
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """As the built-in map, `chunksize` items a task; results in order. Raises TimeoutError after `timeout` seconds."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        items = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(items, chunksize)), [])
        results: Iterator[list[Any]] = super().map(_Each(fn), chunks, timeout=timeout)
        return itertools.chain.from_iterable(results)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; with `cancel_futures` cancel what waits; with `wait` block until the rest is done and the workers are gone."""
        with self._lock:
            self._is_shut_down = True
            if cancel_futures:
                for future, _ in self._waiting:
                    future.cancel()
                self._send()
            self._close_if_idle()
            if not wait or self._pool is None:
                return
            self._idle.wait_for(lambda: not self._running and not self._waiting)
        session = sessions.existing()
        try:
            if session is not None:
                session.check()
        except SessionLostError:
            self._pool.terminate()  # workers that are out of reach do not go home by themselves
        self._pool.join()

    # -- under the lock ---------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Give the pool what it has room for."""
        if self._is_sending:  # a broken pool says so at once, within the loop below
            return
        assert self._pool is not None or not self._waiting
        self._is_sending = True
        try:
            self._send_some()
        finally:
            self._is_sending = False

    def _send_some(self) -> None:
        # A loop of its own: where it begins anew, what a handler raises passes by the `finally` around it (Python 3.12).
        while self._waiting and self._running < AHEAD * self._workers:
            future, start = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            self._running += 1
            failed = partial(self._done, future.set_exception)
            try:
                start(self._pool, callback=partial(self._done, future.set_result), error_callback=failed)
            except Exception as error:  # noqa: BLE001 - the session's end, most likely: whoever waits must hear of it
                failed(error)

    def _done(self, settle: Callable[[Any], None], outcome: Any) -> None:
        """A task is done: in the pool's thread."""
        with self._lock:
            self._running -= 1
            self._send()
            self._close_if_idle()
        settle(outcome)

    def _close_if_idle(self) -> None:
        if self._is_shut_down and not self._running and not self._waiting:
            if self._pool is not None:
                self._pool.close()
            self._idle.notify_all()


class _Each(partial[Any]):
    """A function to call with each item of a chunk: the chunk is a map's, so an item that kills its worker is told apart."""


# -- the program's end --------------------------------------------------------------------------------------------------

# Those of this process with workers. One that was dropped is here while it has tasks: their callbacks hold it.
_started: WeakSet[Executor] = WeakSet()
_is_ending = False


def _finish() -> None:
    """Have all that was submitted run, as `concurrent.futures` does."""
    global _is_ending
    _is_ending = True
    for executor in list(_started):
        executor.shutdown()


# Private, but concurrent.futures' own way: at atexit it is too late, as a worker that dies can then not be replaced, and a
# thread of ours that waits for the main one's end would have every fork warn.
threading._register_atexit(_finish)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_started.clear)
