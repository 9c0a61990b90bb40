"""The zygote of a far host: a process with what the root has imported, forked for each process of the user's.

    agent --("fork", ...) + pipes--> zygote --fork--> the user's process
          <--("forked", id, pid)------------
          <--("ended", id, status)----------

It imports installed packages only, once a host and not once a process. The program's own modules are imported afresh in
each process, as under spawn: what they do when imported (draw a seed, read the clock) must not be the same in all.
"""

from __future__ import annotations

import atexit
import importlib
import os
import random
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import util

from cloudpool.host import mail
from cloudpool.store.embedded import die_with

Run = Callable[..., int]  # what a forked process does with the request's arguments; its exit code


def serve(agent: socket.socket, modules: list[str], run: Run) -> None:
    """Import, then fork on request, until the agent hangs up. Single-threaded, so its forks are safe."""
    for name in modules:
        with suppress(
            Exception
        ):  # an import that only works with the program's settings is the process's own to do
            importlib.import_module(name)
    woken_r, woken_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken_w)
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, str] = {}
    leashed, leash = os.pipe()
    poll = select.poll()
    poll.register(agent, select.POLLIN)
    poll.register(woken_r, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if woken_r in ready:
            with suppress(BlockingIOError):
                os.read(woken_r, 4096)
            _report(agent, children)
        if agent.fileno() in ready:
            request, fds = mail.receive(agent)
            if request is None:
                return
            _, process_id, *arguments = request
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, before)
                os.close(woken_r)
                os.close(woken_w)
                agent.close()
                os.close(leash)
                die_with(leashed)  # with its agent or alone: to the session it is dead then
                _become(fds, run, (process_id, *arguments))
            for fd in fds:
                os.close(fd)
            children[pid] = process_id
            mail.send(agent, ("forked", process_id, pid))


def _report(agent: socket.socket, children: dict[int, str]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        if pid in children:
            mail.send(agent, ("ended", children.pop(pid), os.waitstatus_to_exitcode(status)))


def _become(fds: list[int], run: Run, arguments: tuple[object, ...]) -> None:
    """Be the new process, in what it is forked into; does not return."""
    code = 1
    try:
        os.setpgid(0, 0)
        *outputs, parent_sentinel = fds
        for fd, standard in zip(outputs, (1, 2), strict=True):
            os.dup2(fd, standard)
            os.close(fd)
        null = os.open(os.devnull, os.O_RDONLY)  # input() is at its end, as in the stdlib's children
        os.dup2(null, 0)
        os.close(null)
        _reseed()
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # to be watched: its reader is far
        atexit._clear()  # the zygote's; from here on as in a fresh interpreter
        atexit.register(util._exit_function)
        process_id, pid, ppid, *rest = arguments
        code = run(process_id, pid, ppid, parent_sentinel, *rest)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def _reseed() -> None:
    """A fresh interpreter's random states are its own; those of a fork would be the zygote's."""
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
