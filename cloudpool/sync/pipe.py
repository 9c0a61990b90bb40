"""Pipe: two lists, one for what each end is to receive, and two ends that each count their holders.

    end a --send--> list b --BLMOVE--> taken-b:<party> --> end b

An end is closed when no process (and no message under way) has a handle of it, as with a descriptor: the agent, who
knows the holders, then puts the end-of-file mark, an empty message, behind what is still to be received.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection as stdlib
from typing import Any

from cloudpool.errors import ServerOutOfMemory
from cloudpool.host import session as sessions
from cloudpool.host.membership import Session
from cloudpool.store.channel import Channel
from cloudpool.sync import payload
from cloudpool.sync.readiness import Readiness
from cloudpool.sync.shared import Shared
from cloudpool.sync.timeout import check_of_poll

END_OF_FILE = b""
# Bytes that may wait at an end before a send blocks: any program that runs in the OS's 64 KiB runs in it.
CAPACITY = 8 << 20
_sends = itertools.count(1)
_receipts = itertools.count(1)


class Connection(Shared, stdlib.Connection):
    """One end of a Pipe. `multiprocessing.connection.Connection`'s interface and errors, in any process of the session."""

    _kind = "pipe"

    def __init__(self, pipe: str, side: str, readable: bool, writable: bool) -> None:
        session = sessions.current()
        self._session, self._owner = session, os.getpid()
        self._id = f"{pipe}/{side}"
        session.holdings.hold(self._id)
        self._restore((readable, writable))

    def _extra(self) -> Any:
        self._check_closed()
        return self._readable, self._writable

    def _restore(self, extra: Any) -> None:
        self._readable, self._writable = extra
        self._pipe, _, self._side = self._id.rpartition("/")
        self._base = self._session.keys.base(self._pipe)
        self._incoming = self._base + self._side
        self._to = "b" if self._side == "a" else "a"
        self._handle: Any = self._id  # the stdlib's: None when closed
        self._readiness: Readiness | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.Connection, handle {self._handle}>"

    def _counted(self) -> bool:
        return self.__dict__.get("_handle") is not None

    def _channel(self) -> Channel:
        return self._here().join(self._pipe)

    # -- sending ----------------------------------------------------------------------------------------------------

    def send(self, obj: Any) -> None:
        """Send an object; blocks while more than CAPACITY waits. Raises BrokenPipeError when the other end is closed, and
        what pickling raises.
        """
        self._check_closed()
        self._check_writable()
        self._send_message(
            payload.pickled(obj, self._here(), read_once=True, into=f"{self._pipe}/{self._to}")
        )

    def _send_bytes(self, buf: memoryview) -> None:
        self._send_message(payload.of_bytes(buf, self._here()))

    def _send_message(self, plain: bytes) -> None:
        holdings = self._session.holdings
        holdings.keep(self._id)
        try:
            size, message = payload.size(plain), payload.seal(plain, self._session, self._where(self._to))
            if self._handle is None:  # another thread has closed it while this one pickled
                payload.discard(message, self._session)
                self._check_closed()
            channel = self._channel()
            arguments = (self._to, channel.party, next(_sends), self._session.ttl_ms, CAPACITY, size, message)
            outcome = channel.script("pipe_send", (self._base,), arguments)
            if outcome == 2:
                room = f"{self._base}room-{self._to}"
                channel.block(lambda seconds: ("BLMOVE", room, room, "LEFT", "LEFT", seconds), None)
                if channel.call("HEXISTS", self._base + "state", f"closed {self._to}"):
                    outcome = 0
        except ServerOutOfMemory:
            self._refuse(message)
            raise
        finally:
            holdings.unkeep(self._id)
        if outcome == 0:
            self._refuse(message)
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def _refuse(self, message: bytes) -> None:
        """The message that this thread has packed last was not sent."""
        payload.discard(message, self._session)
        self._session.holdings.recall()

    # -- receiving --------------------------------------------------------------------------------------------------

    def recv(self) -> Any:
        """Receive an object; blocks. Raises EOFError when there is nothing left and the other end is closed."""
        self._check_closed()
        self._check_readable()
        message = self._receive_message()
        with self._session.holdings.in_receipt(), self._opened(message) as plain:
            return payload.loads(plain, self._session)

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        with self._opened(self._receive_message()) as plain:
            data = payload.bytes_of(plain, self._session)
            if maxsize is not None and len(data) > maxsize:
                return None
            file = io.BytesIO(data)  # a copy: after this the message's file is another's
        file.seek(0, io.SEEK_END)  # where writing it would have left it: recv_bytes_into asks
        return file

    def _receive_message(self) -> bytes:
        """The next message as it came. Raises EOFError."""
        channel = self._channel()
        taken = f"{self._base}taken-{self._side}:{channel.party}"

        def look() -> bytes | None:
            found: bytes | None = channel.call("LINDEX", taken, -1)
            return found

        def undo(_message: bytes) -> None:
            channel.call("LMOVE", taken, self._incoming, "RIGHT", "LEFT")
            channel.expire(self._incoming)

        holdings = self._session.holdings
        holdings.keep(self._id)
        try:
            message: bytes = channel.block(
                lambda seconds: ("BLMOVE", self._incoming, taken, "LEFT", "RIGHT", seconds),
                None,
                look=look,
                undo=undo,
            )
        finally:
            holdings.unkeep(self._id)
        if message == END_OF_FILE:
            undo(message)  # it stays for whoever reads next
            raise EOFError
        channel.expire(taken)
        return message

    @contextmanager
    def _opened(self, message: bytes) -> Iterator[bytes]:
        """The message before it was sealed. At the end the receive is over: should this process die then, nobody else gets it."""
        size = 0
        try:
            plain = payload.opened(message, self._session, self._where(self._side), once=True)
            size = payload.size(plain)
            yield plain
        finally:
            channel = self._channel()
            arguments = (channel.party, self._side, CAPACITY, size, self._session.ttl_ms, next(_receipts))
            channel.post_script("pipe_taken", (self._base,), arguments)
            if self._readiness is not None:
                self._readiness.taken()
            payload.discard(message, self._session, by_reader=True)

    def _where(self, side: str) -> bytes:
        """Where a message that this end receives stands."""
        return f"{self._pipe} message to-{side}".encode()

    def _poll(self, timeout: float | None) -> bool:
        check_of_poll(timeout)
        channel = self._here().channel()
        if timeout is not None and timeout <= 0:
            return bool(channel.call("EXISTS", self._incoming))
        look = ("BLMOVE", self._incoming, self._incoming, "LEFT", "LEFT")
        return channel.block(lambda seconds: (*look, seconds), timeout) is not None

    # -- the descriptor and the end ---------------------------------------------------------------------------------

    @property
    def _waits_for(self) -> str:
        """The key that exists when there is something to receive."""
        self._check_closed()
        return self._incoming

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to receive."""
        self._check_closed()
        if self._readiness is None:
            self._readiness = Readiness(self._here(), self._incoming)
        return self._readiness.fileno()

    def _close(self) -> None:
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None
        self._here().let_go(self._id)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two connected ends; without `duplex` the first can only receive and the second only send."""
    pipe = _PipeObject()
    return Connection(pipe.id, "a", True, duplex), Connection(pipe.id, "b", duplex, True)


class _PipeObject(Shared):
    """Makes the pipe in the server; its lifetime is that of its ends, so this handle is not counted."""

    _kind = "pipe"

    def __init__(self) -> None:
        self._create(("HSET", "state", "made", 1), ("SADD", "parties", ""))
        self.id = self._id

    def _attach(self, session: Session, object_id: str) -> None:
        self._session, self._id, self._owner = session, object_id, os.getpid()
        self._base = session.keys.base(object_id)

    def _counted(self) -> bool:
        return False
