"""Which session this process is in: found or started at the first use of a primitive, left behind by a fork.

    root process --first primitive--> start(): folder, agent (exec), server
    its children --first primitive--> join(): by the info they inherited (fork) or were sent (spawn)
    any other    --an object came---> join(), as a guest: by the folder of the session's name (loky's workers)

Light, so that a program that starts processes and shares nothing pays for no more than this.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing import process, util
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpool.errors import SessionLostError

if TYPE_CHECKING:
    from cloudpool.host.launch import Launch
    from cloudpool.host.membership import Session
    from cloudpool.sealing import Sealer
    from cloudpool.settings import ServerUrl
    from cloudpool.store.bucket import Place

LAST = -1000  # the priority of a finalizer that runs after those which use the session


class Key(bytes):
    """The session's key, which no message, log or traceback shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Key(***)" if self else "Key()"

    __str__ = __repr__


def sealer_of(key: bytes) -> Sealer | None:
    """What seals by that key; None where nothing is sealed."""
    if not key:
        return None
    from cloudpool.sealing import Sealer

    return Sealer(key)


class SessionInfo(NamedTuple):
    """What another process needs to join. It holds secrets: it travels by pipe, never in an environment or the server."""

    id: str
    folder: str
    redis_url: ServerUrl | None
    lease_s: float
    durable: bool
    key: Key  # what payloads are sealed with; empty: they are not, as none but this user's processes see them
    is_guest: bool = False  # neither started by the session's processes nor ended with it
    is_far: bool = False  # on a host that a runner has brought
    patience_s: float = 0.0  # how long the server may be gone, if that is longer than a lease
    place: Place | None = None  # where large payloads are that go to other hosts, if not in the server
    until: float = (
        math.inf
    )  # by this host's monotonic clock: when its processes are ended, where that is known

    def __repr__(self) -> str:
        return f"SessionInfo(id={self.id!r}, server={'by URL' if self.redis_url else 'embedded'})"


# -- the process's one session --------------------------------------------------------------------------------------

_session: Session | None = None
_launch: Launch | None = None  # a session that gets ready
start_method: str | None = (
    None  # what set_start_method has said: hosts of that kind must reach the session's server
)
_starting = threading.RLock()
_hooks_registered = False
_is_cleaned_up = False


def current() -> Session:
    """This process's session, started or joined if need be. Raises ServerError, SettingsError, SessionLostError."""
    if _session is not None:
        return _session
    with _starting:
        return _session if _session is not None else start()


def existing() -> Session | None:
    """This process's session, if there is one yet."""
    return _session


def join(info: SessionInfo) -> None:
    """Be part of the session of `info`. Raises SessionLostError when this process is part of another."""
    with _starting:
        if _session is None:
            _give_up()
            _adopt(info, is_root=False)
        elif _session.info.id != info.id:
            raise SessionLostError(
                f"an object of session {info.id} came to a process of session {_session.info.id}.\n"
                "Objects are shared within one session: let the program that starts both make the first one."
            )


def visit(session_id: str) -> None:
    """Be a guest in the session of that name, where it is this user's and alive; a guest's former one must be over."""
    global _session
    from cloudpool.host.launch import find

    with _starting:
        if _session is not None:
            try:
                _session.check()
            except SessionLostError:
                _session.drop()
                _session = None
            else:
                return
        info = find(session_id)
        if info is not None:
            _give_up()
            _adopt(info, is_root=False)


def leave() -> None:
    """End this process's session, if it is its root's, and be in none: the next primitive starts a new one."""
    global _session
    with _starting:
        _give_up()
        if _session is not None:
            if _session.is_root:
                _session.settle()
                _session.close()
            _session = None


def entered(session_id: str, info: SessionInfo | None) -> Session:
    """The session that an object came from. Raises SessionLostError when this process is not, and cannot be, in it."""
    if info is not None:
        join(info)
    elif _session is None or (_session.info.is_guest and _session.info.id != session_id):
        visit(session_id)
    if _session is None or _session.info.id != session_id:
        raise SessionLostError(
            f"an object of session {session_id} came to a process outside of it, and that session is over or elsewhere.\n"
            "Shared objects go to processes of one user on one machine, while the program lives that made the first one."
        )
    return _session


def prepare() -> None:
    """Have a session get ready that is about to be asked for, while its caller does something else. Raises as `start`."""
    global _launch
    if _session is not None:
        return
    from cloudpool.host.launch import begin

    with _starting:
        if _launch is not None and _launch.root_pid != os.getpid():
            _launch.let_go()  # it is the parent's, as this process was forked
            _launch = None
        if _launch is not None and _launch.method != start_method:
            _give_up()
        if _session is None and _launch is None:
            _launch = begin(start_method)


def start() -> Session:
    """Become the root of a new session. Raises ServerError, SettingsError."""
    prepare()
    return _finish()


