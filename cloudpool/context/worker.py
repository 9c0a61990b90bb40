"""What a pool's worker process does: initialize, then task after task until it is sent home."""

from __future__ import annotations

import itertools
import reprlib
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import AuthenticationError, util
from multiprocessing.pool import ExceptionWithTraceback, MaybeEncodingError
from typing import Any

from cloudpool import serialize
from cloudpool.context import hints, tasks as protocol
from cloudpool.context.hand import Hand
from cloudpool.context.last_words import LastWords
from cloudpool.context.tasks import Task, Tasks
from cloudpool.errors import SessionLostError
from cloudpool.store.blobs import finds_no_place

SHORT_S = 0.001  # tasks that together take less are not worth a round trip each


def work(
    tasks: Tasks,
    last: LastWords,
    initializer: Callable[..., Any] | None = None,
    initargs: Iterable[Any] = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
) -> None:
    """The target of a worker process. Exits with status 1 when the initializer raises, which the root is told."""
    last.listen()
    if initializer is not None:
        try:
            initializer(*initargs)
        except Exception as error:  # noqa: BLE001 - a task's error is its result
            _tell_root(tasks, _wrapped(error, wrap_exception))
            raise SystemExit(1) from None
    try:
        completed = _work(Hand(tasks, last), tasks, last, maxtasks, wrap_exception)
    except SessionLostError as error:
        util.debug("worker exiting: %s", error)
    except AuthenticationError as error:
        # What it took was no task: the call that it was made of would wait for ever.
        _tell_root(tasks, error)
        raise
    else:
        util.debug("worker exiting after %d tasks", completed)


def _work(hand: Hand, tasks: Tasks, last: LastWords, maxtasks: int | None, wrap_exception: bool) -> int:
    completed, longest_s = 0, 0.0
    while maxtasks is None or completed < maxtasks:
        task = hand.next(longest_s)
        if task is None:
            util.debug("worker was sent home")
            break
        began = time.perf_counter()
        status, value = _outcome(task, hand, tasks, last, wrap_exception)
        took_s = time.perf_counter() - began
        longest_s = max(longest_s, took_s)
        most = max(1, min(int(SHORT_S / max(took_s, 1e-6)), protocol.MOST_AT_ONCE))
        if hand.is_late(longest_s):
            most = 0
        completed += 1
        if maxtasks is not None:
            most = min(most, maxtasks - completed)
        status, message = _pack(tasks, task.id, status, value)
        value = None
        if not hand.done(task, status, message, most):
            break
    return completed


def _outcome(
    task: Task, hand: Hand, tasks: Tasks, last: LastWords, wrap_exception: bool
) -> tuple[bytes, Any]:
    """Run a task: its status, and what the function returned or raised (unpickling its arguments is a part of it)."""
    try:
        pickled = hand.function(task.token)
        last.begin(task.id)
        function = tasks.loads(pickled)
        given = tasks.unpack_task(task)
        if task.deaths or not tasks.retries:  # this attempt may be its last one
            last.begin(task.id, _about(task, function, given).encode(errors="replace"))
        last.reach(0)
        if task.mode == protocol.ONE:
            return protocol.DONE, function(given)
        if task.mode == protocol.APPLY:
            args, kwds = given
            return protocol.DONE, function(*args, **kwds)
        apply = map if task.mode == protocol.MAP else itertools.starmap
        if task.items <= protocol.SUSPECTS:
            return protocol.DONE, list(apply(function, given))
        return protocol.DONE, _by_parts(apply, function, given, last)
    except SessionLostError:
        raise
    except Exception as error:  # noqa: BLE001 - a task's error is its result
        return protocol.RAISED, _wrapped(error, wrap_exception)


def _by_parts(apply: Any, function: Any, items: Sequence[Any], last: LastWords) -> list[Any]:
    """A long chunk, so that of one that kills its worker it is known how far it came."""
    values: list[Any] = []
    for start in range(0, len(items), protocol.SUSPECTS):
        last.reach(start)
        values += apply(function, items[start : start + protocol.SUSPECTS])
    return values


def _about(task: Task, function: Any, given: Any) -> str:
    """A call, or an item, in a few words."""
    try:
        if task.mode == protocol.APPLY:
            args, kwds = given
            words = [*map(_short.repr, args), *(f"{name}={_short.repr(x)}" for name, x in kwds.items())]
            text = f"{getattr(function, '__name__', type(function).__name__)}({', '.join(words)})"
        else:
            text = _short.repr(given if task.mode == protocol.ONE or task.items > 1 else given[0])
    except Exception as error:  # noqa: BLE001 - some object's own
        text = f"whose repr raises {type(error).__name__}"
    return " ".join(text.split())


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def _wrapped(error: Exception, wrap_exception: bool) -> Any:
    if isinstance(error, FileNotFoundError):
        hints.note(error)
    return ExceptionWithTraceback(error, error.__traceback__) if wrap_exception else error


def _tell_root(tasks: Tasks, error: Any) -> None:
    tasks.initializer_failed(_pack(tasks, protocol.ROOT, protocol.INITIALIZER, error)[1])


def _pack(tasks: Tasks, id: bytes, status: bytes, value: Any) -> tuple[bytes, bytes]:
    """Results are pickled as the stdlib pickles them: what it refuses is an error here too.

    An exception is unpickled as well, while its traceback is there to be sent: classes whose `__init__` takes other
    arguments than `args` refuse only then.
    """
    try:
        message = tasks.pack_result(value, id, status)
        if status != protocol.DONE:
            serialize.loads(serialize.dumps(value, by_value=False))
        return status, message
    except Exception as error:  # noqa: BLE001 - a task's error is its result
        if status == protocol.DONE:
            status = protocol.RAISED
        if finds_no_place(error):  # nor would its repr find one
            return status, tasks.pack_result(error, id, status)
        wrapped: Any = MaybeEncodingError(error, getattr(value, "exc", value))
        util.debug("Possible encoding error while sending result: %s", wrapped)
        if isinstance(value, ExceptionWithTraceback):
            traceback, wrapped = value.tb, ExceptionWithTraceback(wrapped, None)
            wrapped.tb = traceback
        return status, tasks.pack_result(wrapped, id, status)
