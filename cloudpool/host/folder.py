"""A session's folder: 0700, in memory where the machine has enough in /dev/shm, with the sockets and shared segments of the session.

Whoever may enter it may do anything to the session: it is the wall of the embedded server.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from cloudpool.errors import ServerError

PREFIX = "cloudpool-"
LOCK = "agent.lock"  # flocked by the living agent; what a sweep may take is what it can lock
SERVER_PID = "server.pid"
SERVER_SOCKET = "server.sock"
SPREAD = "spread"  # one byte: whether shared memory of this host is known on others
OVER = "over"  # why the session is over, once it is
# What /dev/shm must have in all to be where large payloads are: a container's has 64 MiB by default, its disk more.
ROOMY = 256 << 20
MEMORY, TEMPORARY = "/dev/shm", "/tmp"  # noqa: S108 - a 0700 folder with a random name is made in them
_MOST_PATH = 108 - 16  # a unix socket's path has 108 bytes, and the longest name within is shorter than 16


def bases() -> list[str]:
    """Where folders are made, best first: memory, then the temporary directory, then /tmp for its short name; memory
    that is not roomy comes last.
    """
    places = [MEMORY, os.environ.get("TMPDIR", TEMPORARY), TEMPORARY]
    found = [p for p in dict.fromkeys(places) if os.path.isdir(p) and os.access(p, os.W_OK | os.X_OK)]
    return sorted(found, key=lambda place: place == MEMORY and not _is_roomy(place))


def _is_roomy(place: str) -> bool:
    room = os.statvfs(place)
    return room.f_blocks * room.f_frsize >= ROOMY


def make() -> tuple[str, int]:
    """A new folder, and a descriptor of it: while that is open, here or where it is inherited, sweeps leave alone what
    nobody has claimed yet. Raises ServerError when none can be made.
    """
    failure: OSError | None = None
    for base in bases():
        if len(os.fsencode(_new_name(base))) > _MOST_PATH:
            continue
        try:
            return _make_in(base)
        except OSError as error:
            failure = error
    why = failure.strerror if failure is not None else "none is writable and has a short name"
    raise ServerError(
        f"cannot make a folder for the session's sockets in {MEMORY}, TMPDIR or {TEMPORARY} ({why}).\n"
        "Set TMPDIR to a writable directory whose name has at most 60 characters."
    )


def _new_name(base: str) -> str:
    return os.path.join(base, PREFIX + os.urandom(6).hex())


def _make_in(base: str) -> tuple[str, int]:
    while True:
        folder = _new_name(base)
        os.mkdir(folder, 0o700)
        with suppress(FileNotFoundError):  # a sweep came before the lock
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if os.path.exists(folder):
                return folder, fd
            os.close(fd)


def find(session_id: str) -> str | None:
    """The folder of this user's session of that name on this machine, which may be over."""
    for base in bases():
        folder = os.path.join(base, PREFIX + session_id)
        with suppress(FileNotFoundError):
            if os.lstat(folder).st_uid == os.getuid():  # another user's could be anything
                return folder
    return None


def claim(folder: str) -> int:
    """Be the agent of a new folder: its lock's descriptor. The lock is there only once it is held, as sweeps look for it."""
    path = os.path.join(folder, LOCK)
    fd = os.open(path + ".new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(path + ".new", path)
    return fd


def lock(folder: str) -> int | None:
    """Take a dead agent's lock of a folder: its descriptor, or None when the agent lives. Raises FileNotFoundError."""
    fd = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def files(folder: str) -> str:
    """Where a far host has the program's files: on a disk, since they may be many, and executable."""
    return os.path.join(os.environ.get("TMPDIR", TEMPORARY), os.path.basename(folder) + ".files")


def remove(folder: str) -> None:
    """Remove a folder and the files in it; there are no folders in it. A far host's files as well."""
    if os.path.exists(place := files(folder)):
        import shutil  # slow, and seldom needed

        shutil.rmtree(place, ignore_errors=True)
    with suppress(FileNotFoundError):  # another sweeper is at it, too
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def make_spread(folder: str) -> None:
    """Its one byte: no."""
    fd = os.open(os.path.join(folder, SPREAD), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"\0")
    finally:
        os.close(fd)


def write_over(folder: str, why: str) -> None:
    """Say why the session is over; whoever sees the file sees all of it."""
    path = os.path.join(folder, OVER)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(why)
    os.rename(path + ".new", path)


def read_over(folder: str) -> str:
    """Why the session is over; "" when that has not been said."""
    try:
        with open(os.path.join(folder, OVER), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _is_sessions(name: str) -> bool:
    """Whether `_new_name` may have made it: beside it are others' that begin so, of a host's unpacked files for one."""
    digits = name.removeprefix(PREFIX)
    return len(digits) == 12 and not digits.strip("0123456789abcdef")


def sweep() -> None:
    """Remove the folders, and end the servers, of this user's sessions whose agent is dead, or was never there."""
    for base in bases():
        for name in os.listdir(base):
            folder = os.path.join(base, name)
            if name.startswith(PREFIX):
                try:
                    if not _sweep(folder) and _is_sessions(name):
                        _sweep_unclaimed(folder)
                except OSError:  # gone meanwhile, or another user's: not ours to sweep
                    continue


def sweep_one(folder: str, first: Callable[[], None]) -> bool:
    """If its agent is dead, do what is to be `first`, end a session's server and remove its folder: whether that is done.

    Whoever is killed in the middle leaves the folder, and all of it to the next.
    """
    with suppress(FileNotFoundError):
        return _sweep(folder, first)
    return False


def _sweep(folder: str, first: Callable[[], None] = lambda: None) -> bool:
    if os.stat(folder).st_uid != os.getuid() or not os.path.exists(os.path.join(folder, LOCK)):
        return False
    held = lock(folder)
    if held is None:
        return False
    try:
        first()
        _end_server(folder)
        remove(folder)
    finally:
        os.close(held)
    return True


def _sweep_unclaimed(folder: str) -> None:
    """Remove a folder that no agent has claimed, if nobody is left who would: they were killed as the session started."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid == os.getuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rmdir(
                folder
            )  # refused if there is anything in it: it has been claimed, or is not what it looks like
    finally:
        os.close(fd)


def _end_server(folder: str) -> None:
    """End an orphaned server, if the process of that number still is the one that was started for this folder."""
    try:
        with open(os.path.join(folder, SERVER_PID)) as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            ours = os.fsencode(folder) in file.read()
    except (OSError, ValueError):
        return
    if ours:
        os.kill(pid, signal.SIGKILL)
