"""The task protocol: what a pool's root and its workers say to the server.

    root --submit--> tasks --BLMOVE, done--> running:<worker> --done--> results --collect--> root (collected)
                       ^                            |
                       +--------- give_back --------+   (a worker whose task takes long)
                       results <------- reap_pool --+   (a worker that died; the agent does it: what it had goes to the
                                                         root, which says what becomes of it)

A task is in one list at any time, and a worker's running tasks are in the order in which it does them. So `done` bears
repetition, the first result of a task wins, and after a cut the worker reads its list to know where it stands.

    task     <id> <function's token> <items> <deaths> <to> <mode><payload>    or "." which sends one worker home
    result   <id> <status><payload>       id is job.index, and job.index.item for an item of a chunk sent by itself
             * <length>:<result>...       several that were recorded together
    loss     ! x<pid> <length>:<task>...  what a worker had taken that died

Results go to the collector, or with `to` to the thread of that party, which waits for them: lists `results:<to>` and
`collected:<to>`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from multiprocessing import AuthenticationError
from typing import Any, NamedTuple

from cloudpool.serialize import Reducers
from cloudpool.store.channel import Channel
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
LOOK = b"l"  # a caller that waits sees whether its call is over
TOGETHER = b"* "  # what several results begin with

MOST_SHOWN = 64  # results in one reply: up to 4 MiB
MOST_AT_ONCE = 32  # tasks that a worker takes in one trip
SUSPECTS = 256  # items of a chunk that one look at its worker's last words does not tell apart


class Task(NamedTuple):
    """A task as a worker, or the root of a chunk that is to be split, sees it."""

    id: bytes
    token: bytes
    items: int
    deaths: int
    to: bytes
    mode: bytes
    payload: bytes

    @classmethod
    def parse(cls, element: bytes) -> Task:
        """Raises AuthenticationError for what is no task."""
        try:
            id, token, items, deaths, to, call = element.split(b" ", 5)
            return cls(id, token, int(items), int(deaths), to, call[:1], call[1:])
        except (ValueError, AttributeError):  # AttributeError: not even bytes
            raise AuthenticationError(
                "the server gave a task that no pool has sent; it is refused."
            ) from None

    def element(self) -> bytes:
        return b"%b %b %d %d %b %b%b" % self

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
        pid, _, framed = said.partition(b" ")
        if not pid.isdigit():
            raise AuthenticationError("the server tells of a death that none was; it is refused.")
        return cls(int(pid), [Task.parse(element) for element in _unframed(framed)])


class Result(NamedTuple):
    """A result as the root sees it."""

    id: bytes
    status: bytes
    message: bytes
    numbers: tuple[int, ...]  # as of `_numbers`; none of a word to the root

    @classmethod
    def parse_all(cls, element: bytes) -> list[Result]:
        """One, or several that were recorded together. Raises AuthenticationError for what is no result."""
        if not isinstance(element, bytes) or element[:2] != TOGETHER:
            return [cls.parse(element)]
        return [cls.parse(one) for one in _unframed(element[2:])]

    @classmethod
    def parse(cls, element: bytes) -> Result:
        """One. Raises as `parse_all`."""
        try:
            id, said = element.split(b" ", 1)
        except (ValueError, AttributeError):
            raise _no_result() from None
        return cls(id, said[:1], said[1:], () if id == ROOT else _numbers(id))


def _suffix(to: bytes) -> str:
    return f":{to.decode()}" if to else ""


def _numbers(id: bytes) -> tuple[int, ...]:
    """Job, index, and the item of a chunk that was split. Raises AuthenticationError for what is no task's id."""
    try:
        numbers = tuple(map(int, id.split(b".")))
    except ValueError:
        raise _no_result() from None
    if len(numbers) not in (2, 3):
        raise _no_result()
    return numbers


def together(results: Sequence[bytes]) -> bytes:
    """Results as one element."""
    if len(results) == 1:
        return results[0]
    return TOGETHER + b"".join([b"%d:%b" % (len(result), result) for result in results])


def _unframed(framed: bytes) -> list[bytes]:
    """Raises AuthenticationError."""
    found, at = [], 0
    while at < len(framed):
        colon = framed.find(b":", at, at + 12)
        length = framed[at:colon]
        end = colon + 1 + int(length) if colon > 0 and length.isdigit() else -1
        if not at < end <= len(framed):
            break
        found.append(framed[colon + 1 : end])
        at = end
    if at < len(framed) or not found:
        raise _no_result()
    return found


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

    def connect(self) -> Channel:
        """The calling thread's channel, with a connection. Raises ServerError, SessionLostError."""
        channel = self._here().channel()
        if not channel.is_open:
            channel.call("EXISTS", self._base + "state")
        return channel

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

    def keep(self, ids: Sequence[bytes], to: bytes) -> None:
        """Queue results that the root keeps itself (a second one of an id, after a cut, finds nothing)."""
        self._push("results" + _suffix(to), [b"%b %b" % (id, KEPT) for id in ids])

    def wake(self, to: bytes) -> None:
        """Have the thread look that waits there."""
        self._push("results" + _suffix(to), [ROOT + b" " + LOOK])

    def next_result(self, unhandled: int, timeout_s: float, to: bytes = b"") -> bytes | None:
        """Wait for a result and take it, the one after `unhandled` others that have been taken; None after the timeout."""
        results, taken = (self._base + part + _suffix(to) for part in ("results", "collected"))
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

    def forget_collected(self, to: bytes, *, is_handled: bool) -> None:
        """What the thread has taken; the blobs of what it may not have handled, too."""
        channel, key = self._here().channel(), self._base + "collected" + _suffix(to)
        if not is_handled:
            for element in channel.call("LRANGE", key, 0, -1):
                for result in Result.parse_all(element):
                    self.discard(result.message)
        channel.call("DEL", key)

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

    def discard(self, message: bytes, *, by_reader: bool = False) -> None:
        payload.discard(message, self._here(), by_reader=by_reader)
