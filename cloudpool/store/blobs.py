"""Large payloads between processes of one host: files in the session's folder, which is in memory where it can be.

A file, not a memfd that the agent hands out: it is made and opened without asking anyone, outlives its maker and a
restart of the agent, works where /dev/shm is small or missing, and goes with the folder.

    put --> blob.<process>.<n> --get--> its only reader, who copies what is in it
     ^                                        |
     +-- taken.<process>.<n> <-- spare.<m> <--+   written over: memory that is new to a file costs five times as much
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from cloudpool.errors import BlobStoreError

_numbers = itertools.count(1)
SPARES = 8  # files of a folder
MOST_SPARE = 4 * 1024 * 1028  # bytes of each: a chunk of a map's results, say four of a MiB in their pickle
FREED = 16 << 20
ROOMY = 256 << 20  # bytes that must be free beside them, for whoever else uses that file system
NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


def no_room(error: OSError, what: str, folder: str) -> OSError:
    """The error that says what to do."""
    room = os.statvfs(folder)
    return OSError(
        error.errno,
        f"No room for {what}: {room.f_bavail * room.f_frsize} are free in {folder}.\n"
        "Drop shared objects and read messages that wait there, or enlarge that file system (a container's: --shm-size)",
    )


def finds_no_place(error: BaseException) -> bool:
    """Whether it says that there is no room, or no storage, for an object: nothing is wrong with the object itself."""
    return isinstance(error, BlobStoreError) or (isinstance(error, OSError) and error.errno in NO_ROOM)


def named(message: object) -> str | None:
    """The blob that a message (sync/payload.py) names, if it does: a name without a slash, whoever wrote it."""
    if (
        not isinstance(message, bytes) or message[:1] != b"b"
    ):  # the first: a reply that the command cannot have had
        return None
    name = message[1 : message.find(b" ")]
    if name.startswith(b"blob.") and name.replace(b".", b"").isalnum():
        return name.decode()
    return None


def taken_by(owner: str) -> str:
    """What the names of the spares begin with that a process was writing over."""
    return f"taken.{owner}."


def drop_spares(folder: str) -> bool:
    """Make room. Whether there was any to be made."""
    found = False
    for number in range(SPARES):
        with suppress(FileNotFoundError):
            os.unlink(_spare(folder, number))
            found = True
    return found


def _spare(folder: str, number: int) -> str:
    return os.path.join(folder, f"spare.{number}")


@cache
def keep_freed_memory() -> None:
    """Have malloc keep twice FREED of what a process frees: else each large object's pages are made anew, which takes longer
    than to copy it. glibc does so for pieces up to the largest that it has mapped and freed (mallopt(3), M_MMAP_THRESHOLD);
    for others, and who has set that himself, this does nothing. These pages are never touched.
    """
    with suppress(MemoryError):
        bytes(FREED)


class Blobs:
    """The blobs of one folder. Whoever reads a blob for the last time drops it; the rest goes with the folder."""

    def __init__(self, folder: str, owner: str) -> None:
        self._folder = folder
        self._owner = owner  # a name that no other process has

    def put(self, pieces: Sequence[memoryview | bytes]) -> str:
        """A new blob with these bytes; its name. Raises OSError (ENOSPC: no room)."""
        keep_freed_memory()
        name = self.new_name()
        if not self._write_over_spare(name, pieces):
            self.write(name, pieces)
        return name

    def new_name(self) -> str:
        return f"blob.{self._owner}.{next(_numbers)}"

    def write(self, name: str, pieces: Sequence[memoryview | bytes]) -> None:
        """The file of that name. Raises OSError (ENOSPC: no room)."""
        try:
            self._write(os.path.join(self._folder, name), pieces)
        except BaseException as error:
            self.drop_file(name)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                if drop_spares(self._folder):
                    return self.write(name, pieces)
                raise no_room(error, f"an object of {_size(pieces)} bytes", self._folder) from None
            raise

    def _write_over_spare(self, name: str, pieces: Sequence[memoryview | bytes]) -> bool:
        """Whether there was one, and room."""
        if _size(pieces) > MOST_SPARE:
            return False
        taken = taken_by(self._owner) + name.rpartition(".")[2]
        try:
            if not self._take_spare(taken):
                return False
            self._write_over(taken, name, pieces)
        except BaseException as error:
            self.drop_file(taken)
            self.drop_file(name)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                return False
            raise
        return True

    def _take_spare(self, name: str) -> bool:
        """To have that name, under which the agent finds it should this process end."""
        for number in range(SPARES):
            spare = _spare(self._folder, number)
            if os.access(spare, os.F_OK):  # which costs a fifth of what an exception does
                with suppress(FileNotFoundError):
                    os.rename(spare, os.path.join(self._folder, name))
                    return True
        return False

    def _write_over(self, taken: str, name: str, pieces: Sequence[memoryview | bytes]) -> None:
        path = os.path.join(self._folder, taken)
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write_all(fd, pieces)
            os.ftruncate(fd, _size(pieces))
        finally:
            os.close(fd)
        os.rename(path, os.path.join(self._folder, name))

    def _write(self, path: str, pieces: Sequence[memoryview | bytes]) -> None:
        fd, has_name = self._open_new(path)
        try:
            _write_all(fd, pieces)
            if not has_name:
                with suppress(FileExistsError):  # another process has fetched it meanwhile
                    # With a src_dir_fd the link is followed.
                    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)
        finally:
            os.close(fd)

    def _open_new(self, path: str) -> tuple[int, bool]:
        """A new file, and whether it has its name: where it can be, one without, which goes should this process die."""
        with suppress(OSError):  # of what a file system does not support
            return os.open(self._folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600), False
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), True

    def get(self, name: str) -> mmap.mmap:
        """The blob's bytes, mapped privately: they may be written, no one else sees that, and a drop leaves them."""
        keep_freed_memory()
        fd = os.open(os.path.join(self._folder, name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(fd)

    def drop(self, name: str) -> None:
        """It has been read for the last time."""
        self.drop_file(name)

    def spare(self, name: str) -> None:
        """As `drop`, by its only reader, who has copied what is in it and has nothing of it mapped that counts."""
        path = os.path.join(self._folder, name)
        with suppress(FileNotFoundError):
            room = os.statvfs(self._folder)
            if os.stat(path).st_size > MOST_SPARE or room.f_bavail * room.f_frsize < ROOMY:
                os.unlink(path)
            else:
                os.rename(path, _spare(self._folder, next(_numbers) % SPARES))

    def drop_file(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, name))


def _size(pieces: Sequence[memoryview | bytes]) -> int:
    return sum(memoryview(piece).nbytes for piece in pieces)


def _write_all(fd: int, pieces: Sequence[memoryview | bytes]) -> None:
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while view:
            view = view[os.write(fd, view) :]
