"""The task protocol: what a pool's root and its workers say to the server.

    root --submit--> tasks --BLMOVE, done--> running:<worker> --done--> results --collect--> root (taken)
                       ^                            |
                       +--------- give_back --------+   (a worker whose task takes long)
                                                       |
                       results <------- reap_pool ------+   (a worker that died; the agent does it: what it had goes
                                                             to the root, which says what becomes of it)

A task is in one list at any time, and a worker's running tasks are in the order in which it does them. So `done` bears
repetition, the first result of a task wins, and after a cut the worker reads its list to know where it stands.

    task     <id> <function's token> <items> <deaths> <mode><payload>      or "." which sends one worker home
    result   <id> <status><payload>       id is job.index, and job.index.item for an item of a chunk sent by itself
    loss     ! x<pid> <length>:<task>...  what a worker had taken that died
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from multiprocessing import AuthenticationError
from typing import Any, NamedTuple

from cloudpool.context.last_words import LastWords
from cloudpool.errors import SessionLostError
from cloudpool.host.parcels import maker
from cloudpool.serialize import Reducers
from cloudpool.store.channel import CUT, Channel
from cloudpool.sync import payload
from cloudpool.sync.shared import Shared

HOME = b"."  # the task that sends a worker home

# modes: what the payload is, and how the function is called with it:
APPLY, ONE, MAP, STARMAP = b"a", b"1", b"m", b"s"
# payloads: (args, kwds) | one argument | a tuple of such | of argument tuples

# statuses of results
DONE, RAISED = b"+", b"-"  # what the function returned, raised
KEPT = b"k"  # the result never left the root
ROOT = b"!"  # instead of an id: not a task's result, but a word to the root:
DIED = b"x"  # a worker died: its pid, and the tasks that it had taken, as they were
INITIALIZER, STOP = b"i", b"q"  # what the initializer raised | stop collecting

MOST_SHOWN = 64  # results in one reply: up to 4 MiB
MOST_AT_ONCE = 16  # short tasks that a worker takes in one trip
HELD_S = 0.001  # how long the result of a short task waits for those of the others
SUSPECTS = 256  # items of a chunk that one look at its worker's last words does not tell apart
PATIENCE_S = 0.01  # how long other tasks wait behind one that was thought to be short


class Task(NamedTuple):
    """A task as a worker, or the root of a chunk that is to be split, sees it."""

    id: bytes
    token: bytes
    items: int
    deaths: int
    mode: bytes
    payload: bytes

    @classmethod
    def parse(cls, element: bytes) -> Task:
        """Raises AuthenticationError for what is no task."""
        try:
            id, token, items, deaths, call = element.split(b" ", 4)
            return cls(id, token, int(items), int(deaths), call[:1], call[1:])
        except (ValueError, AttributeError):  # AttributeError: not even bytes
            raise AuthenticationError(
                "the server gave a task that no pool has sent; it is refused."
            ) from None

    def element(self) -> bytes:
        return b"%b %b %d %d %b%b" % self

    @property
    def numbers(self) -> tuple[int, ...]:
        return _numbers(self.id)


class Loss(NamedTuple):
    """What a worker that died had taken, as the root sees it."""

    pid: int
    tasks: list[Task]

    @classmethod
    def parse(cls, said: bytes) -> Loss:
        """Raises AuthenticationError for what is none."""
        pid, _, left = said.partition(b" ")
        tasks = []
        while left and pid.isdigit():
            length, colon, left = left.partition(b":")
            size = int(length) if length.isdigit() else 0
            if not colon or not 0 < size <= len(left):
                break
            tasks.append(Task.parse(left[:size]))
            left = left[size:]
        if left or not tasks:
            raise AuthenticationError("the server tells of a death that none was; it is refused.")
        return cls(int(pid), tasks)


class Result(NamedTuple):
    """A result as the root sees it."""

    id: bytes
    status: bytes
    message: bytes
    numbers: tuple[int, ...]  # as of `_numbers`; none of a word to the root

    @classmethod
    def parse(cls, element: bytes) -> Result:
        """Raises AuthenticationError for what is no result."""
        try:
            id, said = element.split(b" ", 1)
        except (ValueError, AttributeError):
            raise _no_result() from None
        return cls(id, said[:1], said[1:], () if id == ROOT else _numbers(id))


def _numbers(id: bytes) -> tuple[int, ...]:
    """Job, index, and the item of a chunk that was split. Raises AuthenticationError for what is no task's id."""
    try:
        numbers = tuple(map(int, id.split(b".")))
    except ValueError:
        raise _no_result() from None
    if len(numbers) not in (2, 3):
        raise _no_result()
    return numbers


