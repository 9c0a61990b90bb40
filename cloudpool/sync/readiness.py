"""A descriptor that becomes readable when a list in the server has something: what `select` and `wait` can watch."""

from __future__ import annotations

import os
from contextlib import suppress

from cloudpool.errors import SessionLostError
from cloudpool.host.membership import Session
from cloudpool.store.wire import Connection


class Readiness:
    """A connection of its own on which a look at the list's head is blocked (BLMOVE onto itself takes nothing away).

    Made for an object of one process, which closes it; a forked child makes its own.
    """

    def __init__(self, session: Session, key: str) -> None:
        self._session, self._key = session, key
        self._connection: Connection | None = None
        self._pid = os.getpid()
        self._looking = False
        self._ended: int | None = None

    def fileno(self) -> int:
        """The descriptor, with a look under way."""
        if self._pid != os.getpid():
            self._connection, self._looking, self._pid, self._ended = None, False, os.getpid(), None
        if self._connection is None:
            try:
                self._connection = self._session.dial()
            except SessionLostError:
                return self._end()
            self._session.lend(self._connection)
        if not self._looking:
            with suppress(OSError):  # cut: its end makes it readable, and the next look is on another one
                self._connection.send("BLMOVE", self._key, self._key, "LEFT", "LEFT", 0)
            self._looking = True
        return self._connection.fileno()

    def _end(self) -> int:
        """A descriptor that is readable: who then reads from the object is told. A select, or the thread of the stdlib's
        executor, would pass the error on to nobody.
        """
        if self._ended is None:
            self._ended, writer = os.pipe()
            os.close(writer)
        return self._ended

    def rearm(self) -> None:
        """After the list may have changed: an answer that has come is old, so look again."""
        if self._connection is None or self._pid != os.getpid() or not self._looking:
            return
        if self._connection.readable():
            try:
                self._connection.receive()
                self._looking = False
            except OSError:  # cut: what made it readable is its end
                self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            self._session.unlend(self._connection)
            self._connection.close()
        self._connection, self._looking = None, False
        if self._ended is not None and self._pid == os.getpid():
            os.close(self._ended)
            self._ended = None
