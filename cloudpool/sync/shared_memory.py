"""SharedMemory and ShareableList: blocks with a name, for any process of the session to attach.

A name is not a handle: the block stays, as in `multiprocessing.shared_memory`, until someone unlinks it, or the session
ends. Its file is `<session's folder>/block.shm.<name>`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing import shared_memory as stdlib
from multiprocessing.shared_memory import (  # noqa: F401 - software finds and patches them here
    _SHM_NAME_PREFIX,
    _USE_POSIX,
    _make_filename,
)
from types import FunctionType
from typing import Any

from cloudpool.host import folder as folders, session as sessions
from cloudpool.host.membership import Session
from cloudpool.sync.block import map_shared, reserve

__all__ = ["ShareableList", "SharedMemory"]


class SharedMemory(stdlib.SharedMemory):
    """`multiprocessing.shared_memory.SharedMemory`: make (`create`, `size` bytes) or attach to a block by its name.

    Raises ValueError, FileExistsError, FileNotFoundError; OSError when there is no room. `track` changes nothing: the
    session's end takes away what nobody has unlinked.
    """

    _mode: int

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        self._track = track
        fd = self._open_new() if name is None else self._open("/" + name)
        try:
            if create:
                self._make(fd, size)
            self._size = os.fstat(fd).st_size
            if (session := sessions.existing()) is not None:
                session.has_blocks()
            self._mmap = map_shared(fd, self._size)
        finally:
            os.close(fd)
        self._buf = memoryview(self._mmap)

    def unlink(self) -> None:
        """Take the name and, when all have closed it, the memory away. Raises FileNotFoundError the second time."""
        if not self._name:
            return
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            if os.path.isdir(self._folder):
                raise
            return  # the session has ended, and taken it away
        session = sessions.existing()
        if session is not None and session.info.folder == self._folder:
            session.channel().call("HDEL", session.keys.objects, _registered(session, self._name))

    # -- its file ---------------------------------------------------------------------------------------------------

    @property
    def _path(self) -> str:
        return os.path.join(self._folder, _id(self._name))

    def _open(self, name: str) -> int:
        self._name = name
        for folder in self._folders():
            self._folder = folder
            if self._is_unlinked():
                continue
            try:
                return os.open(self._path, self._flags | os.O_CLOEXEC, self._mode)
            except (FileNotFoundError, NotADirectoryError):  # not there, or something else of such a name
                continue
            except OSError as error:  # as the stdlib's: of a block of that name, not of our file
                raise OSError(error.errno, os.strerror(error.errno or 0), name) from None
        if self._is_fetched():
            return os.open(self._path, self._flags | os.O_CLOEXEC, self._mode)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def _is_unlinked(self) -> bool:
        """Whether another host has taken the name away of what is still a file here."""
        session = sessions.existing()
        if session is None or not session.is_spread or self._folder != session.info.folder:
            return False
        if self._flags & os.O_CREAT or not os.path.exists(self._path):
            return False
        if session.channel().call("HEXISTS", session.keys.objects, _registered(session, self._name)):
            return False
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        return True

    def _is_fetched(self) -> bool:
        """Whether it is known on another host of the session, and so now on this one."""
        session = sessions.existing()
        if session is None or not session.is_spread:
            return False
        about = session.channel().call("HGET", session.keys.objects, _registered(session, self._name))
        if about is None:
            return False
        self._folder = session.info.folder
        return session.fetch_block(_id(self._name), int(about.split()[2]))

    def _folders(self) -> Iterator[str]:
        """Where it is made; or where it may be, which can be another program's session: a name is known on the host."""
        if self._flags & os.O_CREAT:
            session = sessions.current()
            session.check()
            yield session.info.folder
            return
        if (joined := sessions.existing()) is not None:
            yield joined.info.folder
        yield from _own_folders()

    def _open_new(self) -> int:
        while True:
            try:
                return self._open(_make_filename())
            except FileExistsError:
                continue

    def _make(self, fd: int, size: int) -> None:
        session = sessions.current()
        try:
            reserve(fd, size, self._path)
            about = f"shared_memory {size} {session.process.split('.')[0]}"
            session.channel().call("HSET", session.keys.objects, _registered(session, self._name), about)
            session.channel().expire(session.keys.objects)
        except BaseException:
            os.unlink(self._path)
            raise


def _id(name: str) -> str:
    name = name.lstrip("/")  # as shm_open has it: "/name" is "name"
    if "/" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    return "block.shm." + name


def _registered(session: Session, name: str) -> str:
    """The block's id in the registry, which does not tell a name that the server's owner is not to know."""
    own = _id(name)
    return own if session.sealer is None else "block.shm." + session.sealer.digest(own.encode(), 16).hex()


def _own_folders() -> Iterator[str]:
    """The folders of this user's sessions on this host. Anyone may make one of such a name: look whose it is."""
    for base in folders.bases():
        for name in os.listdir(base):
            folder = os.path.join(base, name)
            with suppress(FileNotFoundError):
                if name.startswith(folders.PREFIX) and os.stat(folder).st_uid == os.getuid():
                    yield folder


class ShareableList(stdlib.ShareableList):
    """`multiprocessing.shared_memory.ShareableList`: a list of fixed length in a SharedMemory, whose items may change."""

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        _stdlib_init(self, sequence, name=name)


# The stdlib's function with one global changed: it makes, or attaches to, the SharedMemory above.
_stdlib_init = FunctionType(
    stdlib.ShareableList.__init__.__code__, {**vars(stdlib), "SharedMemory": SharedMemory}, "__init__"
)
