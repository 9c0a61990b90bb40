"""Listener and Client through the session's server: how proxies of any host reach a manager's process on any other.

    proxy --Client(address)--> Pipe; its other end --address's queue--> Listener.accept --> the process's stdlib Server

For the stdlib's managers it is one more `serializer`, a pair of classes beside those of sockets.
"""

from __future__ import annotations

import errno
import os
from multiprocessing import connection as stdlib, managers
from types import FunctionType, SimpleNamespace
from typing import Any

from cloudpool.host import session as sessions
from cloudpool.sync.pipe import Pipe
from cloudpool.sync.queue import SimpleQueue

SERIALIZER = "cloudpool"
LOOK_S = 1.0


class Address:
    """Where a Listener is: the queue that callers come to. Equal to its copies in other processes.

    `life` is an end of a Pipe whose other end only the Listener has: it has hung up once that one's process has died.
    """

    def __init__(self, queue: Any, life: Any = None) -> None:
        self.queue = queue
        self._life = life

    def check(self) -> None:
        """Raises ConnectionRefusedError when nobody listens there any more."""
        session = sessions.current()
        is_known = session.channel().call("HEXISTS", session.keys.objects, self.queue._items._id)
        if not is_known or (self._life is not None and self._life.poll()):  # a proxy may be the last to go
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.queue._items._id == other.queue._items._id

    def __hash__(self) -> int:
        return hash(self.queue._items._id)

    def __repr__(self) -> str:
        return f"<Address {self.queue._items._id}>"


class Listener:
    """`multiprocessing.connection.Listener`'s interface, as far as a manager's Server needs it."""

    def __init__(self, address: Address | None = None, backlog: int = 1) -> None:
        self._alive = None
        if address is None:
            self._alive, life = Pipe()
            address = Address(SimpleQueue(), life)
        self.address = address
        self.last_accepted = None

    def accept(self) -> Any:
        """The next caller's connection. Blocks."""
        return self.address.queue.get()

    def close(self) -> None:
        self.address.queue.close()
        if self._alive is not None:
            self._alive.close()


def Client(address: Address, authkey: bytes | None = None) -> Any:
    """A connection to whoever listens there. Raises ValueError, AuthenticationError, ConnectionRefusedError.

    With EOFError the listener's process ends in the midst of it.
    """
    if not isinstance(address, Address):  # in the words of the stdlib's
        raise ValueError(f"address type of {address!r} unrecognized")  # noqa: TRY004
    address.check()
    ours, theirs = Pipe()
    address.queue.put(theirs)
    theirs.close()
    if authkey is not None:
        while not ours.poll(
            LOOK_S
        ):  # it speaks first; what nobody has fetched from the queue hangs nobody up
            sessions.current().channel().settle()  # the put is confirmed while there is that queue
            address.check()
        stdlib.answer_challenge(ours, authkey)
        stdlib.deliver_challenge(ours, authkey)
    return ours


# The stdlib's BaseManager.start, which is told its address by a pipe: that must be one that goes to other hosts.
start_manager = FunctionType(
    managers.BaseManager.start.__code__,
    {**vars(managers), "connection": SimpleNamespace(Pipe=Pipe)},
    "start",
    managers.BaseManager.start.__defaults__,
)
managers.listener_client[SERIALIZER] = (Listener, Client)
