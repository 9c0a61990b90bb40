"""Who a process on a far host is: a pid that is its own in the whole session, and that no kernel gives.

Programs seed random numbers by os.getpid(), count workers by it and key dicts by it: two pods' kernels give the same.
"""

from __future__ import annotations

import errno
import os
import posix
import signal
import sys
from collections.abc import Callable
from weakref import WeakMethod

FIRST = 2**22  # Linux gives no pid from here on (PID_MAX_LIMIT)

_kernels_getpid, _kernels_getppid, _kernels_kill = os.getpid, os.getppid, os.kill
_real = 0
_pid = 0
_ppid = 0
_parent = (0, 0)  # of a fresh interpreter on a far host: its parent's number for the kernel, and its pid


def install() -> None:
    """Before anything that user code uses is imported on a far host: who binds os.getpid early binds the right one."""
    from multiprocessing import util

    for module in (os, posix):  # by the second's name pickle knows them
        module.getpid, module.getppid, module.kill = getpid, getppid, kill  # type: ignore[attr-defined]
    finalizes = util.Finalize.__call__  # imported already, with a default argument
    finalizes.__defaults__ = tuple(getpid if d is _kernels_getpid else d for d in finalizes.__defaults__)
    if (managers := sys.modules.get("multiprocessing.managers")) is not None:
        managers.getpid = getpid  # type: ignore[attr-defined]
    from cloudpool.host import psutil_pids

    psutil_pids.install()


def assume(pid: int, ppid: int) -> None:
    """From here on os.getpid() and os.getppid() of this process are these, and os.kill knows them."""
    global _real, _pid, _ppid
    _real, _pid, _ppid = _kernels_getpid(), pid, ppid


def own() -> tuple[int, int] | None:
    """On a far host, this process's number for the kernel and its pid: for a fresh interpreter that it starts there."""
    return (_real, _pid) if _pid and _kernels_getpid() == _real else None


def descend(parent: tuple[int, int]) -> None:
    """This is a fresh interpreter, and that its parent: os.getppid() and os.kill know it by its pid."""
    global _parent
    _parent = parent
    install()


def kernels_pid() -> int:
    """This process's number for the kernel."""
    return _kernels_getpid()


def getpid() -> int:
    """Of a process that this one has forked without cloudpool, the kernel's: it is another."""
    real = _kernels_getpid()
    return _pid if real == _real else real


def getppid() -> int:
    if _kernels_getpid() == _real:
        return _ppid
    real = _kernels_getppid()
    return {_real: _pid, _parent[0]: _parent[1]}.get(real, real)


_elsewhere: dict[
    int, WeakMethod[Callable[[int], None]]
] = {}  # processes that this one has started on far hosts, by pid


def started(pid: int, send_signal: WeakMethod[Callable[[int], None]]) -> None:
    """os.kill of this process, which has started that one, reaches it from now on."""
    _elsewhere[pid] = send_signal
    os.kill = kill


def ended(pid: int) -> None:
    _elsewhere.pop(pid, None)


def kill(pid: int, signalnum: int | signal.Signals, /) -> None:
    """os.kill, which knows this process, and those that it has started elsewhere, by their pids in the session.

    Signal 0 asks, and is sent to nobody. Raises ProcessLookupError for others of such pids, its parent's among them.
    """
    reference = _elsewhere.get(pid)
    if reference is not None and (send_signal := reference()) is not None:
        if signalnum:
            send_signal(signalnum)
    elif pid == _ppid != 0:  # on the root's host: here that number is another's, or nobody's
        if signalnum:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    elif pid:  # 0 is the process group
        _kernels_kill({_pid: _real, _parent[1]: _parent[0]}.get(pid, pid), signalnum)
    else:
        _kernels_kill(pid, signalnum)
