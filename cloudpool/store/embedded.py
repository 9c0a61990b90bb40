"""A private Valkey or Redis server: on a unix socket in the session's 0700 folder, no TCP, no disk."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from contextlib import suppress

from cloudpool.errors import ServerError

READY = b"Ready to accept connections"
HERTZ = 50  # the server ends a blocked command's timeout at its next tick: 20 ms late at most, for 0.3 % of a core


def command_line(binary: str, folder: str, socket: str) -> list[str]:
    return [
        binary, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--save", "", "--appendonly", "no",
        "--dir", folder, "--daemonize", "no", "--databases", "1", "--hz", str(HERTZ), "--dynamic-hz", "no",
        "--maxclients", "10000", "--loglevel", "notice", "--timeout", "0", "--tcp-keepalive", "0",
    ]  # fmt: skip


class Server:
    """The server process, a child of the agent, which owns it: `stop` leaves nothing. `log` is what it prints.

    When the agent is killed, the kernel kills it: a pipe from the agent (its leash) is its stdin, and sends SIGKILL when
    it closes. So whoever is blocked in it comes back at once.
    """

    def __init__(self, pid: int, log: int, leash: int, binary: str) -> None:
        self.pid, self.log, self._leash, self._binary = pid, log, leash, binary

    @classmethod
    def start(cls, binary: str, folder: str, socket: str, *options: str) -> Server:
        """Start it and do not wait. Raises ServerError."""
        log, written = os.pipe()
        leashed, leash = os.pipe()
        standard = [
            (os.POSIX_SPAWN_DUP2, leashed, 0),
            (os.POSIX_SPAWN_DUP2, written, 1),
            (os.POSIX_SPAWN_DUP2, written, 2),
        ]
        try:
            pid = os.posix_spawn(
                binary,
                [*command_line(binary, folder, socket), *options],
                {"PATH": os.defpath},
                file_actions=standard,
                setpgroup=0,
            )
            bind(leashed, pid)
        except OSError as error:
            os.close(log)
            os.close(leash)
            raise ServerError(f"cannot start the server {binary}: {error.strerror}.") from None
        finally:
            os.close(written)
            os.close(leashed)
        return cls(pid, log, leash, binary)

    def await_ready(self) -> None:
        """Block until it takes connections; its log says when. Raises ServerError with its own last words."""
        said = b""
        while READY not in said:
            data = os.read(self.log, 65536)
            if not data:
                _, status = os.waitpid(self.pid, 0)
                last = said.decode(errors="replace").strip().rpartition("\n")[2]
                code = os.waitstatus_to_exitcode(status)
                raise ServerError(f"the server {self._binary} ended with status {code}: {last or 'no word'}")
            said += data

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGKILL)  # it keeps nothing on disk, so there is nothing to say goodbye to
        os.waitpid(self.pid, 0)
        os.close(self.log)
        os.close(self._leash)


def bind(leashed: int, pid: int) -> None:
    """Have the kernel kill `pid` when the other end of its pipe closes; PR_SET_PDEATHSIG would cost the import of ctypes."""
    with suppress(OSError):  # where there is no such thing, the next session's sweep ends it
        fcntl.fcntl(leashed, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(leashed, fcntl.F_SETOWN, pid)
        fcntl.fcntl(leashed, fcntl.F_SETFL, fcntl.fcntl(leashed, fcntl.F_GETFL) | os.O_ASYNC)


def die_with(leashed: int) -> None:
    """In a forked child: have the kernel kill this process when its parent, who has the other end of the pipe, ends."""
    own = os.open(
        f"/proc/self/fd/{leashed}", os.O_RDONLY | os.O_NONBLOCK
    )  # whose signals are this process's alone
    os.close(leashed)
    bind(own, os.getpid())
    poll = select.poll()
    poll.register(own, 0)
    if poll.poll(0):  # it has ended before
        os._exit(1)
