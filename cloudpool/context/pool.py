"""Pool: the stdlib's face over tasks in the server.

    Pool --put--> Calls --tasks--> server <--> workers      (calls.py, tasks.py, hand.py, worker.py)
    Supervisor: waits on the workers' sentinels, replaces those that end, sends all home at the end

A worker that dies is noticed by the agent, which gives its tasks to the collector, and by the supervisor, which says how it
ended and starts another.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import pool as stdlib, util
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE, AsyncResult, IMapIterator, MapResult
from typing import TYPE_CHECKING, Any, TypeVar

from cloudpool import methods, settings
from cloudpool.context import memory_maps, overflow
from cloudpool.context.calls import INSTANT, Calls, Note, TaskSequence
from cloudpool.context.contexts import default_context
from cloudpool.context.exits import Exits
from cloudpool.context.kept import Keeping
from cloudpool.context.progress import bar
from cloudpool.context.results import Cache
from cloudpool.context.supervisor import Notifier, Recipe, Supervisor, end
from cloudpool.context.tasks import Tasks
from cloudpool.serialize import Reducers

if TYPE_CHECKING:
    from cloudpool.context.stats import Stats

S = TypeVar("S")
T = TypeVar("T")


class Pool(stdlib.Pool, metaclass=ABCMeta):
    """`multiprocessing.Pool`, whose tasks survive the death of their workers.

    Owned by the process that made it. `map` and its kin take `progress=True` to draw a bar on stderr (the `progress` setting
    is the default). After `settings.retries` more attempts, a task that ends its worker raises WorkerLostError.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any | None = None,
    ) -> None:
        # Attributes initialized early to make sure that they exist in __del__() if __init__() raises an exception
        self._pool: list[Any] = []
        self._state = INIT
        self._ctx = context or default_context.get_context()
        if processes is None:
            processes = self._ctx.cpu_count()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._initializer = initializer
        self._initargs = initargs
        self._maxtasksperchild = maxtasksperchild
        self._owner = os.getpid()

        exits = Exits(self._pool)
        tasks = self._inqueue = self._outqueue = Tasks(processes, settings.current().retries)
        # joblib's Pool has them for its memory maps.
        outward = getattr(self, "_forward_reducers", None) or {}
        _reduce_by(tasks, self._ctx, outward, getattr(self, "_backward_reducers", None) or {})
        self._change_notifier = notifier = Notifier()
        self._cache = Cache(notifier.put_when_closing)
        self._taskqueue = Calls(tasks, self._cache, exits)
        if (method := overflow.following(self._ctx.get_start_method())) is not None:
            self._taskqueue.overflow = overflow.Overflow(
                partial(_make_following, method, outward, processes, initializer, initargs, maxtasksperchild)
            )
        try:
            self._repopulate_pool()
        except Exception:
            for p in self._pool:
                if p.exitcode is None:
                    p.terminate()
            for p in self._pool:
                p.join()
            notifier.close()
            raise

        recipe = Recipe(
            self._ctx, self.Process, tasks, initializer, initargs, maxtasksperchild, self._wrap_exception
        )
        self._worker_handler = Supervisor(recipe, self._pool, self._taskqueue, tasks, notifier, exits)
        # The stdlib's names for threads that software joins and looks at.
        self._task_handler = self._result_handler = self._taskqueue.collector
        self._taskqueue.collector.start()
        self._worker_handler.thread.start()
        self._terminate = _Finalizer(
            self, _terminate, args=(self._worker_handler, self._taskqueue, self._pool), exitpriority=15
        )
        self._state = RUN
        self._began = time.monotonic()

    # -- what the inherited methods call --------------------------------------------------------------------------

    def _check_running(self) -> None:
        if self._state != RUN or self._owner != os.getpid():  # a forked child has none of its threads
            raise ValueError("Pool not running")

    def __del__(self, _os: Any = os) -> None:
        # Bound early: an interpreter's end empties modules.
        if getattr(self, "_owner", None) == _os.getpid():
            super().__del__()

    def _repopulate_pool(self) -> None:
        """Start as many workers as `_processes` says. Software that resizes a pool raises that and calls this."""
        super()._repopulate_pool()
        self._change_notifier.put()  # the supervisor watches them

    @staticmethod
    def _repopulate_pool_static(
        ctx: Any,
        Process: Any,
        processes: int,
        pool: list[Any],
        inqueue: Tasks,
        outqueue: Tasks,  # noqa: ARG004 - the stdlib's signature
        initializer: Any,
        initargs: Any,
        maxtasksperchild: int | None,
        wrap_exception: bool,
    ) -> None:
        recipe = Recipe(ctx, Process, inqueue, initializer, initargs, maxtasksperchild, wrap_exception)
        for _ in range(processes - len(pool)):
            worker = recipe.start()
            pool.append(worker)  # each as soon as it is there: a failure later ends them

    def _guarded_task_generation(self, result_job: int, func: Any, iterable: Any) -> Any:
        return TaskSequence(result_job, func, iterable)

    # -- calls, with a bar ------------------------------------------------------------------------------------------

    def apply(
        self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> T:
        self._taskqueue.note(Note(is_awaited=True))
        try:
            result: T = super().apply(func, args, {} if kwds is None else kwds)
        finally:
            self._taskqueue.note(None)
        return result

    def map(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        *,
        progress: bool | None = None,
    ) -> list[T]:
        iterable = _sized(iterable)
        with self._noting(iterable, progress, is_awaited=True):
            results: list[T] = super().map(func, iterable, chunksize)
        return results

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: bool | None = None,
    ) -> MapResult[T]:
        iterable = _sized(iterable)
        with self._noting(iterable, progress):
            return super().map_async(func, iterable, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: bool | None = None,
    ) -> list[T]:
        iterable = _sized(iterable)
        with self._noting(iterable, progress, is_awaited=True):
            results: list[T] = super().starmap(func, iterable, chunksize)
        return results

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        progress: bool | None = None,
    ) -> AsyncResult[list[T]]:
        iterable = _sized(iterable)
        with self._noting(iterable, progress):
            return super().starmap_async(func, iterable, chunksize, callback, error_callback)

    def imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = 1,
        *,
        progress: bool | None = None,
    ) -> IMapIterator[T]:
        with self._noting(iterable, progress):
            return super().imap(func, iterable, chunksize)

    def imap_unordered(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = 1,
        *,
        progress: bool | None = None,
    ) -> IMapIterator[T]:
        with self._noting(iterable, progress):
            return super().imap_unordered(func, iterable, chunksize)

    def kept(self, func: Callable[[Any], T]) -> Keeping:
        """`func` for a call whose results stay with the workers: chunking's map_reduce() looks for it."""
        return Keeping(func)

    @contextmanager
    def _noting(self, iterable: Any, progress: bool | None, *, is_awaited: bool = False) -> Iterator[None]:
        """What the inherited method puts within is known for what it is."""
        if progress is None:
            progress = settings.current().progress
        drawn = bar(len(iterable) if hasattr(iterable, "__len__") else None) if progress else None
        self._taskqueue.note(Note(type(iterable) in INSTANT, drawn, is_awaited))
        try:
            yield
        finally:
            self._taskqueue.note(None)

    def stats(self) -> Stats:
        """What this pool has done so far, and with functions what the session has cost. Of one call: after - before."""
        from cloudpool.context import stats  # not for the many programs that do not ask

        time_s = time.monotonic() - self._began
        return stats.of_pool(self._ctx.get_start_method(), len(self._pool), self._taskqueue.done, time_s)

    # -- ends -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """No more calls; the workers go home when those under way are done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._worker_handler.turn(CLOSE)

    def terminate(self) -> None:
        """Drop what is waiting, and end the workers (SIGTERM) at once."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait until the workers have ended. Raises ValueError unless closed or terminated."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._worker_handler.join()
        self._taskqueue.join()
        for p in self._pool:
            p.join()


Pool.register(stdlib.ThreadPool)  # as in the stdlib: who is given either asks whether it is a Pool


def _sized(iterable: Any) -> Any:
    return iterable if hasattr(iterable, "__len__") else list(iterable)


def _make_following(method: str, outward: Reducers, processes: int, *how: Any) -> Any:
    ctx = default_context.get_context(method)
    pool = ctx.Pool(min(processes, ctx.cpu_count()), *how)
    _reduce_by(pool._inqueue, ctx, outward, {})
    return pool


def _reduce_by(tasks: Tasks, ctx: Any, outward: Reducers, homeward: Reducers) -> None:
    if methods.is_far(ctx.get_start_method()):
        outward, homeward = memory_maps.for_far(outward), {}
    tasks.outward, tasks.homeward = outward, homeward


class _Finalizer(util.Finalize):
    """A pool's. Nobody refers to it any more: that may be found out by a garbage collection, in any thread, whatever locks
    that has. So it waits for nothing then, and all is left to the supervisor.
    """

    def __call__(self, wr: Any = None, *rest: Any, **named: Any) -> Any:
        if wr is not None and self._kwargs is not None:
            self._kwargs["is_dropped"] = True
        return super().__call__(wr, *rest, **named)


def _terminate(supervisor: Supervisor, calls: Calls, workers: list[Any], *, is_dropped: bool = False) -> None:
    util.debug("finalizing pool")
    supervisor.turn(TERMINATE)
    if is_dropped or threading.current_thread() is supervisor.thread:
        return
    calls.stop()
    supervisor.join()
    for worker in workers:
        if worker.exitcode is None:
            end(worker)
    calls.join()
    for worker in workers:
        if worker.is_alive():
            util.debug("cleaning up worker %d", worker.pid)
            worker.join()
