"""The contexts: one for each start method, and the default one whose methods are the module's functions."""

from __future__ import annotations

from multiprocessing import context as stdlib
from typing import Any

from cloudpool import methods, settings
from cloudpool.context import process as processes
from cloudpool.host import identity, session as sessions
from cloudpool.host.session import SessionInfo


class BaseContext(stdlib.BaseContext):
    """The stdlib's context, with every primitive in the session's server, which gets ready while a primitive is imported."""

    def cpu_count(self) -> int:
        """The `workers` setting; without one, the CPUs of this machine, or the room on far hosts. What `Pool()` starts."""
        chosen = settings.current()
        method = self.get_start_method(allow_none=True) or chosen.start_method
        if chosen.workers is None and method is not None and methods.is_far(method):
            return far_slots(method, chosen)
        return chosen.workers or super().cpu_count()

    def Manager(self) -> Any:
        """A started SyncManager; its objects live in the server, and no process is started for them."""
        sessions.prepare()
        from cloudpool.context.managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> Any:
        """Two Connections; (receiving, sending) when not duplex."""
        sessions.prepare()
        from cloudpool.sync.pipe import Pipe

        return Pipe(duplex)

    def Lock(self) -> Any:
        sessions.prepare()
        from cloudpool.sync.semaphore import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> Any:
        sessions.prepare()
        from cloudpool.sync.semaphore import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> Any:
        sessions.prepare()
        from cloudpool.sync.condition import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> Any:
        sessions.prepare()
        from cloudpool.sync.semaphore import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> Any:
        sessions.prepare()
        from cloudpool.sync.semaphore import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> Any:
        sessions.prepare()
        from cloudpool.sync.event import Event

        return Event(ctx=self.get_context())

    def Barrier(self, parties: int, action: Any = None, timeout: float | None = None) -> Any:
        sessions.prepare()
        from cloudpool.sync.barrier import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> Any:
        sessions.prepare()
        from cloudpool.sync.queue import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> Any:
        sessions.prepare()
        from cloudpool.sync.queue import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> Any:
        sessions.prepare()
        from cloudpool.sync.queue import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Any = None,
        initargs: Any = (),
        maxtasksperchild: int | None = None,
    ) -> Any:
        sessions.prepare()
        from cloudpool.context.pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        sessions.prepare()
        from cloudpool.sync.sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        sessions.prepare()
        from cloudpool.sync.sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        sessions.prepare()
        from cloudpool.sync.sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        sessions.prepare()
        from cloudpool.sync.sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def get_context(self, method: str | None = None) -> Any:
        if method is None:
            return self
        if method not in _contexts and methods.is_far(method):
            _contexts[method] = far_context(method)
        try:
            return _contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None


class ForkContext(BaseContext, stdlib.ForkContext):
    _name = "fork"
    Process = processes.ForkProcess


class SpawnContext(BaseContext, stdlib.SpawnContext):
    _name = "spawn"
    Process = processes.SpawnProcess


class HomeContext(SpawnContext):
    """For what cannot be elsewhere, whatever the program wishes: nobody is told of that."""

    Process = processes.HomeProcess


class ForkServerContext(BaseContext, stdlib.ForkServerContext):
    _name = "forkserver"
    Process = processes.ForkServerProcess


def far_context(method: str) -> BaseContext:
    """A context whose processes are on hosts that a runner brings."""

    class FarContext(BaseContext):
        # As the other contexts have them: programs derive from `type(get_context())`.
        _name = method
        Process = processes.far_process(method)

    return FarContext()


def far_slots(method: str, chosen: settings.Settings) -> int:
    """How many processes the hosts of a start method have room for."""
    hosts, slots = methods.runner(method).room(chosen)
    return int(hosts * slots)


class Process(processes.SessionProcess, stdlib.Process):
    """`Process` by the default start method."""

    _start_method = None  # type: ignore[assignment] # the stdlib's own: None means "whatever the default context says"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork() -> Any:
        return default_context.get_context().Process._after_fork()


class DefaultContext(BaseContext, stdlib.DefaultContext):
    """The context of the module's functions; its start method can be set once."""

    Process = Process

    def __init__(self) -> None:
        self._actual_context: BaseContext | None = None

    def get_context(self, method: str | None = None) -> Any:
        if method is not None:
            return BaseContext.get_context(self, method)
        if self._actual_context is None:
            self._actual_context = BaseContext.get_context(self, self._default_method())
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """As in the stdlib. Where whoever starts the program has named hosts elsewhere, that is what any of this machine's
        methods comes to: the program's choice is among what its author knew of.
        """
        outside = settings.start_method_from_outside()
        if method in methods.LOCAL and outside and methods.is_far(outside):
            method = outside
        super().set_start_method(method, force)
        sessions.start_method = method

    def get_start_method(self, allow_none: bool = False) -> Any:
        if self._actual_context is None and allow_none:
            return None
        return self.get_context()._name

    def _default_method(self) -> str:
        return settings.current().start_method or stdlib._default_context._default_context._name


_contexts: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
default_context = DefaultContext()


def force_start_method(method: str) -> None:
    default_context._actual_context = BaseContext.get_context(default_context, method)


# -- what a fresh interpreter does before it imports the main module ------------------------------------------------


def prologue() -> tuple[Any, tuple[Any, ...]]:
    """For runners.local: the call that makes a child's cloudpool what this process's is."""
    session = sessions.existing()
    info = session.info if session is not None else None
    return enter, (default_context.get_start_method(), info, identity.own())


def enter(method: str, info: SessionInfo | None, parent: tuple[int, int] | None = None) -> None:
    """In the child: join the session, and have the parent's start method as the default."""
    if parent is not None:
        identity.descend(parent)
    force_start_method(method)
    if info is not None:
        sessions.join(SessionInfo(*info))
