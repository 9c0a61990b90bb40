"""SharedMemoryManager: shared memory blocks that go when their manager's process is shut down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing import managers as stdlib
from typing import Any

from cloudpool.context.managers import BaseManager
from cloudpool.host import session as sessions
from cloudpool.sync import shared_memory


class _Names(stdlib._SharedMemoryTracker):
    def destroy_segment(self, segment_name: str) -> None:
        self.segment_names.remove(segment_name)
        block = shared_memory.SharedMemory(segment_name)
        block.close()
        block.unlink()


class SharedMemoryServer(stdlib.SharedMemoryServer):
    """The manager's process: it knows the names."""

    shared_memory_context: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shared_memory_context = _Names(self.shared_memory_context.shared_memory_context_name, [])


class SharedMemoryManager(BaseManager, stdlib.SharedMemoryManager):
    """`multiprocessing.managers.SharedMemoryManager`."""

    _Server = SharedMemoryServer
    _Client: Any
    _address: Any
    _authkey: bytes

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        # Past the stdlib's own, which starts its resource tracker: nothing here is tracked by it.
        BaseManager.__init__(self, address, authkey, serializer, ctx, shutdown_timeout=shutdown_timeout)

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Start the manager's process, in the session: it will unlink by name what others have made."""
        sessions.current()
        super().start(initializer, initargs)

    def SharedMemory(self, size: int) -> shared_memory.SharedMemory:
        """A new block of `size` bytes, which shutdown() unlinks."""
        with self._Client(self._address, authkey=self._authkey) as connection:
            made = shared_memory.SharedMemory(None, create=True, size=size)
            _track(connection, made)
            return made

    def ShareableList(self, sequence: Iterable[Any] | None) -> shared_memory.ShareableList:
        """A new list of these items, which shutdown() unlinks."""
        with self._Client(self._address, authkey=self._authkey) as connection:
            made = shared_memory.ShareableList(sequence)
            _track(connection, made.shm)
            return made


def _track(connection: Any, block: Any) -> None:
    try:
        stdlib.dispatch(connection, None, "track_segment", (block.name,))
    except BaseException:
        block.unlink()
        raise
