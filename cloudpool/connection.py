"""`multiprocessing.connection`: Pipe and wait on the session's server; Listener and Client on the OS's sockets, as they are."""

from multiprocessing import connection as _stdlib
from multiprocessing.connection import Client, Listener
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # ours have the stdlib's signatures
    from multiprocessing.connection import *
    from multiprocessing.connection import (
        Connection as Connection,
        _Address as _Address,
        _ConnectionBase as _ConnectionBase,
        answer_challenge as answer_challenge,
        deliver_challenge as deliver_challenge,
    )
else:
    from cloudpool.sync.pipe import Pipe
    from cloudpool.sync.wait import wait

    def __getattr__(name: str) -> object:
        """What this interpreter's version has besides, unchanged."""
        return getattr(_stdlib, name)


__all__ = ["Client", "Listener", "Pipe", "wait"]
