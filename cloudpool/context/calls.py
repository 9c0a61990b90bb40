"""A pool's calls as its root sees them: tasks go out, results come in and are set where the stdlib's results wait.

    apply, map --put--> pickled, submitted by the calling thread
    imap ------put--> feeder thread: consumes the iterable, a window ahead of the results
    collector thread: results --> cache[job]._set(index, (success, value))
    a caller that waits for a few tasks: the same, for its own

The stdlib has three threads a pool for this; here it is one, and one more from the first imap on. None of them holds
the pool itself, so that a pool that nobody refers to can go.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.pool import IMapIterator, MapResult, MaybeEncodingError, mapstar, starmapstar
from typing import Any

from cloudpool import errors
from cloudpool.context import tasks as protocol
from cloudpool.context.exits import Exit, Exits
from cloudpool.context.functions import Function, Functions
from cloudpool.context.incoming import Incoming
from cloudpool.context.losses import Losses, Outcome
from cloudpool.context.outgoing import Outgoing
from cloudpool.context.overflow import Overflow
from cloudpool.context.progress import Bar
from cloudpool.context.results import Cache
from cloudpool.context.submitter import MOST, Submitter
from cloudpool.context.tasks import Loss, Result, Task, Tasks
from cloudpool.seen import Seen
from cloudpool.store import interruption

# Tasks of an imap that are under way, at most (or two a worker); when half of them are done, more are sent.
WINDOW = 1024
FEW = 16  # tasks under way, up to which each result is waited for by itself
LOOK_S = 2.0  # between looks at the last submission, while no result comes
CALLER_LOOK_S = 1.0  # the same of a caller; Ctrl-C that came to another thread waits for it, too
INSTANT = frozenset({list, tuple, range, str, bytes, dict, set, frozenset})  # iterating these never waits


@dataclass(slots=True)
class TaskSequence:
    """What the inherited methods of Pool put: a call's job, and what its tasks are made of."""

    job: int
    func: Callable[..., Any]
    iterable: Iterable[Any]


@dataclass(slots=True)
class Note:
    """What a Pool method knows of a call beyond what the inherited methods pass on."""

    instant: bool = False
    bar: Bar | None = None
    is_awaited: bool = False  # the caller waits for it and does nothing else meanwhile


@dataclass(slots=True)
class Call:
    """A call under way."""

    job: int
    note: Note
    mode: bytes = protocol.APPLY
    incoming: Incoming | None = None  # of the caller, who takes the results itself
    caller: int = 0  # the thread
    function: Function | None = None
    items: int = 1  # in a task, but perhaps the last
    under_way: int = 0
    blobs: dict[bytes, bytes] = field(default_factory=dict)  # task id -> its message, where that names a blob
    answered: Seen = field(default_factory=Seen)  # tasks whose first result has come: it wins

    @property
    def to(self) -> bytes:
        """Where its results go."""
        return self.incoming.to if self.incoming is not None else b""