def _no_result() -> AuthenticationError:
    return AuthenticationError("the server gave a result that no worker has sent; it is refused.")


class Tasks(Shared):
    """A pool's place in the server. Its root submits (submitter.py) and collects; a worker has a `Hand`."""

    _kind = "pool"

    def __init__(self, workers: int, retries: int) -> None:
        self.workers, self.retries = workers, retries
        self._requests: dict[str, int] = {}
        # Reductions by type that a subclass of Pool (joblib's) has for tasks on their way out, and for results.
        self.outward: Reducers = {}
        self.homeward: Reducers = {}
        self._create(("HSET", "state", "workers", workers))

    def _extra(self) -> Any:
        return self.workers, self.retries, self.homeward

    def _restore(self, extra: Any) -> None:
        self.workers, self.retries, self.homeward = extra
        self.outward = {}  # a worker sends no tasks
        self._requests = {}

    # -- the root ---------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[str, ...]:
        return (self._base,)

    def line(self) -> Channel:
        """A line to the server besides the threads' own; a forked child lets go of it as of those."""
        return self._here().open_line()

    def close_line(self, line: Channel) -> None:
        self._here().close_line(line)

    def request(self, party: str) -> tuple[Any, ...]:
        """What a submission by `party` begins with: its number makes it run once."""
        # Counted before it is sent: an interrupted request may have been executed, its number is spent.
        number = self._requests[party] = self._requests.get(party, 0) + 1
        return party, number, self._here().ttl_ms

    def waiting(self) -> int:
        """How many tasks no worker has taken."""
        return int(self._here().channel().call("LLEN", self._base + "tasks"))

    def keep(self, ids: Sequence[bytes]) -> None:
        """Queue results that the root keeps itself (a second one of an id, after a cut, finds nothing)."""
        self._push("results", [b"%b %b" % (id, KEPT) for id in ids])

    def next_result(self, unhandled: int, timeout_s: float) -> bytes | None:
        """Wait for a result and take it, the one after `unhandled` others that have been taken; None after the timeout."""
        results, taken = self._base + "results", self._base + "taken"
        channel = self._here().channel()
        reply: bytes | None = channel.block(
            lambda seconds: ("BLMOVE", results, taken, "LEFT", "RIGHT", seconds),
            timeout_s,
            look=lambda: channel.call("LINDEX", taken, unhandled),
        )
        if reply is not None:
            channel.expire(taken)
        return reply

    def collect(self, handled: int) -> list[bytes]:
        """Forget the results up to the `handled`th of all, and take the next ones."""
        session = self._here()
        reply: list[bytes] = session.channel().script(
            "pool_collect", (self._base,), (handled, MOST_SHOWN, session.ttl_ms)
        )
        return reply

    def forget_function(self, token: str) -> None:
        self._here().channel().call("HDEL", self._base + "functions", token)

    def was_ready(self, pid: int) -> bool:
        """Whether that worker, which has ended, had come through its initializer."""
        channel, field = self._here().channel(), f"ready:{pid}"
        was_ready = bool(channel.call("HEXISTS", self._base + "state", field))
        channel.post("HDEL", self._base + "state", field)
        return was_ready

    def dismiss(self, workers: int) -> None:
        """Send workers home, once they have done what is in the line."""
        self._push("tasks", [HOME] * workers)

    def stop_collecting(self) -> None:
        self._push("results", [ROOT + b" " + STOP])

    def abandon(self) -> None:
        """Drop what is in the line, for good."""
        self._here().channel().call_many(
            [
                ("HSET", self._base + "state", "over", 1),
                ("DEL", self._base + "tasks", self._base + "functions"),
            ]
        )
        self._here().channel().expire(self._base + "state")

    def _push(self, part: str, elements: list[bytes]) -> None:
        """For what does no harm when a cut doubles it."""
        if elements:
            channel = self._here().channel()
            channel.call("RPUSH", self._base + part, *elements)
            channel.expire(self._base + part)

    # -- a worker ---------------------------------------------------------------------------------------------------

    def initializer_failed(self, message: bytes) -> None:
        """Tell the root that no worker will do: this is what the initializer, or the look at the line, raised."""
        self._push("results", [ROOT + b" " + INITIALIZER + message])

    def hand(self, last: LastWords) -> Hand:
        """The calling thread becomes a worker that is ready."""
        return Hand(self, self._base, last)

    # Functions and tasks may be unpickled more than once, so they are not packed to be read once. A task is given out
    # once in a process: one that comes back has killed the process that had it.

    def pack_function(self, func: Any) -> tuple[str, bytes]:
        """A function's token, the same for the same function (a large one's is unique), and its message."""
        session = self._here()
        plain = payload.pickled(func, session, reducers=self.outward)
        sealer = session.sealer
        digest = sealer.digest(plain, 12) if sealer else hashlib.blake2b(plain, digest_size=12).digest()
        token = digest.hex()
        return token, payload.seal(plain, session, self._where("function", token.encode()))

    def pack_task(self, obj: Any, *what: bytes) -> bytes:
        """A task's payload; `what` is its id, its function's token, its mode."""
        return payload.pack(obj, self._here(), self._where("task", *what), reducers=self.outward)

    def opened_function(self, token: bytes, message: bytes) -> bytes:
        """Its pickle."""
        return payload.opened(message, self._here(), self._where("function", token))

    def unpack_task(self, task: Task) -> Any:
        where = self._where("task", task.id, task.token, task.mode)
        return payload.unpack(task.payload, self._here(), where, once=True)

    def pack_result(self, value: Any, id: bytes, status: bytes) -> bytes:
        """A result's message, pickled as the stdlib pickles it: nothing goes by value."""
        where = self._where("result", id, status)
        return payload.pack(
            value, self._here(), where,
            by_value=False, read_once=True, into=self._id, reducers=self.homeward,
        )  # fmt: skip

    def unpack_result(self, message: bytes, id: bytes, status: bytes) -> Any:
        return payload.unpack(message, self._here(), self._where("result", id, status), once=True)

    def loads(self, plain: bytes) -> Any:
        return payload.loads(plain, self._here())

    def _where(self, kind: str, *what: bytes) -> bytes:
        return b" ".join((self._id.encode(), kind.encode(), *what)) if self._session.sealer else b""

    def discard(self, message: bytes) -> None:
        payload.discard(message, self._here())


