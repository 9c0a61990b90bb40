"""Queue, JoinableQueue, SimpleQueue: a list of messages.

    put: items <- message, numbered by its party, so that one sent again is put once (sync/puts.py)
    get: items --BLMOVE--> taken:<party>, unpickle, then "taken" leaves, then it is returned (where only one thread reads,
         several items at once: sync/ahead.py)

`put` does not wait for its reply, nor for a feeder thread. What a thread has put is in the server before anything that it
does there afterwards.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from multiprocessing import queues
from multiprocessing.synchronize import SEM_VALUE_MAX
from queue import Empty, Full
from typing import Any

from cloudpool.errors import ServerOutOfMemory
from cloudpool.host.ahead import file_name
from cloudpool.host.membership import Session
from cloudpool.store.blobs import finds_no_place
from cloudpool.store.channel import Account, Channel
from cloudpool.store.interruption import is_handlers
from cloudpool.store.wire import Reply
from cloudpool.sync import payload
from cloudpool.sync.ahead import Reading
from cloudpool.sync.puts import BoundedPuts, Puts
from cloudpool.sync.readiness import Readiness
from cloudpool.sync.shared import Shared
from cloudpool.sync.timeout import check_of_poll, check_of_semaphore


class _Part:
    """What a thread does at one queue: its puts; how often it got and said done; how it reads."""

    __slots__ = ("done", "got", "puts", "reading")

    def __init__(self, puts: Puts) -> None:
        self.puts = puts
        self.got = self.done = 0
        self.reading: Reading | None = None


class Items(Shared):
    """The queue itself, without the stdlib's faces: bytes in, bytes out."""

    _kind = "queue"

    def __init__(self, maxsize: int = 0, joinable: bool = False) -> None:
        self._create(("SADD", "parties", ""), ("HSET", "state", "joinable", int(joinable)))
        self._restore((maxsize, joinable))

    def _extra(self) -> Any:
        return self.maxsize, self.joinable

    def _restore(self, extra: Any) -> None:
        self.maxsize, self.joinable = extra
        self.where = f"{self._id} item".encode()

    def _let_go(self, session: Session) -> None:
        for channel in session.channels():
            part: _Part | None = channel.numbered.get(self._id)
            if part is not None:  # what is left ahead is recalled first, should a handle come back
                part.reading = None

    # -- put --------------------------------------------------------------------------------------------------------

    def _part(self, channel: Channel) -> _Part:
        """The calling thread's, whichever handle of the queue it uses."""
        try:
            return channel.numbered[self._id]  # type: ignore[no-any-return] # it has what any object wants
        except KeyError:
            return channel.numbered.setdefault(self._id, _Part(self._puts(channel)))  # type: ignore[no-any-return]

    def _puts(self, channel: Channel) -> Puts:
        session = self._here()
        if self.maxsize:
            return BoundedPuts(session, channel, self._base, self.maxsize)
        return Puts(session, channel, self._base)

    def put(self, message: bytes, timeout: float | None = None) -> bool:
        """Put; when bounded and full block `timeout` seconds at most (None: for ever), then False.

        Raises what the server answered to an earlier put of this thread that it has not taken (ServerOutOfMemory).
        """
        try:
            return self._part(self._here().join(self._id)).puts.put(message, timeout, self)
        except ServerOutOfMemory:
            self.refuse(message)
            raise

    def refuse(self, message: bytes) -> None:
        """The message that this thread has packed last was not put."""
        payload.discard(message, self._session)
        self._session.holdings.recall()

    def settle(self) -> None:
        """Wait until all that this thread has put is in the server. Raises what the server answered to what it has not taken."""
        channel = self._here().channel()
        channel.settle()
        self._part(channel).puts.raise_refused()

    # -- get --------------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Any:
        """The next object; blocks `timeout` seconds at most (None: for ever). Raises Empty, or what unpickling raises."""
        check_of_poll(timeout)
        session = self._here()
        channel = session.join(self._id)
        if not self._can_be_ahead(session):
            message = self._take(channel, timeout)
        else:
            reading = self._reading(channel)
            if (got := self._get_ahead(channel, reading)) is not None:
                return got[0]
            with reading.one_by_one():
                if (got := self._get_ahead(channel, reading)) is not None:  # given to a signal's handler
                    return got[0]
                message = self._take(channel, timeout)
        if message is None:
            raise Empty
        account = channel.account(self._id)
        if self.joinable:
            account.has += 1
        with self._session.holdings.in_receipt():
            try:
                return self._unpack(message)
            finally:
                self._acknowledge(channel, account.total)
                if not self.joinable:  # else it may come back until it is done
                    self._discard(message)

    def _unpack(self, message: bytes) -> Any:
        return payload.unpack(message, self._session, self.where, once=True)

    def _discard(self, message: bytes) -> None:
        payload.discard(message, self._session, by_reader=True)

    def _take(self, channel: Channel, timeout: float | None) -> bytes | None:
        items, taken = self._base + "items", f"{self._base}taken:{channel.party}"
        before = channel.account(self._id).total

        def look() -> bytes | None:
            total, last = channel.script("account", (self._base,), ("taken", "seen", channel.party))
            return last if total > before else None

        def undo(_message: bytes) -> None:
            is_undone = lambda: b"" if look() is None else None  # noqa: E731
            channel.call("LMOVE", taken, items, "RIGHT", "LEFT", look=is_undone)
            channel.expire(items)

        message: bytes | None
        if timeout is not None and timeout <= 0:
            message = channel.call("LMOVE", items, taken, "LEFT", "RIGHT", look=look, undo=undo)
        else:
            message = channel.block(
                lambda seconds: ("BLMOVE", items, taken, "LEFT", "RIGHT", seconds),
                timeout,
                look=look,
                undo=undo,
            )
        if message is not None:
            channel.expire(taken)
        return message

    def _acknowledge(self, channel: Channel, kept: int) -> None:
        """Say that an item has been got, and what the party should have left."""
        part = self._part(channel)
        part.got += 1
        keys = (self._base,)
        arguments = (channel.party, part.got, kept, self.maxsize, self._session.ttl_ms)

        def on_reply(reply: Reply) -> None:
            if not isinstance(reply, int):
                channel.heard(reply, lambda: channel.script("queue_taken", keys, arguments))
            elif part.reading is not None:
                part.reading.waiting = reply

        channel.post_script("queue_taken", keys, arguments, on_reply)

    def _get_ahead(self, channel: Channel, reading: Reading) -> tuple[Any] | None:
        with self._session.holdings.in_receipt():
            return reading.get(channel, self._unpack, self._discard)

    def _can_be_ahead(self, session: Session) -> bool:
        """All processes must be on this host, and an item that was given must be of no account to others."""
        return not (self.maxsize or self.joinable or session.info.redis_url)

    def _reading(self, channel: Channel) -> Reading:
        """How the thread reads, or looks."""
        part = self._part(channel)
        if part.reading is None:
            reading = Reading(
                channel, self._base, os.path.join(self._session.info.folder, file_name(self._id))
            )
            part.reading = part.reading or reading  # a signal's handler may have one by now
        return part.reading

    # -- the rest ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        self.settle()
        if not self._can_be_ahead(self._here()):
            return int(self._session.channel().call("LLEN", self._base + "items"))
        channel = self._here().join(self._id)
        return self._reading(channel).size(channel)

    def share(self) -> None:
        """From now on whatever waits is in the list `items`, for whoever looks there."""
        if self._can_be_ahead(self._here()):
            channel = self._here().join(self._id)
            self._reading(channel).share(channel)

    def task_done(self) -> None:
        channel = self._here().join(self._id)
        part = self._part(channel)
        part.done += 1
        arguments = (channel.party, part.done, self._session.ttl_ms, int(self.joinable))
        left, message, moved = channel.script("queue_done", (self._base,), arguments)
        if left < 0:
            raise ValueError("task_done() called too many times")
        if self.joinable:
            channel.accounts[self._id] = Account(left, moved)
            payload.discard(message, self._session)

    def unfinished(self) -> int:
        """How many items have been put and not marked done."""
        self.settle()
        return int(self._session.channel().script("queue_unfinished", (self._base,))[0])

    def join(self, timeout: float | None = None) -> bool:
        """Block, `timeout` seconds at most, until every item that was put has been marked done. Whether they are."""
        self.settle()
        deadline = None if timeout is None else time.monotonic() + timeout
        channel = self._session.channel()
        done = self._base + "done"
        unfinished, last = channel.script("queue_unfinished", (self._base,))
        while unfinished and (deadline is None or time.monotonic() < deadline):
            left = None if deadline is None else deadline - time.monotonic()
            channel.block(partial(_read_from, done, last), left)
            unfinished, last = channel.script("queue_unfinished", (self._base,))
        return not unfinished

    def readiness(self) -> Readiness:
        self.share()
        return Readiness(self._here(), self._base + "items")


