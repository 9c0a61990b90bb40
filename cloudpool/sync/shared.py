"""What every shared object has: an id, a place in the session's registry, a lifetime, and a pickle that is only its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen
from typing import Any, ClassVar

from cloudpool.host import session as sessions
from cloudpool.host.membership import Session
from cloudpool.host.session import SessionInfo
from cloudpool.store.refusals import as_ours
from cloudpool.store.wire import ReplyError


class Shared:
    """A handle to an object that lives in the server. The object lives while a process, or a payload, has a handle.

    A subclass sets `_kind` (of keys.PARTS), makes the object by `_create`, and gives in `_extra` what a copy of the
    handle must know besides the object's id; `_restore` takes it.
    """

    _kind: ClassVar[str]
    _id: str
    _session: Session

    def _create(self, *commands: tuple[Any, ...], about: str = "") -> None:
        """Register a new object and run what makes it, which must bear repetition, in one trip."""
        session = sessions.current()
        self._attach(session, session.new_id(self._kind))
        keys, base, ttl = session.keys, self._base, session.ttl_ms
        made = [("HSET", keys.objects, self._id, about), *((c[0], base + c[1], *c[2:]) for c in commands)]
        if ttl:
            made.append(("PEXPIRE", keys.objects, ttl))
            made += [("PEXPIRE", base + c[1], ttl) for c in commands]
        for reply in session.channel().call_many(made):
            if isinstance(reply, ReplyError):
                raise as_ours(reply)

    def _attach(self, session: Session, object_id: str) -> None:
        """Be a handle of that object, from here on counted."""
        self._session = session
        self._id = object_id
        self._base = session.keys.base(object_id)
        session.holdings.hold(object_id)
        self._owner = os.getpid()

    def _here(self) -> Session:
        """The session as this process has it: a forked child has its own."""
        if self._owner != os.getpid():
            self._session = sessions.current()
            self._owner = os.getpid()
        return self._session

    def _counted(self) -> bool:
        """Whether this handle's end must be told: not when it has been closed before."""
        return True

    def __del__(self, _dismantled: Callable[[], bool] = sys.is_finalizing) -> None:
        session = self.__dict__.get("_session")
        # At a process's end the kernel tells the agent.
        if session is None or _dismantled() or not self._counted():
            return
        if self._owner != os.getpid():  # copied by a fork and never used since
            session = sessions.existing()
        # A fork by another thread drops this one's locals in the child before its hooks run: the session is the parent's.
        if session is not None and session.pid == os.getpid() and session.holdings.drop(self._id):
            self._let_go(session)

    def _let_go(self, session: Session) -> None:
        """This process has no handle of the object any more."""

    # -- pickling ---------------------------------------------------------------------------------------------------

    def _extra(self) -> Any:
        return None

    def _restore(self, extra: Any) -> None:
        """Take over what `_extra` gave."""

    def __reduce__(self) -> tuple[Any, ...]:
        session = self._here()
        transit = session.holdings.depart(self._id)
        # The info has the server's password: it goes to a child by its private pipe, never into the server.
        popen = get_spawning_popen()
        info = session.info if popen is not None and not getattr(popen, "is_far", False) else None
        return _rebuild, (type(self), session.info.id, info, self._id, transit, self._extra())


def _rebuild(
    cls: type[Shared],
    session_id: str,
    info: SessionInfo | None,
    object_id: str,
    transit: str | None,
    extra: Any,
) -> Shared:
    session = sessions.entered(session_id, info)
    handle = cls.__new__(cls)
    handle._session = session
    handle._owner = os.getpid()
    handle._id = object_id
    handle._base = session.keys.base(object_id)
    session.holdings.arrive(object_id, transit)
    handle._restore(extra)
    return handle
