"""One connection to a Redis or Valkey server: RESP2 by hiredis on a plain socket.

redis-py opens the socket where a URL has to be understood (TLS, passwords, ACL users); its command layer is not used,
since its retries repeat commands that have been executed and its calls cost three times the wire's own time.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from inspect import signature
from typing import Any

import hiredis

from cloudpool.errors import ServerError
from cloudpool.store.interruption import is_no_cut

MOST_BYTES = 512 << 20  # the server's proto-max-bulk-len: it ends a connection that sends more at once
CHUNK = 65536  # more would have malloc map and unmap memory for each reply: 28 us a round trip instead of 15
LOOKS = 30  # about 20 us; a wake-up across cores takes 25

Reply = Any
OnReply = Callable[[Reply], None]


class NotYet(ServerError):
    """The server is there and does not answer yet: frozen, or reading its data. It is worth waiting, however long."""


class CutError(ServerError):
    """The server is there, but the connection broke while it was being opened."""


class ReplyError(Exception):
    """An error that the server answered; the first word is its code."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


class Connection:
    """A socket with its reply parser. Owned by one thread; whoever opened it closes it.

    `call` sends and waits. `post` sends and lets the caller go on: its reply is read before that of the next `call`,
    so commands of one connection take effect in the order in which they were written. A forked child must `drop` it.
    """

    __slots__ = ("_is_midway", "_looks", "_pending", "_reader", "_sock", "client_id")

    MOST_PENDING = 512  # replies that may be under way before `post` reads some: bounds memory on both sides

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._looks = LOOKS if sock.family == socket.AF_UNIX else 0
        self._reader = hiredis.Reader(replyError=ReplyError)
        self._pending: deque[OnReply | None] = deque()
        self._is_midway = (
            False  # in a command; or one was interrupted, and nothing on it can be understood any more
        )
        self.client_id = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def answers_within(self, seconds: float) -> None:
        """From now on whoever waits for longer than that gets TimeoutError."""
        self._sock.settimeout(seconds)

    @property
    def has_unread(self) -> bool:
        """Whether replies to posted commands are to come."""
        return bool(self._pending)

    def readable(self, within_s: float = 0.0) -> bool:
        """Whether a reply, or the connection's end, is there to be read. Raises OSError when another thread has closed it."""
        poller = select.poll()
        try:
            poller.register(self._sock, select.POLLIN)
        except ValueError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
        return bool(self._reader.has_data() or poller.poll(1000 * within_s))

    def send(self, *command: Any) -> None:
        self._sock.sendall(packed(command))

    def receive(self) -> Reply:
        """The next reply as it stands; an error reply is returned, not raised. Raises OSError when the connection is cut,
        or what comes is no reply: after that nothing on it can be understood.
        """
        gets = self._reader.gets
        try:
            reply = gets()
            while reply is False:
                self._reader.feed(self._more())
                reply = gets()
        except (
            hiredis.ProtocolError,
            TypeError,
            MemoryError,
        ) as error:  # a map with a list as a key; 2**30 elements
            if is_no_cut(error):
                raise
            raise ConnectionResetError(f"the server sent what is no reply ({error})") from None
        return reply

    def _more(self) -> bytes:
        """The next bytes. A server on this machine answers in less time than it takes to sleep and be woken: look first."""
        for _ in range(self._looks):
            try:
                data = self._sock.recv(CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            break
        else:
            data = self._sock.recv(CHUNK)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data

    def _begin(self) -> None:
        """A signal's handler may raise at any point of a command, and of what is done about that: so it is noted before."""
        if self._is_midway:
            raise ConnectionResetError("a command was interrupted")
        self._is_midway = True

    def settle(self, within_s: float = math.inf) -> None:
        """Read the replies of all posted commands, or those that come in that time; errors, too, are their callbacks'."""
        self._begin()
        self._settle(within_s)
        self._is_midway = False

    def _settle(self, within_s: float = math.inf) -> None:
        pending, deadline = self._pending, time.monotonic() + within_s
        while pending:
            if within_s < math.inf and not self.readable(max(0.0, deadline - time.monotonic())):
                return
            reply, on_reply = self.receive(), pending[0]
            if on_reply is not None:
                on_reply(reply)
            pending.popleft()  # only now: should a signal's handler raise before, it hears that this was cut

    def call(self, *command: Any) -> Reply:
        """Send one command, wait for its reply. Raises ReplyError, or OSError when cut."""
        data = packed(command)
        self._begin()
        self._sock.sendall(data)
        if self._pending:
            self._settle()
        reply = self.receive()
        self._is_midway = False
        if isinstance(reply, ReplyError):
            try:
                raise reply
            finally:  # else error, traceback and this frame hold each other, and with them what the callers hold
                del reply
        return reply

    def call_many(self, commands: Iterable[tuple[Any, ...]]) -> list[Reply]:
        """Send several commands at once, wait for all replies. Error replies stand in the list."""
        data = [packed(c) for c in commands]
        self._begin()
        self._sock.sendall(b"".join(data))
        if self._pending:
            self._settle()
        replies = []
        for _ in data:
            replies.append(self.receive())
            if isinstance(replies[-1], ReplyError) and "max number of clients" in str(replies[-1]):
                raise ServerError(
                    f"the server refuses the connection ({replies[-1]}).\n{_advice(str(replies[-1]))}"
                )
        self._is_midway = False
        return replies

    def post(self, *command: Any, on_reply: OnReply | None = None) -> None:
        """Send one command and do not wait; `on_reply` gets the reply (an error too) when it is read. It raises nothing."""
        self.post_packed(packed(command), on_reply)

    def post_packed(self, data: bytes, on_reply: OnReply | None) -> None:
        """As `post`, of a command that is packed."""
        self._begin()
        if len(self._pending) >= self.MOST_PENDING:
            self._settle()
        self._pending.append(on_reply)
        self._sock.sendall(data)
        self._is_midway = False

    def last_word(self) -> ReplyError | None:
        """What the server said before it closed the connection unasked."""
        with suppress(OSError):
            self._sock.settimeout(0.1)
            said = self.receive()
            return said if isinstance(said, ReplyError) else None
        return None

    def abandon(self, fate: Reply) -> None:
        """Close; posted commands' callbacks get `fate`. When that is interrupted and called again, the rest of them do."""
        self.close()
        while self._pending:
            on_reply = self._pending[0]
            if on_reply is not None:
                on_reply(fate)
            self._pending.popleft()

    def close(self) -> None:
        self._sock.close()


def packed(command: tuple[Any, ...]) -> bytes:
    """Raises ServerError for what the server takes for an attack: it would end the connection, again and again."""
    # hiredis has str() make a number's digits, where a signal's handler may raise: then it crashes.
    words: Any = tuple([b"%d" % x if type(x) is int else x for x in command])
    data: bytes = hiredis.pack_command(words)
    if len(data) > MOST_BYTES:
        raise ServerError(
            f"{len(data)} bytes are too many for one command: the server takes {MOST_BYTES} at most.\n"
            "Large objects in queues, pipes and results have no such limit; keys of a dict, and a manager's Array, do."
        )
    return data


def open_unix(path: str) -> Connection:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(None)  # what the program has set by socket.setdefaulttimeout is for its own
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return Connection(sock)


def open_url(url: str, timeout_s: float = 5.0) -> Connection:
    """A connection as redis-py opens it: rediss:// is TLS, passwords and ACL users are presented.

    Raises ServerError, which says what to do and never holds the password; CutError when another try is worth it.
    """
    import redis  # costs 0.1 s: only where there is a URL to understand

    from cloudpool.settings import redacted

    try:
        # No variable for the pool: its repr has the password, and tracebacks may show variables.
        opened: Any = redis.ConnectionPool.from_url(
            url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s, protocol=2, **_unnamed()
        ).make_connection()
        opened.retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        opened.connect()
        sock = opened._sock
        opened._sock = None  # the socket is ours now: redis-py must not close it when its object goes
    except redis.exceptions.AuthenticationError as error:
        raise ServerError(
            f"the server at {redacted(url)} refused the user name or password ({_words(error)}).\n"
            "Set CLOUDPOOL_REDIS_URL to redis://USER:PASSWORD@HOST:PORT/0 with the right ones."
        ) from None
    except redis.exceptions.ResponseError as error:
        raise ServerError(
            f"the server at {redacted(url)} refuses the connection ({_words(error)}).\n"
            "Correct CLOUDPOOL_REDIS_URL, or the rights of its user."
        ) from None
    except redis.exceptions.BusyLoadingError as error:
        raise NotYet(
            f"the server at {redacted(url)} is still reading its data ({_words(error)}).\nTry again when it has."
        ) from None
    except (redis.exceptions.RedisError, OSError, ValueError) as error:
        if is_no_cut(error):
            raise
        words = _words(error)
        message = f"cannot reach a server at {redacted(url)} ({words}).\n{_advice(words)}"
        # The kernel of the server's machine has taken the connection: who does not speak there is frozen.
        is_there = isinstance(error, redis.exceptions.TimeoutError) and "connecting" not in words.lower()
        kind = NotYet if is_there else CutError if _is_cut(error) else ServerError
        raise kind(message) from None
    sock.settimeout(None)
    with suppress(OSError):  # it has been cut already: its first use tells
        _watch_machine(sock)
    return Connection(sock)


@cache
def _unnamed() -> dict[str, None]:
    """What keeps redis-py from telling the server its own name: two round trips a connection, for nobody."""
    import redis

    named = signature(redis.connection.AbstractConnection).parameters
    return dict.fromkeys(("driver_info",) if "driver_info" in named else ("lib_name", "lib_version"))


def _advice(words: str) -> str:
    if "max number of clients" in words:
        return "It takes no more connections: raise its maxclients, or start fewer processes."
    if "certificate" in words.lower():
        return "Name the authority that has signed it: rediss://...?ssl_ca_certs=/path/to/ca.pem"
    if "timeout" in words.lower() or "ssl" in words.lower():
        return "Is it a Redis or Valkey server, and does it speak TLS (rediss://) or not (redis://)? Correct CLOUDPOOL_REDIS_URL."
    return "Start it, or correct CLOUDPOOL_REDIS_URL; unset, a program of this machine alone has a private server started for it."


def _watch_machine(sock: socket.socket) -> None:
    """Have the kernel end the connection when the server's machine is gone: one that is only frozen still acknowledges."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _is_cut(error: BaseException) -> bool:
    """Whether someone had answered: not when nobody listens, or the name is unknown, or in time nobody answers."""
    import redis

    if "max number of clients" in str(error):
        return False
    cause = error.__cause__ or error.__context__
    broken = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
    return type(error) is redis.exceptions.ConnectionError and (
        not isinstance(cause, OSError) or isinstance(cause, broken)
    )


def _words(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