class Calls:
    """The calls of one pool. `put` stands in for the stdlib's task queue. Made and ended by the pool, in one process."""

    def __init__(self, tasks: Tasks, cache: Cache, exits: Exits) -> None:
        self._tasks = tasks
        self._cache = cache
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self._calls: dict[int, Call] = {}
        self.functions = Functions(tasks)
        self._losses = Losses(tasks, exits)
        self._kept: dict[bytes, Outcome] = {}
        self._notes = threading.local()
        self._feeds: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._feeder: threading.Thread | None = None
        self._over = False
        self.broken: BaseException | None = None
        self.overflow: Overflow | None = None  # where tasks go that are too much for this pool's hosts
        self.collector = threading.Thread(target=self._collect, name="cloudpool-collector", daemon=True)
        self._submitter = Submitter(tasks, self._refused, self._wanted)
        self._window = max(WINDOW, 2 * tasks.workers)
        self._under_way = 0  # tasks of all calls
        self.done = 0  # tasks whose result has come, of whatever kind; one that was split counts once

    # -- calls come in ----------------------------------------------------------------------------------------------

    def note(self, note: Note | None) -> None:
        """What this thread's next `put` should know."""
        self._notes.next = note

    def put(self, call: tuple[Any, Callable[[int], None] | None]) -> None:
        """Submit the tasks of a call: (tasks, set_length or None), as the inherited methods of Pool make them."""
        tasks, set_length = call
        note = getattr(self._notes, "next", None) or Note()
        self._notes.next = None
        is_sequence = isinstance(tasks, TaskSequence)
        job = tasks.job if is_sequence else tasks[0][0]
        try:
            if not is_sequence:
                [(_, _, func, args, kwds)] = tasks
                self._begin(Call(job, note), func, [(args, kwds)])
            elif set_length is None:
                mode = protocol.STARMAP if tasks.func is starmapstar else protocol.MAP
                self._begin(Call(job, note, mode), None, tasks.iterable)
            else:
                mode = protocol.MAP if tasks.func is mapstar else protocol.ONE
                self._calls[job] = made = Call(job, note, mode)
                self._start_feeder().put(
                    (made, None if mode == protocol.MAP else tasks.func, tasks.iterable, set_length)
                )
        except BaseException:
            del self._cache[job]
            self._settled(job)
            raise
        if self.broken is not None:
            self._fail(job, self.broken)

    def _begin(self, call: Call, func: Any, iterable: Iterable[Any]) -> None:
        """Submit a call whose tasks are all there."""
        self._calls[call.job] = call
        result = self._cache.get(call.job)
        chunks = getattr(result, "_number_left", 1)  # of a map: 0 when there is nothing to do
        # Not where a signal's handler might raise in the middle of these books.
        if call.note.is_awaited and chunks <= FEW and not interruption.may_come():
            call.incoming, call.caller = Incoming(self._tasks), threading.get_ident()
        outgoing = Outgoing(self, call)
        for index, x, error in _guarded(iterable):
            if error is None:
                outgoing.add(index, func, x)
            else:
                for missing in range(index, chunks):
                    outgoing.keep(missing, error)
            if call.job not in self._calls:  # the server has refused the first of them
                break
        outgoing.flush()
        if call.incoming is not None:
            self._await(call, call.incoming)
        self._settled(call.job)  # it has had no tasks

    def _await(self, call: Call, incoming: Incoming) -> None:
        """The calling thread's: it takes the results itself. What else befalls the call is the collector's, which wakes it."""
        while call.job in self._cache and self.broken is None and not self._over:
            element = incoming.next(CALLER_LOOK_S)
            if element is None:
                self._submitter.look()
            else:
                self._handle(element)

    # -- the feeder -------------------------------------------------------------------------------------------------

    def _start_feeder(self) -> queue.SimpleQueue[Any]:
        with self._lock:
            if self._feeder is None:
                self._feeder = threading.Thread(target=self._feed, name="cloudpool-feeder", daemon=True)
                self._feeder.start()
        return self._feeds

    def _feed(self) -> None:
        for call, func, iterable, set_length in iter(self._feeds.get, None):
            try:
                self._feed_one(call, func, iterable, set_length)
            except errors.SessionLostError as error:
                self.fail_all(error)
            except Exception as error:  # noqa: BLE001 - the server's, of the submission: the iterable's own go another way
                self._fail(call.job, error)
            call = func = iterable = set_length = None

    def _feed_one(
        self, call: Call, func: Any, iterable: Iterable[Any], set_length: Callable[[int], None]
    ) -> None:
        outgoing = Outgoing(self, call)
        length, batch = 0, 8 if call.note.instant else 1
        for index, x, error in _guarded(iterable):
            if error is None:
                outgoing.add(index, func, x)
            else:
                outgoing.keep(index, error)
            x = error = None
            length = index + 1
            # One by one where the iterable may wait, perhaps for the result of what it gave last.
            if not 0 < len(outgoing) < batch:  # `add` has sent them where they are large
                outgoing.flush()
                if not self._has_room(call) and not self._wait_for_room(call):
                    return
                batch = min(2 * batch, MOST) if call.note.instant else 1
        outgoing.flush()
        with self._lock:
            if call.job in self._cache:
                set_length(length)
        self._settled(call.job)

    def _has_room(self, call: Call) -> bool:
        return call.under_way < self._window and call.job in self._cache and not self._over

    def _wait_for_room(self, call: Call) -> bool:
        """False when the call is over."""
        with self._room:
            self._room.wait_for(
                lambda: call.under_way <= self._window // 2 or call.job not in self._cache or self._over
            )
            return call.job in self._cache and not self._over

    def keep(self, outcomes: dict[bytes, Outcome], to: bytes) -> None:
        """Results that need no worker; they go the usual way, so that callbacks are called where they always are."""
        self._kept.update(outcomes)
        self._tasks.keep(list(outcomes), to)

    def _settled(self, job: int) -> None:
        """If the call is over, forget it."""
        if job in self._cache:
            return
        with self._lock:
            call = self._calls.pop(job, None)
            self._room.notify_all()
            if call is None:
                return
            self._under_way -= call.under_way  # of a call that has failed as a whole
            call.under_way = 0
        if call.function is not None:
            self.functions.let_go(call.function)
        self.discard_blobs(call)
        if call.note.bar is not None:
            call.note.bar.close()
        if call.incoming is not None and call.caller != threading.get_ident():
            with suppress(errors.SessionLostError):  # it hears of that itself
                self._tasks.wake(call.to)

    def discard_blobs(self, call: Call) -> None:
        """Those of its tasks: nobody will run them."""
        for message in list(call.blobs.values()):  # more may be put there
            self._tasks.discard(message)

    # -- results come in --------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """The collector's life: wait for a result, handle it; many come at once while many are under way."""
        handled = forgotten = 0
        try:
            while not self._over:
                element = self._tasks.next_result(handled - forgotten, LOOK_S)
                if element is None:
                    self._submitter.look()
                    continue
                if not self._handle(element):
                    return
                handled += 1
                while not self._over and (
                    self._under_way > FEW or handled - forgotten >= protocol.MOST_SHOWN
                ):
                    forgotten = handled
                    shown = self._tasks.collect(handled)
                    for element in shown:
                        if self._over or not self._handle(element):
                            return
                    handled += len(shown)
                    if not shown:
                        break
                element, shown = None, []
        except Exception as error:  # noqa: BLE001 - whoever waits for a result must hear of it
            self.fail_all(error)

    def _handle(self, element: bytes) -> bool:
        """Results that came together; False at the end. Raises AuthenticationError for what is none."""
        return all(map(self._take, Result.parse_all(element)))

    def _take(self, result: Result) -> bool:
        id, status, message, numbers = result
        if id == protocol.ROOT:
            if status == protocol.STOP:
                return False
            if status == protocol.DIED:
                self._died(message)
                return True
            if status == protocol.LOOK:
                return True
            self.fail_all(self._outcome(id, status, message)[1])
            return True
        job, index, *item = numbers
        call = self._calls.get(job)
        if status == protocol.KEPT and id not in self._kept:
            return True
        if call is None or not self._is_first(call, index, item):  # None: it has failed as a whole
            refused = self._forget(status, message, id)
            if call is not None and refused is not None:
                self._fail(job, refused)
            return True
        if blob := call.blobs.pop(id, None):
            self._tasks.discard(blob)
        outcome = self._kept.pop(id) if status == protocol.KEPT else self._outcome(id, status, message)
        self._set(call, index, item, outcome)
        return True

    def _is_first(self, call: Call, index: int, item: list[int]) -> bool:
        """A task whose worker lived after all, or that the server's owner has shown to two, may have two results."""
        if not item:
            return index >= 0 and call.answered.add(index)
        return self._losses.is_first(call.job, index, item[0])

    def _is_answered(self, call: Call, index: int, item: list[int]) -> bool:
        return index in call.answered if not item else self._losses.is_answered(call.job, index, item[0])

    def _outcome(self, id: bytes, status: bytes, message: bytes) -> Outcome:
        """Of a task's result."""
        try:
            value = self._tasks.unpack_result(message, id, status)
        except AuthenticationError as error:
            return False, error
        except Exception as error:  # noqa: BLE001 - every failure reaches whoever waits for the call
            return False, MaybeEncodingError(error, "a result that cannot be unpickled here")
        finally:
            self._tasks.discard(message, by_reader=True)
        return status == protocol.DONE, value

    def _forget(self, status: bytes, message: bytes, id: bytes) -> AuthenticationError | None:
        """A result that nobody waits for; the error if it is one that has come before."""
        self._kept.pop(id, None)
        if status not in (protocol.DONE, protocol.RAISED):
            return None
        error = self._outcome(id, status, message)[1]  # handles in it are counted by unpickling them
        return error if isinstance(error, AuthenticationError) else None

    def _set(self, call: Call, index: int, item: list[int], outcome: Outcome) -> None:
        with self._lock:
            call.under_way -= 1
            self._under_way -= 1
            if call.under_way == self._window // 2:
                self._room.notify_all()
        if item:
            joined = self._losses.joined(call.job, index, item[0], outcome)
            if joined is None:
                return
            outcome = joined
        with self._lock:
            self.done += 1
        self._give(call.job, index, outcome)
        if call.note.bar is not None:
            chunked = outcome[0] and call.mode in (protocol.MAP, protocol.STARMAP)
            call.note.bar.update(len(outcome[1]) if chunked else 1)
        self._settled(call.job)

    def _give(self, job: int, index: int, outcome: Outcome, *, is_last: bool = False) -> None:
        """Set a part of a result; `is_last` if nothing else of it will come.

        Several threads may want to say that a call has failed, and one that it is done: the first of them calls back.
        """
        with self._lock:
            result = self._cache.get(job)
            if result is None:
                return
            if isinstance(result, IMapIterator):
                result._set(index, outcome)
                return
            if isinstance(result, MapResult):
                if is_last:
                    result._number_left = 1
                elif result._number_left > 1:
                    result._set(index, outcome)
                    return
            self._cache.pop(job)
        try:
            result._set(index, outcome)
        # A callback's; with the stdlib it ends the thread, and all who wait for the pool wait for ever.
        except Exception:  # noqa: BLE001 - every failure reaches whoever waits for the call
            sys.excepthook(*sys.exc_info())
            del self._cache[job]
            result._event.set()

    def _died(self, said: bytes) -> None:
        """A worker has: take what it had done, send again what it had not begun, and see about what it was at."""
        pid, tasks = Loss.parse(said)
        exit = self._losses.exit(pid)
        done = self._losses.done(exit)
        blamed = self._losses.blamed([task for task in tasks if task.id not in done], exit)
        for task in tasks:
            job, index, *item = task.numbers
            call = self._calls.get(job)
            if task.id in done:
                self._done(call, done[task.id])
            elif call is None or self._is_answered(call, index, item):
                continue
            elif task in blamed:
                self._again(call, index, item, task, exit)
            else:
                assert call.function is not None
                self._submitter.send([task.element()], call.function)

    def _done(self, call: Call | None, element: bytes) -> None:
        """A result that its worker has left behind."""
        result = Result.parse(element)
        if call is None or call.incoming is None:
            self._take(result)
        else:
            self.keep({result.id: self._outcome(*result[:3])}, call.to)

    def _again(self, call: Call, index: int, item: list[int], task: Task, exit: Exit) -> None:
        """A task's worker died of it: send what takes its place, if it is not given up."""
        blob = call.blobs.pop(task.id, None)
        if self.overflow is not None and self._overflows(self.overflow, call, task, exit):
            if blob:
                self._tasks.discard(blob)
            return
        try:
            again: list[Task] | Exception = self._losses.again(task, exit, call.items)
        except Exception as error:  # noqa: BLE001 - every failure reaches whoever waits for the call
            again = error
        if isinstance(again, Exception) or again[0].id != task.id:
            self._is_first(call, index, item)  # it has its answer, or will have it from its items
        if isinstance(again, Exception):
            if blob:
                self._tasks.discard(blob)
            self._set(call, index, item, (False, again))
            return
        if blob and blob != again[0].payload:
            self._tasks.discard(blob)
        with self._lock:
            call.under_way += len(again) - 1
            self._under_way += len(again) - 1
        for new in again:
            if new.payload[:1] == b"b":
                call.blobs[new.id] = new.payload
        elements = [new.element() for new in again]
        assert call.function is not None
        for start in range(0, len(elements), MOST):
            self._submitter.send(elements[start : start + MOST], call.function)

    def _overflows(self, overflow: Overflow, call: Call, task: Task, exit: Exit) -> bool:
        """Whether that task was too much for its host, and now runs elsewhere; its outcome comes as if from here."""

        def done(success: bool, value: Any) -> None:
            try:
                self.keep({task.id: (success, value)}, call.to)
            except Exception as error:  # noqa: BLE001 - this is another pool's thread, and somebody waits here
                self._kept.pop(task.id, None)
                self._fail(call.job, error)

        try:
            if not self._losses.too_much(task, exit):
                return False
            given = self._tasks.unpack_task(task)
            assert call.function is not None
            pickled = self._tasks.opened_function(call.function.token.encode(), call.function.message)
            overflow.send(task.mode, self._tasks.loads(pickled), given, done)
        except errors.SessionLostError:
            raise
        except Exception as error:  # noqa: BLE001 - every failure reaches whoever waits for the call
            done(False, error)
        return True

    # -- ends -------------------------------------------------------------------------------------------------------

    def fail_all(self, error: BaseException) -> None:
        """Nothing can be done any more: every call that waits, or comes, gets this error."""
        with self._lock:
            if self.broken is None:
                self.broken = error
        for job in list(self._cache):
            self._fail(job, error)

    def _refused(self, tasks: list[bytes], error: Exception) -> None:
        """The server has not taken these tasks: their calls fail."""
        for job in {_job(task) for task in tasks}:
            self._fail(job, error)

    def _wanted(self, tasks: list[bytes]) -> list[bytes]:
        """Those of calls that have not failed."""
        return [task for task in tasks if _job(task) in self._calls]

    def _fail(self, job: int, error: BaseException) -> None:
        """Set the whole of a result, whatever is missing of it."""
        result = self._cache.get(job)
        if isinstance(result, IMapIterator):
            with self._lock:  # the feeder may be about to set the length
                self._give(job, result._index, (False, error))
                if job in self._cache:
                    result._set_length(result._index)
        else:
            self._give(job, 0, (False, error), is_last=True)
        self._settled(job)

    # -- what software asks of the stdlib's task queue ------------------------------------------------------------------

    def qsize(self) -> int:
        """How many tasks no worker has taken."""
        self._submitter.settle()  # what was sent is in the server
        return self._submitter.waiting() + self._tasks.waiting()

    def empty(self) -> bool:
        return self.qsize() == 0

    # -- ends -----------------------------------------------------------------------------------------------------------

    def are_waited_for(self) -> bool:
        return bool(self._cache)

    def stop(self) -> None:
        """Let the threads end: at once, and no matter what is under way."""
        with self._lock:
            self._over = True
            self._room.notify_all()
        self._submitter.stop()
        self._feeds.put(None)
        for call in list(self._calls.values()):
            self.discard_blobs(call)

    def join(self) -> None:
        self._submitter.join()
        if self.collector.ident is not None and threading.current_thread() is not self.collector:
            self.collector.join()


def _job(task: bytes) -> int:
    """The call that a task on its way out is of."""
    return int(task.partition(b".")[0])


def _guarded(iterable: Iterable[Any]) -> Iterator[tuple[int, Any, Exception | None]]:
    """(index, item, None) for each, and (index, None, error) at last when iterating raises."""
    index = -1
    try:
        for index, x in enumerate(iterable):
            yield index, x, None
    except Exception as error:  # every failure reaches whoever waits for the call
        if interruption.is_handlers(error):  # who waits is the thread that it came to
            raise
        yield index + 1, None, error