def _read_from(stream: str, last: bytes, seconds: str) -> tuple[Any, ...]:
    return ("XREAD", "BLOCK", round(float(seconds) * 1000) + 1, "STREAMS", stream, last)


class _Face:
    """What Queue and SimpleQueue share: the items, their pickle, an end that `select` and `wait` take."""

    _items: Items
    _readiness: Readiness | None

    def _begin(self, items: Items) -> None:
        self._items = items
        self._readiness = None
        self._closed = False
        self._put_to = False
        self._ends: dict[str, End] = {}

    def __getstate__(self) -> Any:
        return (self._items,)  # a tuple, as the stdlib's: subclasses add to it

    def __setstate__(self, state: Any) -> None:
        self._begin(*state)

    def _pack(self, obj: Any) -> bytes:
        # What a JoinableQueue's reader has unpickled may come back after its death: handles in it are not its alone.
        items = self._items
        return payload.pack(obj, items._here(), items.where, read_once=not items.joinable, into=items._id)

    def _get(self, timeout: float | None) -> Any:
        try:
            item = self._items.get(timeout)
        except BaseException:
            if self._readiness is not None:
                self._readiness.not_taken()
            raise
        if self._readiness is not None:
            self._readiness.taken()
        return item

    @property
    def _reader(self) -> End:
        # Made when asked for: it and the queue hold each other.
        return self._ends.setdefault("reader", End(self))

    @property
    def _writer(self) -> End:
        return self._ends.setdefault("writer", End(self))

    @property
    def _waits_for(self) -> str:
        """The key that exists when an item waits."""
        self._items.share()
        return self._items._base + "items"

    def fileno(self) -> int:
        """A descriptor that is readable when an item waits; `connection.wait` and `select` take the queue's `_reader`."""
        if self._readiness is None:
            self._readiness = self._items.readiness()
        return int(self._readiness.fileno())

    def empty(self) -> bool:
        """Whether nothing waits. Raises OSError when it was put to and closed here, as the stdlib's pipe end does."""
        if self._put_to:
            self._check_open()
        return len(self._items) == 0

    def _check_open(self) -> None:
        if self._closed:
            raise OSError("handle is closed")

    def _poll(self, timeout: float = 0.0) -> bool:
        from cloudpool.sync.wait import wait

        return not self.empty() or bool(timeout and wait([self], timeout))


