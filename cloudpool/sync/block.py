"""A block: memory that every process of the host has mapped. What Value, Array and the like are made of.

    <session's folder>/<id of a large block>         one file, one block
    <session's folder>/<id of an arena>              one file: | block | block | ... | never used yet |

A block is registered in the server with its size and place, so that any process of the session can find it; its bytes are
in the file, reserved when it is made. Whoever has a handle maps the file by its name: no descriptor is inherited or
sent, and no one is asked.

An arena is itself a block, and each block in it has a handle on it: the file goes when nobody holds any of them. Its
pieces are not used again, since only the agent knows who else still has one: no free list, and memory is zero when new.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import threading
from typing import Any
from weakref import WeakValueDictionary

from cloudpool.host import session as sessions
from cloudpool.store.blobs import NO_ROOM, drop_spares, no_room
from cloudpool.sync.shared import Shared

SMALL = 4 * 1024  # bytes; what is larger has a file of its own
ARENA = 64 * 1024
LINE = 64  # bytes; on cache lines of their own, blocks that two processes write do not slow each other


class Block(Shared):
    """`size` bytes, zero at first. Raises ValueError, OverflowError; OSError when there is no room.

    Made by any process, at one trip to the server; it lives while a process or a message has a handle.
    The constructor and `create_memoryview` are those of `multiprocessing.heap.BufferWrapper`.
    """

    _kind = "block"
    size: int
    _arena: Block | None  # of a small one
    _offset: int
    _memory: mmap.mmap

    def __init__(self, size: int, what: str = "bytes") -> None:
        if size < 0:
            raise ValueError(f"Size {size:n} out of range")
        if sys.maxsize <= size:
            raise OverflowError(f"Size {size:n} too large")
        self.size = size
        if sessions.current().sealer is not None:
            what = "bytes"  # a type may have a name that the server's owner is not to know
        sessions.current().has_blocks()
        if size <= SMALL:
            arena, offset = _piece(size)
            self._arena, self._offset, self._memory = arena, offset, arena._memory
            self._create(about=f"{what} {size} {arena._id} {offset}")
        else:
            self._arena, self._offset = None, 0
            self._create(about=f"{what} {size}")
            self._memory = _new_segment(self._path, size)

    @property
    def _path(self) -> str:
        return os.path.join(self._session.info.folder, self._id)

    def create_memoryview(self) -> memoryview:
        """The block's bytes, writable. They stay mapped while the view is used, and seen by others while a handle is held."""
        return memoryview(self._memory)[self._offset : self._offset + self.size]

    def _extra(self) -> Any:
        return self.size, self._arena, self._offset

    def _restore(self, extra: Any) -> None:
        self.size, self._arena, self._offset = extra
        self._session.has_blocks()
        if self._arena is not None:
            self._memory = self._arena._memory
            return
        if self._path not in _mapped and not self._session.is_block_here(self._id):
            maker = int(self._id.split(".")[1])
            if not self._session.fetch_block(self._id, maker):
                raise OSError(
                    errno.ENOENT,
                    f"The shared memory {self._id} was on a host that is gone, and on no other.\n"
                    "Make what outlives its maker in the root program",
                )
        self._memory = _segment(self._path, self.size)


# -- arenas ---------------------------------------------------------------------------------------------------------


class _Filling(threading.local):
    """The arena that a thread's small blocks go to. A forked child begins its own: its parent goes on with this one."""

    arena: Block | None = None
    used = 0


_filling = _Filling()


def _piece(size: int) -> tuple[Block, int]:
    """Room for a small block: its arena and the offset in there."""
    length = max(LINE, -(-size // LINE) * LINE)
    arena, session = _filling.arena, sessions.current()
    if arena is None or arena._session is not session or _filling.used + length > ARENA:
        arena = Block(ARENA, "arena")
        _filling.arena, _filling.used = arena, 0
    # A finalizer that makes blocks, too, cannot run between these two lines: neither calls anything.
    into, offset = _filling.arena, _filling.used
    _filling.used = offset + length
    assert into is not None
    return into, offset


# -- segments: files that are mapped --------------------------------------------------------------------------------

_mapped: WeakValueDictionary[str, mmap.mmap] = WeakValueDictionary()  # this process's, by path


def _new_segment(path: str, size: int) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        reserve(fd, size, path)
        memory = _mapped[path] = map_shared(fd, size)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return memory


def _segment(path: str, size: int) -> mmap.mmap:
    memory = _mapped.get(path)
    if memory is None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            memory = _mapped[path] = map_shared(fd, size)
        finally:
            os.close(fd)
    return memory


def reserve(fd: int, size: int, path: str) -> None:
    """Give a new file its size, and its memory now: without, the first write to a page that finds no room is a SIGBUS."""
    folder = os.path.dirname(path)
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        if drop_spares(folder):
            return reserve(fd, size, path)
        raise no_room(error, f"{size} bytes of shared memory", folder) from None


if sys.version_info >= (3, 13):

    def map_shared(fd: int, size: int) -> mmap.mmap:
        """Map a file, writable. The descriptor may then be closed, and no other is kept."""
        return mmap.mmap(fd, size, trackfd=False)

else:
    _mmap = ctypes.CDLL(None, use_errno=True).mmap
    _mmap.restype = ctypes.c_void_p
    _mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    _MAP_FIXED = 0x10
    _MAP_FAILED = ctypes.c_void_p(-1).value

    def map_shared(fd: int, size: int) -> mmap.mmap:
        """Map a file, writable. The descriptor may then be closed, and no other is kept.

        mmap.mmap keeps a duplicate: a thousand arrays would be all the descriptors that a process has. So let it map
        no file, and lay the file over that; it unmaps what is there when its last view is gone.
        """
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        access = mmap.PROT_READ | mmap.PROT_WRITE
        if _mmap(address, size, access, mmap.MAP_SHARED | _MAP_FIXED, fd, 0) == _MAP_FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return memory
