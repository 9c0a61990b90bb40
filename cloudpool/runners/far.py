"""Processes on other hosts: a Popen whose child is started by the fleet, and watched by this host's agent.

Popen --payload--> server; --("far", ...) + exit pipe--> agent --launch--> fleet --> a host's agent
      <---------------------- exit code -----------------'
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing import connection, process, reduction, util
from multiprocessing.context import set_spawning_popen
from types import FrameType
from typing import Any, NoReturn

from cloudpool import serialize, settings
from cloudpool.host import identity, session as sessions
from cloudpool.host.dispatch import End
from cloudpool.runners import costs, manifest

Prologue = tuple[Callable[..., Any], tuple[Any, ...]]


class FarPopen:
    """The stdlib's Popen interface for a process on a far host. `method` is the start method, and the runner's name."""

    is_far = True  # for what is pickled meanwhile: neither descriptors nor secrets go there

    def __init__(
        self, process_obj: process.BaseProcess, method: str, prologue: Prologue, reducers: serialize.Reducers
    ) -> None:
        self.method = method
        self.returncode: int | None = None
        self.last_words = b""  # of a pool's worker, once it has ended
        self.why = ""  # it ended, where its host, or the fleet, could tell
        self.refusal = ""  # why no host could come for it
        self.host = ""  # where it was, once it has ended
        self.met_limit = False  # of its host's time or memory
        self.shared_ids: list[str] = []
        self.is_interrupted = False  # it would have had a SIGINT, were it on this machine, and has not
        _hear_interrupts()
        util._flush_std_streams()
        self._launch(process_obj, prologue, reducers)
        if method in costs.METERED and (chosen := settings.current()).stats:
            costs.say_at_end(chosen)

    def duplicate_for_child(self, fd: int) -> int:
        raise ValueError(
            f"a descriptor of this machine (number {fd}) cannot go to a process on another one.\n"
            "Give it a cloudpool Pipe or Queue instead of a socket, a file or a stdlib Connection."
        )

    DupFd = duplicate_for_child

    def _launch(
        self, process_obj: process.BaseProcess, prologue: Prologue, reducers: serialize.Reducers
    ) -> None:
        session = sessions.current()
        body = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(manifest.preparation(process_obj._name), body)
            reduction.dump(prologue, body)
            begin = self.shared_ids.clear
            body.writelines(serialize.dumps_apart(process_obj, None, begin=begin, reducers=reducers)[0])
        finally:
            set_spawning_popen(None)
        head = manifest.Manifest.of_this_process(session)
        self._id = session.new_id("launch")
        self.pid = manifest.new_pid(session)
        manifest.send_payload(session, self._id, head.encode() + body.getvalue())
        self.sentinel, exit_pipe = os.pipe()
        try:
            standard = _standard()
            try:
                session.start_far(
                    self.method, self.shared_ids, (exit_pipe, *standard),
                    self._id, self.pid, os.getpid(), head.modules,
                )  # fmt: skip
            finally:
                os.close(exit_pipe)
                for fd in standard:
                    os.close(fd)
        except BaseException:
            os.close(self.sentinel)
            raise
        self.finalizer = util.Finalize(self, util.close_fds, (self.sentinel,))
        identity.started(self.pid, weakref.WeakMethod(self._send_signal))

    # -- the end ----------------------------------------------------------------------------------------------------

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            if flag == os.WNOHANG and not connection.wait([self.sentinel], timeout=0):
                return None
            said = b""
            while data := os.read(self.sentinel, 65536):
                said += data
            end = End.decode(said)
            self.host, self.last_words, self.met_limit = end.host, end.last_words, end.met_limit
            self.refusal, self.why = (end.why, "") if end.was_refused else ("", end.why)
            self.returncode = end.code
            identity.ended(self.pid)
            session = sessions.existing()
            if session is not None and session.spread is not None and session.spread[0]:
                session.sync()  # it has written before it ended
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        _pass_on_interrupt(self)
        try:
            if timeout is not None and not connection.wait([self.sentinel], timeout):
                return None
            return self.poll(0 if timeout is None else os.WNOHANG)
        except KeyboardInterrupt:  # of a handler of the program's own
            _note_interrupt()
            raise

    def _send_signal(self, signalnum: int) -> None:
        if self.returncode is None:
            sessions.current().signal_far(self.method, self._id, signalnum)

    def terminate(self) -> None:
        self.is_interrupted = False
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(signal.SIGKILL)

    def interrupt(self) -> None:
        self._send_signal(signal.SIGINT)

    def close(self) -> None:
        self.finalizer()


# -- Ctrl-C: a terminal sends it to the processes of this machine only ------------------------------------------------

_default_handler = signal.default_int_handler
LAST_S = 1.0  # between SIGTERM and SIGKILL, once an interrupted program is at its end


def _hear_interrupts() -> None:
    """Have the interpreter's own answer to SIGINT noted. A program with another handler does as it wants."""
    if (
        signal.getsignal(signal.SIGINT) is _default_handler
        and threading.current_thread() is threading.main_thread()
    ):
        # In its place everywhere: asyncio, for one, asks whether the handler is the interpreter's own.
        signal.default_int_handler = _interrupted
        signal.signal(signal.SIGINT, _interrupted)


def _interrupted(signalnum: int, frame: FrameType | None) -> NoReturn:
    _note_interrupt()
    _default_handler(signalnum, frame)


def _far_children() -> list[FarPopen]:
    children: Any = process
    return [child._popen for child in list(children._children) if isinstance(child._popen, FarPopen)]


def _note_interrupt() -> None:
    for child in _far_children():
        child.is_interrupted = True


def _pass_on_interrupt(waited_for: FarPopen) -> None:
    """To the far children of a program that was interrupted, when it waits for one nevertheless.

    At its end they are ended without a word, so that there is one traceback and not one from each; before that, by a
    program that has caught it, they get the interrupt.
    """
    if util._exiting and getattr(sys, "last_type", None) is KeyboardInterrupt:
        waited_for.terminate()
        if not connection.wait([waited_for.sentinel], LAST_S):
            waited_for.kill()
        return
    for child in _far_children():
        if child.is_interrupted:
            child.is_interrupted = False
            child.interrupt()


def _standard() -> list[int]:
    """Where what it prints goes: this process's stdout and stderr, or nowhere when those are closed."""
    found = []
    for fd in (1, 2):
        try:
            found.append(os.dup(fd))
        except OSError:
            found.append(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
    return found