def _finish() -> Session:
    """Be in the session that has begun."""
    global _launch
    begun, _launch = _launch, None
    assert begun is not None
    session = _adopt(begun.finish(), is_root=True)
    for child in list(process._children):
        if child.pid is not None:
            session.born(child.pid, None, [])
    if process.parent_process() is not None:  # such a process may end without exit handlers
        util.Finalize(None, session.farewell, exitpriority=LAST)
    elif util._exiting:  # an exit handler has begun it
        _cleaned_up()
    else:
        util.Finalize(None, _cleaned_up, exitpriority=LAST)
    return session


def _cleaned_up() -> None:
    """The stdlib's own clean-up is through; a signal may keep it from waiting for children, which then are not left alone."""
    global _is_cleaned_up
    _is_cleaned_up = True


def end_with_program(is_before_util: bool) -> None:
    """The program's exit handlers have run: end its session after the stdlib's own clean-up, which joins children that
    still use it. `is_before_util`: that clean-up is an exit handler which is yet to come.
    """
    if is_before_util:
        util.Finalize(None, _end, exitpriority=LAST)
    else:
        util._exit_function()  # has run, unless `multiprocessing.util` was imported by an exit handler
        if _is_cleaned_up:
            _end()


def _end() -> None:
    if _session is not None and _session.is_root:
        try:
            _session.settle()  # what exit handlers have posted
        finally:
            _session.farewell()


def _give_up() -> None:
    """Nobody will ask for the session that has begun: it ends as every other."""
    global _session
    if _launch is not None and _launch.root_pid == os.getpid():
        session = _finish()
        session.name()  # the agent hears of this process, and so of the end
        session.close()
        _session = None


def _adopt(info: SessionInfo, *, is_root: bool, heir: Callable[[Session], object] | None = None) -> Session:
    """Be in that session from now on; `heir` is called with it before anyone else has it."""
    global _session, _hooks_registered
    from cloudpool.host.membership import Session

    session = Session(info, is_root)
    if heir is not None:
        heir(session)
    _session = session
    if not _hooks_registered:
        _hooks_registered = True
        os.register_at_fork(after_in_parent=_let_handlers_raise)
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )
        os.register_at_fork(before=_let_handlers_raise)  # of these the last one is called first
    return session


# -- fork: the parent says that the child will hold what it holds, the child lets go of the parent's descriptors --------


class _Forking(threading.local):
    """What a thread's fork is about."""

    expected = False  # it is a Process's
    ticket: str | None = None
    is_announced = True  # the agent knows of all that the parent holds
    releases: tuple[Iterable[None], Any] | None = (
        None  # who is iterated over releases its locks; and those of an outer fork
    )


_forking = _Forking()
_RLock = type(_starting)


def expect_child() -> None:
    """The next fork of this thread is a Process's, whose parent reports it by `born`: the child itself need not."""
    _forking.expected = True


def take_ticket() -> str | None:
    """The ticket of this thread's last fork."""
    ticket, _forking.ticket = _forking.ticket, None
    return ticket


# A signal's handler may fork or raise wherever these have called something; what it raises Python reports, and forks all the same.
# So the locks that are taken are noted, and released, without a call in between.


def _let_handlers_raise() -> None:
    """Instead of the next hook: of signals that have come meanwhile, as a fork takes its time, handlers are called first here."""


def _before_fork() -> None:
    taken: list[Any] = []
    _forking.releases = map(_RLock.release, taken), _forking.releases
    _forking.ticket, _forking.is_announced = None, False
    try:
        if _session is not None and _session.lookout is not None:
            _session.lookout.stop()  # before any lock: a finalizer in its thread may want one
    finally:
        taken.extend(filter(_RLock.acquire, (_starting,)))
        if _session is not None:
            taken.extend(filter(_RLock.acquire, (_session._lock,)))
    if _session is not None and (_session._process or _session.holdings) and _session._over is None:
        _forking.ticket = f"{_session.process}+{next(_session._numbers)}"
        _session.holdings.announce(_forking.ticket)
    _forking.is_announced = True


def _after_in_parent() -> None:
    if _forking.releases is not None:
        releases, _forking.releases = _forking.releases
        _ = [*releases]  # all in one instruction
    _forking.expected = False
    if _session is not None and _session.lookout is not None:
        _session.lookout.go_on()


def _after_in_child() -> None:
    global _session, _starting
    _starting = threading.RLock()
    _forking.releases = None
    old = _session
    if old is None:
        return
    ticket, expected = _forking.ticket, _forking.expected
    _forking.expected = False
    old._lock = threading.RLock()

    def descend(new: Session) -> None:
        # Where its parent ends before the agent hears of this child, that holds what it holds by its copy of the line.
        new.descend(old, keeps_line=ticket is not None)
        if _forking.is_announced:
            # Else the agent may know of this one alone: what it holds would go with it.
            new.holdings.inherit(old.holdings)

    _session = _adopt(old.info, is_root=False, heir=descend)
    old.drop()
    if ticket and not expected and _session.holdings:
        with suppress(SessionLostError):  # nothing left to tell
            _session._tell("void", ticket)  # hello has said what it holds