class End:
    """`queue._reader` or `queue._writer`: what software that reaches for the stdlib's pipe ends does with it."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self.closed = False

    def fileno(self) -> int:
        self._check_open()
        return int(self._queue.fileno())

    def recv(self) -> Any:
        self._check_open()
        return self._queue._get(None)

    def send(self, obj: Any) -> None:
        self._check_open()
        self._queue.put(obj)

    def poll(self, timeout: float = 0.0) -> bool:
        self._check_open()
        return bool(self._queue._poll(timeout))

    @property
    def _waits_for(self) -> str:
        waits_for: str = self._queue._waits_for
        return waits_for

    def close(self) -> None:
        """This end; the queue's methods go on, as the stdlib's other end does."""
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise OSError("handle is closed")


class Count:
    """`queue._sem` or `_unfinished_tasks`, of which software reads the value: none of them is a semaphore here."""

    def __init__(self, value: Callable[[], int]) -> None:
        self.get_value = self._get_value = value
        self._semlock = self

    def _is_zero(self) -> bool:
        return self._get_value() == 0


class AllDone:
    """`JoinableQueue._cond`, of which software waits with a timeout for all items to be done. Nothing needs a lock."""

    def __init__(self, items: Items) -> None:
        self.wait = items.join

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass


class Queue(_Face, queues.Queue):
    """`multiprocessing.Queue`: any number of producers and consumers; `put` returns at once unless bounded and full."""

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        self._begin(Items(max(0, maxsize), isinstance(self, JoinableQueue)))

    # -- what software reads of the stdlib's insides -----------------------------------------------------------------

    _thread = None  # there is no feeder thread,

    @property
    def _buffer(self) -> deque[Any]:
        """And nothing is left for one: what was put is with the server."""
        self._items.settle()
        return deque()

    @property
    def _maxsize(self) -> int:
        return int(self._items.maxsize or SEM_VALUE_MAX)

    @property
    def _sem(self) -> Count:
        """The free places."""
        return Count(lambda: self._maxsize - len(self._items))

    # -- put and get --------------------------------------------------------------------------------------------------

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put. When bounded and full, block (`timeout` seconds at most). Raises Full, or ValueError when closed.

        An object that does not pickle is reported on stderr and left out, as the stdlib's feeder thread does. Raises OSError
        when there is no room for it, BlobStoreError.
        """
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        self._put_to = True
        try:
            message = self._pack(obj)
        except Exception as error:
            if finds_no_place(error) or is_handlers(error):
                raise
            self._on_queue_feeder_error(error, obj)
            return
        if not self._items.put(message, timeout if block else 0.0):
            self._items.refuse(message)
            check_of_semaphore(timeout if block else None)
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item. Blocks (`timeout` seconds at most). Raises Empty, or ValueError when closed."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        return self._get(timeout if block else 0.0)

    def put_nowait(self, obj: Any) -> None:
        self.put(obj, False)

    def get_nowait(self) -> Any:
        return self.get(False)

    def qsize(self) -> int:
        return len(self._items)

    def full(self) -> bool:
        return bool(0 < self._items.maxsize <= len(self._items))

    def close(self) -> None:
        """This process puts and gets no more."""
        self._closed = True
        if self._readiness is not None:
            self._readiness.close()

    def join_thread(self) -> None:
        """Wait until what was put is in the server."""
        assert self._closed, f"Queue {self!r} not closed"
        self._items.settle()

    def cancel_join_thread(self) -> None:
        """Nothing to cancel: no consumer is needed for what was put to leave this process."""


