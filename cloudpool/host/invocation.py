"""One invocation of a function: the environment is a host, for as long as that has something to do.

    runtime --handle--> fork --> the host's agent --> zygote --> processes
            <-- until no process is left, the session's files are gone, and nothing waits on a connection --

Between two invocations an environment is frozen in the middle of anything, for a second or for ever. So it leaves the
session before each answer, and comes back as another host.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import time
from contextlib import closing, suppress

from cloudpool.errors import CloudpoolError
from cloudpool.host import container
from cloudpool.host.card import Card
from cloudpool.host.term import Term
from cloudpool.host.zygote import Run
from cloudpool.settings import redacted
from cloudpool.store.keys import Keys
from cloudpool.store.wire import ReplyError, open_url

PR_SET_CHILD_SUBREAPER = 36
LAST_S = 0.3  # before the deadline: what is left then is killed, so that there is an answer
TEMPORARY = "/tmp"  # noqa: S108 - the one folder of an environment that can be written to
MOST_SAID = 2000
TRIAL_S = 5.0


def serve(card: bytes, number: int, term: Term, run: Run, preloaded: tuple[str, ...]) -> str:
    """Be that host. Why it could not be, or ""; nothing of it is left then, whatever became of it."""
    _adopt_orphans()
    before = set(os.listdir(TEMPORARY))
    said, says = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(said)
        os.close(says)
        raise
    if pid == 0:
        code = 1
        try:
            os.dup2(says, 3, inheritable=False)
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))  # the runtime's own connections
            _adopt_orphans()
            if not os.access(os.environ.get("HOME", ""), os.W_OK):
                os.environ["HOME"] = TEMPORARY
            container.serve(Card.decode(card), number, None, run, preloaded, term)
            code = 0
        except CloudpoolError as error:
            with suppress(OSError):
                os.write(3, str(error).encode()[:MOST_SAID])
        except BaseException:  # noqa: BLE001 - for the function's log
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(says)
    with open(said, "rb") as file:
        try:
            status = _await(pid, term)
        finally:
            _end_children()
            _clear(before)
        why = file.read().decode(errors="replace")
    if status is None:
        return "the host was ended at the deadline of its function."
    return why or (f"the host's agent ended with status {status}." if status else "")


def trial(card: bytes) -> str:
    """Why a host could not be here, or ""."""
    try:
        known = Card.decode(card)
    except CloudpoolError as error:
        return str(error)
    try:
        with closing(open_url(known.url, TRIAL_S)) as store:
            store.answers_within(TRIAL_S)
            if store.call("EXISTS", Keys(known.session).beat):
                return ""
            return f"it reaches a server at {redacted(known.url)}, which is not the program's."
    except (CloudpoolError, ReplyError, OSError) as error:
        return f"it cannot use the server: {error}"


def _adopt_orphans() -> None:
    """Who is left behind by a process that ends is this one's child then, so that it can be found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _await(pid: int, term: Term) -> int | None:
    """The agent's exit status; None when there is no more time for it."""
    pidfd = os.pidfd_open(pid)
    try:
        left_s = max(0.0, term.ends_at - LAST_S - time.monotonic())
        if not select.select([pidfd], [], [], left_s)[0]:
            return None
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _end_children() -> None:
    """Kill all that is left below this process: what a killed one leaves comes to this one, and is killed in turn."""
    while children := _children():
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children() -> list[int]:
    found = []
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == me:
                    found.append(int(name))
    return found


def _clear(before: set[str]) -> None:
    """What processes have left in the folder would be the next host's. Only where that folder is nobody else's."""
    if "AWS_LAMBDA_RUNTIME_API" not in os.environ:
        return
    for name in set(os.listdir(TEMPORARY)) - before:
        path = os.path.join(TEMPORARY, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(path)
