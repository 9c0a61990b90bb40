"""What a worker has in hand: tasks that it has taken, and results that it has not sent.

next --> what is in hand --> else BLMOVE tasks -> running:<worker>
done --> others are in hand: their results go together
     --> the line was empty: sent without waiting, and `next` waits for a task       (two commands, one trip)
     --> else the answer to pool_done is more tasks                                  (one trip for many)
         of a map whose caller waits: results go with theirs, while all are short
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import Any

from cloudpool.context import tasks as protocol
from cloudpool.context.last_words import LastWords
from cloudpool.context.tasks import HOME, Task, Tasks
from cloudpool.errors import ServerError, SessionLostError
from cloudpool.host.parcels import maker
from cloudpool.store import refusals
from cloudpool.store.channel import CUT, Channel
from cloudpool.store.wire import ReplyError

HELD_S = 0.001  # how long the result of a short task waits for those of the others
PATIENCE_S = 0.01  # how long other tasks, and results, wait behind a task that was thought to be short


class Unrecorded(Exception):
    """Results that were sent may not have been recorded, while the worker waits for another task."""


class Hand:
    """The tasks that a worker has in hand, and their results until those are sent. Owned by the worker's thread.

    Short tasks come several at once, and their results go together. Until then they are in the worker's last words, where
    the root finds them if it dies. When a task takes long after all, a thread sends what is done and gives the other
    tasks back: someone may be idle, and it may be waiting for one of them.
    """

    MOST_FUNCTIONS = 64

    def __init__(self, tasks: Tasks, last: LastWords) -> None:
        """The calling thread becomes a worker that is ready."""
        self._tasks, self._last = tasks, last
        session = tasks._here()
        self._ttl_ms = session.ttl_ms
        self._channel = channel = session.join(tasks._id)
        # A pool that was made on this very host ends with it: fresh workers could come nowhere else.
        is_local = maker(tasks._id) == int(session.process.partition(".")[0])
        self._until = math.inf if is_local else session.info.until
        self._keeps = is_local  # results in its last words: those of a lost host are lost, too
        self._holds = is_local and bool(tasks.retries)
        self._keys = tasks.keys
        [base] = tasks.keys
        self._line, self._running = base + "tasks", f"{base}running:{channel.party}"
        self._function_keys = base + "functions"
        self._functions: dict[bytes, bytes] = {}
        self._waiting: deque[Task] = deque()
        self._taken_since = 0.0  # when those came
        # Results that are to be sent, of tasks that follow each other, for the same thread; where to, and the first's task.
        self._held: list[bytes] = []
        self._held_to = self._held_first = b""
        self._held_since = 0.0
        self._sent: list[tuple[Any, ...]] = []  # results under way, see `_take_held`
        self._doubt = False  # some of them may not have arrived
        self._is_waiting = False  # for a task, in the server
        self._is_idle = False  # the line was empty when a result was recorded last
        self._turns = 0
        # Of `_waiting`, `_held`, `_sent` and `_turns`, which the other thread changes, too.
        self._changing = threading.Lock()
        self._watched: threading.Event | None = None
        ready: tuple[object, ...] = (f"ready:{os.getpid()}", 1)
        if self.is_late(0.0):
            print(
                "cloudpool: this worker's host has no time left for it: what it runs in should live longer.",
                file=sys.stderr,
            )
            ready = ()
        channel.post("HSET", base + "state", f"pid:{session.process}", os.getpid(), *ready)
        channel.expire(base + "state")

    def is_late(self, needed_s: float) -> bool:
        """Whether this host may end before another task has."""
        return time.monotonic() + needed_s > self._until

    def next(self, needed_s: float = 0.0) -> Task | None:
        """The next task, waiting for it if need be; None: go home, as the host may end before one that takes so long has.

        Raises SessionLostError.
        """
        while True:
            with self._changing:
                self._turns += 1
                if self._waiting:
                    return self._waiting.popleft()
                self._post()  # the rest was given back
            if self._doubt:
                if self._recover() == [HOME]:
                    return None
                continue
            left_s = self._until - needed_s - time.monotonic()
            if left_s <= 0:
                self._recover()  # the last word, so with an answer
                self._tasks._here().retire_host()
                return None
            first = self._wait(left_s)
            if first is None:
                continue
            self._channel.expire(self._running)
            if first == HOME:
                return None
            self._take([first])

    def _wait(self, timeout_s: float) -> bytes | None:
        """A task of the line; None after the timeout, or when it is not certain that what was sent is recorded."""
        with self._channel.lock:  # else the lookout may hear of what was sent just before this waits
            if self._doubt:
                return None
            self._is_waiting = True
            try:
                first: bytes | None = self._channel.block(
                    lambda seconds: ("BLMOVE", self._line, self._running, "LEFT", "RIGHT", seconds),
                    None if timeout_s == math.inf else timeout_s,
                    look=lambda: self._channel.call("LINDEX", self._running, 0),
                )
            except Unrecorded:
                return None
            finally:
                self._is_waiting = False
        if not self._doubt:
            self._recorded()
        return first

    def done(self, task: Task, status: bytes, message: bytes, most: int) -> bool:
        """Record a task's result; take up to `most` others if none is waiting. False: the worker is sent home."""
        # One of its own: who frees a blob with the pool looks for it in results that stand alone.
        is_large = message[:1] == b"b"
        with self._changing:
            self._turns += 1
            if self._held and (is_large or task.to != self._held_to):
                self._post()
            if not self._held:
                self._held_to, self._held_first, self._held_since = task.to, task.id, time.monotonic()
            self._held.append(b"%b %b%b" % (task.id, status, message))
            is_kept = self._keeps and self._last.keep(self._held[-1])
            if self._waiting:
                if is_large or not is_kept or not self._may_hold():
                    self._post()
                return True
            if self._is_idle and most and task.mode == protocol.APPLY:
                self._post()
                return True
            # Of a map whose caller waits: nobody can see one result before the others.
            may_wait = bool(task.to) and task.mode in (protocol.MAP, protocol.STARMAP)
            may_wait = may_wait and most > 1 and not is_large and is_kept and self._may_hold()
            arguments = self._arguments() if may_wait else self._take_held()
        return self._ask(most, arguments, may_wait)

    def _ask(self, most: int, arguments: tuple[Any, ...], may_wait: bool) -> bool:
        """For more tasks; where there is none, or they may not wait, the results are recorded. As `done`."""
        reply = self._channel.script("pool_done", self._keys, (most, *arguments, int(may_wait)))
        self._heard_of(reply)
        taken: list[bytes] = reply if isinstance(reply, list) else []
        if may_wait and taken and taken != [HOME] and not self._doubt:  # nothing is recorded yet
            self._take(taken)
            return True
        with self._changing:
            if self._held:  # else the watching thread has sent them meanwhile
                self._take_held()
        if self._doubt:
            taken = self._recover()
        else:
            self._recorded()
            self._take(taken)
        return taken != [HOME]

    def function(self, token: bytes) -> bytes:
        """A function's pickle, fetched once: its bytes are kept, so that each task has its own object."""
        message = self._functions.get(token)
        if message is None:
            message = self._channel.call("HGET", self._function_keys, token)
            if message is None:
                self._tasks._here().doubt()
                raise LookupError(f"the function {token.decode()} of this task is not in the server any more")
            message = self._tasks.opened_function(token, message)
            while len(self._functions) >= self.MOST_FUNCTIONS:
                del self._functions[next(iter(self._functions))]
            self._functions[token] = message
        return message

    # -- results ----------------------------------------------------------------------------------------------------

    def _may_hold(self) -> bool:
        """Whether a result that the root would find may wait for others."""
        return self._holds and time.monotonic() - self._held_since <= HELD_S

    def _arguments(self) -> tuple[Any, ...]:
        """What is held, as pool_done's arguments behind the first."""
        what = self._held_to, len(self._held), self._held_first, protocol.together(self._held)
        return (self._channel.party, self._tasks.workers, self._ttl_ms, *what)

    def _take_held(self) -> tuple[Any, ...]:
        """As `_arguments`; from now on it is under way."""
        arguments = self._arguments()
        self._held.clear()
        self._sent.append(arguments)
        return arguments

    def _post(self) -> None:
        """Send what is held, without waiting."""
        if self._held:
            arguments = 0, *self._take_held()
            self._channel.post_script("pool_done", self._keys, arguments, partial(self._heard, arguments))

    def _heard(self, arguments: tuple[Any, ...], reply: Any) -> None:
        """Of results that were sent without waiting."""
        self._heard_of(reply)
        is_refused = isinstance(reply, ReplyError) and reply.code in refusals.SEND_AGAIN
        if reply is CUT or (is_refused and not self._is_waiting):
            # Not only when the worker is next here: somebody waits for it.
            self._channel.later(lambda: self._channel.script("pool_done", self._keys, arguments))
        elif self._doubt and self._is_waiting:
            raise Unrecorded

    def _send_again(self, channel: Channel) -> None:
        """All that is under way, in order: what was recorded is not recorded again."""
        for arguments in self._sent:
            channel.script("pool_done", self._keys, (0, *arguments))

    def _heard_of(self, reply: Any) -> None:
        """The tasks taken, or how many are in the line; anything else: the results are not recorded, or may not be."""
        if isinstance(reply, list | int):
            self._is_idle = not reply
        else:
            self._doubt = True

    def _recorded(self) -> None:
        """All that was sent is in the server."""
        self._sent.clear()
        self._last.forget()

    def _recover(self) -> list[bytes]:
        """Send again what may not have been recorded, in order; what is then in hand."""
        self._doubt = False
        self._send_again(self._channel)
        left: list[bytes] = self._channel.call("LRANGE", self._running, 0, -1)
        self._recorded()
        self._take(left)
        return left

    # -- tasks ------------------------------------------------------------------------------------------------------

    def _take(self, elements: list[bytes]) -> None:
        if elements == [HOME]:
            return
        taken = [Task.parse(element) for element in elements]
        with self._changing:
            self._turns += 1
            self._waiting.extend(taken)
            self._taken_since = time.monotonic()
        if len(elements) > 1 or self._held:
            if self._watched is None:
                self._watched = threading.Event()
                threading.Thread(
                    target=self._watch, args=(self._watched,), name="cloudpool-give-back", daemon=True
                ).start()
            if not self._watched.is_set():
                self._watched.set()

    def _watch(self, watched: threading.Event) -> None:
        """A timer while several tasks are in hand, asleep otherwise."""
        timer = threading.Event()
        while watched.wait():
            turn = self._turns
            timer.wait(PATIENCE_S)
            if (self._waiting or self._held) and self._is_long(turn):
                try:
                    self._give_back(self._tasks.connect(), turn)  # which the worker need not wait for
                except SessionLostError:
                    return
                except ServerError:  # it takes no more connections: the next turn, perhaps
                    continue
            if not self._waiting and not self._held:
                watched.clear()
                if self._waiting or self._held:  # taken just now
                    watched.set()

    def _is_long(self, turn: int) -> bool:
        """Whether a task, begun in that turn, takes long after all; or those together do that were taken as short ones."""
        return turn == self._turns or (
            bool(self._waiting) and time.monotonic() - self._taken_since > PATIENCE_S
        )

    def _give_back(self, channel: Channel, turn: int) -> None:
        with self._changing:
            if not self._is_long(turn):
                return
            if self._held:
                self._take_held()
                self._send_again(channel)  # what was sent before, too: it may arrive later than this
            if self._waiting:
                ids = [task.id for task in self._waiting]
                channel.script("pool_give_back", self._keys, (self._channel.party, self._ttl_ms, *ids))
                self._waiting.clear()