class Hand:
    """The tasks that a worker has in hand, and their results until those are sent. Owned by the worker's thread.

    Short tasks come several at once, and their results go together. Until then they are in the worker's last words, where
    the root finds them if it dies. When a task takes long after all, a thread sends what is done and gives the other
    tasks back: someone may be idle, and it may be waiting for one of them.
    """

    MOST_FUNCTIONS = 64

    def __init__(self, tasks: Tasks, base: str, last: LastWords) -> None:
        self._tasks, self._last = tasks, last
        session = tasks._here()
        self._ttl_ms = session.ttl_ms
        self._channel = channel = session.join(tasks._id)
        # A pool that was made on this very host ends with it: fresh workers could come nowhere else.
        is_local = maker(tasks._id) == int(session.process.partition(".")[0])
        self._until = math.inf if is_local else session.info.until
        self._base, self._line, self._running = base, base + "tasks", f"{base}running:{channel.party}"
        self._functions: dict[bytes, bytes] = {}
        self._waiting: deque[Task] = deque()
        self._held: list[bytes] = []  # results that are to be sent
        self._held_since = 0.0
        self._sent: list[bytes] = []  # results under way
        self._doubt = False  # one of them may not have arrived
        self._turns = 0
        self._changing = threading.Lock()  # held while tasks are given back
        self._watched: threading.Event | None = None
        state = base + "state"
        ready: tuple[object, ...] = (f"ready:{os.getpid()}", 1)
        if self.is_late(0.0):
            print(
                "cloudpool: this worker's host has no time left for it: what it runs in should live longer.",
                file=sys.stderr,
            )
            ready = ()
        channel.post("HSET", state, f"pid:{session.process}", os.getpid(), *ready)
        channel.expire(state)

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
            if self._held or self._sent:  # and the rest was given back: have them recorded before it waits
                with self._changing:
                    self._post()
                self._channel.settle()
                left = self._recover() if self._doubt else []
                self._recorded()
                self._take(left)
                continue
            left_s = self._until - needed_s - time.monotonic()
            if left_s <= 0:
                self._tasks._here().retire_host()
                return None
            first = self._channel.block(
                lambda seconds: ("BLMOVE", self._line, self._running, "LEFT", "RIGHT", seconds),
                None if left_s == math.inf else left_s,
                look=lambda: self._channel.call("LINDEX", self._running, 0),
            )
            if first is None:
                continue
            self._channel.expire(self._running)
            if first == HOME:
                return None
            self._take([first])

    def done(self, task: Task, status: bytes, message: bytes, most: int) -> bool:
        """Record a task's result; take up to `most` others if none is waiting. False: the worker is sent home."""
        result = b"%b %b%b" % (task.id, status, message)
        with self._changing:
            self._turns += 1
            self._held.append(result)
            if self._waiting:
                if not self._may_hold(result):
                    self._post()
                return True
            arguments = self._arguments(most)
            self._sent += self._held
            self._held.clear()
        taken = self._channel.script("pool_done", (self._base,), arguments)
        if taken is None or self._doubt:
            taken = self._recover()
        self._recorded()
        if taken == [HOME]:
            return False
        self._take(taken)
        return True

    def function(self, token: bytes) -> bytes:
        """A function's pickle, fetched once: its bytes are kept, so that each task has its own object."""
        message = self._functions.get(token)
        if message is None:
            message = self._channel.call("HGET", self._base + "functions", token)
            if message is None:
                raise LookupError(f"the function {token.decode()} of this task is not in the server any more")
            message = self._tasks.opened_function(token, message)
            while len(self._functions) >= self.MOST_FUNCTIONS:
                del self._functions[next(iter(self._functions))]
            self._functions[token] = message
        return message

    # -- what is in hand --------------------------------------------------------------------------------------------

    def _may_hold(self, result: bytes) -> bool:
        """Whether it may wait for others: not when a death must not undo it, and the root would not find it."""
        now = time.monotonic()
        if len(self._held) == 1:
            self._held_since = now
        return bool(self._tasks.retries) and now - self._held_since < HELD_S and self._last.keep(result)

    def _post(self) -> None:
        """Send what is held, without waiting."""
        if self._held:
            arguments = self._arguments(0)
            self._sent += self._held
            self._held.clear()
            heard = partial(self._heard, arguments)
            self._channel.post_script("pool_done", (self._base,), arguments, heard)

    def _recorded(self) -> None:
        """All that was sent is in the server."""
        self._sent.clear()
        self._last.forget()

    def _arguments(self, most: int) -> tuple[Any, ...]:
        return self._channel.party, most, self._tasks.workers, self._ttl_ms, *self._held

    def _heard(self, arguments: tuple[Any, ...], reply: Any) -> None:
        """Of results that were sent without waiting: anything but a list means that they are not recorded, or may not be."""
        if not isinstance(reply, list):
            self._doubt = True
        if reply is CUT:  # not only when the worker is next here: somebody waits for it
            self._channel.later(lambda: self._channel.script("pool_done", (self._base,), arguments))

    def _recover(self) -> list[bytes]:
        """Send again what has not been recorded, in order; what is then in hand."""
        self._doubt = False
        for n in range(0, len(self._sent), MOST_AT_ONCE):
            some = self._sent[n : n + MOST_AT_ONCE]
            arguments = (self._channel.party, 0, self._tasks.workers, self._ttl_ms, *some)
            self._channel.script("pool_done", (self._base,), arguments)
        reply: list[bytes] = self._channel.call("LRANGE", self._running, 0, -1)
        return reply

    def _take(self, elements: list[bytes]) -> None:
        self._waiting.extend(map(Task.parse, elements))
        if len(elements) > 1:
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
            if turn == self._turns and (self._waiting or self._held):
                try:
                    self._give_back(turn)
                except SessionLostError:
                    return
            if not self._waiting and not self._held:
                watched.clear()
                if self._waiting:  # taken just now
                    watched.set()

    def _give_back(self, turn: int) -> None:
        with self._changing:
            if turn != self._turns:
                return
            channel = self._tasks._here().channel()
            if self._held:
                # Those that are under way as well: they may arrive later than these.
                arguments = (
                    self._channel.party,
                    0,
                    self._tasks.workers,
                    self._ttl_ms,
                    *self._sent,
                    *self._held,
                )
                channel.script("pool_done", (self._base,), arguments)
                self._sent += self._held
                self._held.clear()
            if self._waiting:
                ids = [task.id for task in self._waiting]
                channel.script("pool_give_back", (self._base,), (self._channel.party, self._ttl_ms, *ids))
                self._waiting.clear()