class JoinableQueue(Queue, queues.JoinableQueue):
    """`multiprocessing.JoinableQueue`: an item that was got and not marked done when its process died comes back."""

    def task_done(self) -> None:
        """One item got earlier is done. Raises ValueError when more are than were put."""
        self._items.task_done()

    def join(self) -> None:
        """Block until every item is done."""
        self._items.join()

    @property
    def _unfinished_tasks(self) -> Count:
        return Count(self._items.unfinished)

    @property
    def _cond(self) -> AllDone:
        return AllDone(self._items)


class SimpleQueue(_Face, queues.SimpleQueue):
    """`multiprocessing.SimpleQueue`: put, get, empty."""

    def __init__(self, *, ctx: Any = None) -> None:
        self._begin(Items())

    def empty(self) -> bool:
        """Whether nothing waits. Raises OSError when closed."""
        self._check_open()
        return super().empty()

    def put(self, obj: Any) -> None:
        """Put. Raises what pickling raises, and OSError when closed."""
        self._check_open()
        self._items.put(self._pack(obj))

    def get(self) -> Any:
        """Take the next item; blocks. Raises OSError when closed."""
        self._check_open()
        return self._get(None)

    def close(self) -> None:
        """This process uses it no more."""
        self._closed = True
        if self._readiness is not None:
            self._readiness.close()
