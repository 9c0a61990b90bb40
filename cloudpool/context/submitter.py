"""How a pool's tasks get into the server: without waiting when there are few, many at once when they come fast.

    put --> nothing under way: sent by the calling thread, which goes on   (its reply is read before the next one is sent)
        --> a reply is still out: the rest waits for it in a thread, and goes as one

A thread per task would cost each call a wake-up, and a round trip per task each caller its time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloudpool.context.functions import Function
from cloudpool.context.tasks import Tasks
from cloudpool.errors import ServerError, ServerOutOfMemory
from cloudpool.store import refusals
from cloudpool.store.channel import CUT, Channel
from cloudpool.store.wire import ReplyError

MOST, MOST_BYTES = 256, 1 << 20  # in one submission

Failed = Callable[[list[bytes], Exception], None]
Wanted = Callable[[list[bytes]], list[bytes]]


@dataclass(slots=True)
class Request:
    """Tasks of one function on their way; `reply` is None until it is known: a number, or what the server refused them with."""

    tasks: list[bytes]
    function: Function
    arguments: tuple[Any, ...] = ()
    reply: Any = None

    def heard(self, line: Channel, keys: tuple[str, ...], reply: Any) -> None:
        """Sent again by its line, which may be looked after by another thread, when it was cut: it is numbered, so it runs once."""
        if reply is CUT or (isinstance(reply, ReplyError) and reply.code in refusals.SEND_AGAIN):
            line.later(lambda: self._again(line, keys))
        else:
            self.reply = reply

    def _again(self, line: Channel, keys: tuple[str, ...]) -> None:
        try:
            self.reply = line.script("pool_submit", keys, self.arguments)
        except (ReplyError, ServerError, ServerOutOfMemory) as error:
            self.reply = error


class Submitter:
    """A line of its own to the server, used by one thread at a time. `failed` is told of tasks that the server refuses, and
    then `wanted` is asked which of those that are still to be sent anybody waits for. Both without the lock: who hears of a
    failure may have locks of its own, for which another thread waits that sends.

    Whoever waits for results calls `look` now and then: of a request that was refused, with none after it, it hears then.
    """

    def __init__(self, tasks: Tasks, failed: Failed, wanted: Wanted) -> None:
        self._tasks, self._failed, self._wanted = tasks, failed, wanted
        self._line: Channel | None = None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._sent: Request | None = None  # not known to have arrived
        self._waiting: deque[Request] = deque()
        self._refusals: deque[tuple[list[bytes], Exception]] = deque()  # of which `failed` has not been told
        self._thread: threading.Thread | None = None
        self._is_busy = False  # the thread has the line
        self._is_over = False

    def send(self, tasks: list[bytes], function: Function) -> None:
        """Have these tasks submitted. Raises SessionLostError."""
        request = Request(tasks, function)
        with self._lock:
            if self._is_over:
                return
            if self._is_busy:
                self._waiting.append(request)
                self._changed.notify_all()  # a signal handler's exception may have kept `_hand_over` from it
            elif self._sent is not None and not self._line_has_reply():
                self._waiting.append(request)
                self._hand_over()
            elif not self._confirm():
                self._waiting.append(request)  # unless it is of what has failed
            else:
                is_first = self._line is None
                self._post(request)
                if is_first:  # the server may not know the script yet
                    self._confirm()
        self._tell()

    def waiting(self) -> int:
        """How many tasks have not been sent yet."""
        with self._lock:
            return sum(len(request.tasks) for request in self._waiting)

    def look(self) -> None:
        """Make sure of what was sent last. Raises SessionLostError."""
        with self._lock:
            if not self._is_busy and not self._is_over:
                self._confirm()
        self._tell()

    def settle(self) -> None:
        """As `look`; and wait for what the thread is at."""
        with self._lock:
            self._changed.wait_for(lambda: not self._is_busy or self._is_over)
        self.look()

    def stop(self) -> None:
        """Send nothing more. The line is closed by whoever has it."""
        with self._lock:
            self._is_over = True
            self._changed.notify_all()
            if not self._is_busy:
                self._hang_up()

    def join(self) -> None:
        thread = self._thread
        if thread is not None and thread.ident is not None and thread is not threading.current_thread():
            thread.join()

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self._tasks.close_line(line)

    # -- with the line in hand --------------------------------------------------------------------------------------

    def _post(self, request: Request) -> None:
        if self._line is None:
            self._line = self._tasks.line()
        request.arguments = self._arguments(request)
        self._sent = request
        heard = partial(request.heard, self._line, self._tasks.keys)
        self._line.post_script("pool_submit", self._tasks.keys, request.arguments, heard)

    def _arguments(self, request: Request) -> tuple[Any, ...]:
        assert self._line is not None
        message = b"" if request.function.is_stored else request.function.message
        return *self._tasks.request(self._line.party), request.function.token, message, *request.tasks

    def _line_has_reply(self) -> bool:
        assert self._sent is not None
        assert self._line is not None
        with self._line.lock:  # against the lookout
            return self._sent.reply is not None or self._line.has_reply()

    def _confirm(self) -> bool:
        """Have the reply to what was sent. Whether the server has taken it; else `_tell` is to be called."""
        request, self._sent = self._sent, None
        if request is None:
            return True
        assert self._line is not None
        try:
            if request.reply is None:
                self._line.settle()
            if isinstance(request.reply, ReplyError):
                raise refusals.as_ours(request.reply)
            if isinstance(request.reply, Exception):
                raise request.reply
        except (ReplyError, ServerError, ServerOutOfMemory) as error:
            self._refusals.append((request.tasks, error))
            return False
        request.function.is_stored = True
        return True

    def _tell(self) -> None:
        """Say what the server has refused; then have sent what waits and is still wanted."""
        if not self._refusals:
            return
        while True:
            with self._lock:
                if not self._refusals:
                    break
                refusal = self._refusals.popleft()
            self._failed(*refusal)
        with self._lock:
            for waiting in self._waiting:
                waiting.tasks = self._wanted(waiting.tasks)
            self._waiting = deque(waiting for waiting in self._waiting if waiting.tasks)
            if self._waiting and not self._is_busy and not self._is_over:
                self._hand_over()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cloudpool-submitter", daemon=True)
        if self._thread.ident is None:
            self._thread.start()
        self._is_busy = True  # not before: Ctrl-C may come in between
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._is_busy or self._is_over)
                if self._is_over:
                    self._hang_up()
                    return
            try:
                self._confirm()
                self._tell()
                while (request := self._next()) is not None:
                    try:
                        self._post(request)
                    except (ServerError, ServerOutOfMemory) as error:  # nothing of it has arrived
                        self._sent = None
                        self._refusals.append((request.tasks, error))
                    self._confirm()
                    self._tell()
            except Exception as error:  # noqa: BLE001 - the session's loss: whoever waits must hear of it
                with self._lock:
                    lost, self._waiting = list(self._waiting), deque()
                    self._thread, self._is_busy = None, False
                    self._changed.notify_all()
                for request in lost:
                    self._failed(request.tasks, error)
                return

    def _next(self) -> Request | None:
        """What is waiting, as one request where the function is the same; None when there is nothing: the line is free."""
        with self._lock:
            if not self._waiting or self._is_over:
                self._is_busy = False
                self._changed.notify_all()
                return None
            function = self._waiting[0].function
            tasks: list[bytes] = []
            size = 0
            while (
                self._waiting
                and self._waiting[0].function is function
                and len(tasks) < MOST
                and size < MOST_BYTES
            ):
                more = self._waiting.popleft().tasks
                tasks += more
                size += sum(map(len, more))
            return Request(tasks, function)
