"""A descriptor that is readable while a list in the server has something: for `select`, `selectors`, asyncio and `wait`.

    fileno --> epoll --> a connection of its own, on which a look at the list's head is blocked
    taken  --> the look's answer is read, and the next look sent

Whoever registers the descriptor asks for it once: so it stays the same, whatever becomes of the connection.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress

from cloudpool.errors import CloudpoolError, SessionLostError
from cloudpool.host.membership import Session
from cloudpool.store.wire import Connection

ANSWER_S = 1.0  # for an answer that the server has written before that to a later command


class Readiness:
    """Made for an object of one process, which closes it; a forked child makes its own."""

    def __init__(self, session: Session, key: str) -> None:
        self._session, self._key = session, key
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._epoll: select.epoll | None = None
        self._connection: Connection | None = None
        self._looking = False
        self._ended: int | None = None

    def fileno(self) -> int:
        """The descriptor, with a look under way."""
        if self._pid != os.getpid():
            self._begin()
        if self._epoll is None:
            self._epoll = select.epoll()
        self._rearm(0.0)
        return self._epoll.fileno()

    def taken(self) -> None:
        """Something of the list has been taken. If it came while a look was under way, that was answered first."""
        self._rearm_here(ANSWER_S)

    def not_taken(self) -> None:
        """Nothing was there: an answer that has come is old."""
        self._rearm_here(0.0)

    def _rearm_here(self, within_s: float) -> None:
        if self._epoll is None or self._pid != os.getpid():
            return
        try:
            self._rearm(within_s)
        except CloudpoolError:  # what was taken must not be lost for that
            self._end()

    def _rearm(self, within_s: float) -> None:
        """Look again, if the last look's answer comes within that time."""
        if self._looking and self._connection is not None:
            try:
                if not self._connection.readable(within_s):
                    return
                self._connection.receive()
            except OSError:  # cut: what made it readable is its end
                self._hang_up()
            self._looking = False
        try:
            self._look()
        except SessionLostError:
            self._end()

    def _look(self) -> None:
        assert self._epoll is not None
        if self._connection is None:
            self._connection = self._session.dial()
            self._session.lend(self._connection)
            self._epoll.register(self._connection.fileno(), select.EPOLLIN)
        with suppress(OSError):  # cut: its end makes it readable, and the next look is on another one
            # Onto itself: it takes nothing away.
            self._connection.send("BLMOVE", self._key, self._key, "LEFT", "LEFT", 0)
        self._looking = True

    def _end(self) -> None:
        """Be readable: who then reads from the object is told. A select, or the thread of the stdlib's executor, would pass
        the error on to nobody.
        """
        if self._ended is None:
            assert self._epoll is not None
            self._ended, writer = os.pipe()
            os.close(writer)
            self._epoll.register(self._ended, select.EPOLLIN)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._pid != os.getpid():
            return
        self._hang_up()
        if self._ended is not None:
            os.close(self._ended)
        if self._epoll is not None:
            self._epoll.close()
        self._begin()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._session.unlend(self._connection)
            self._connection.close()  # and is not watched any more
        self._connection, self._looking = None, False
