"""Managers: dict .. Barrier and Queue live in the session's server, with no process behind them.

    SyncManager --dict() .. Queue()------------------> the session's server
                --Pool(), register()ed types, address-> a process with the stdlib's Server, started when it is needed

A manager that has, or is connected to, an explicit address is the stdlib's throughout: whoever connects to the address
has nothing else to find the objects by.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from multiprocessing import ProcessError, util
from typing import Any, NoReturn

from cloudpool import methods
from cloudpool.context import doorway
from cloudpool.context.contexts import HomeContext, default_context
from cloudpool.errors import CloudpoolError, SessionLostError
from cloudpool.host import session as sessions
from cloudpool.store.keys import MESSAGES, PARTS, kind_of
from cloudpool.sync import payload, threadlike
from cloudpool.sync.containers.array import ArrayProxy
from cloudpool.sync.containers.dict import DictProxy
from cloudpool.sync.containers.list import ListProxy
from cloudpool.sync.containers.namespace import NamespaceProxy, ValueProxy
from cloudpool.sync.proxy import stdlib

CONTAINERS = ("dict", "list", "namespace", "array")


class BaseManager(stdlib.BaseManager):
    """`multiprocessing.managers.BaseManager`: its server is a process of the session, by cloudpool's contexts."""

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **kwargs: Any,
    ) -> None:
        ctx = ctx or default_context.get_context()
        if methods.is_far(ctx.get_start_method()):
            if address is None and serializer == "pickle":  # sockets of one host are of no use to another
                serializer = doorway.SERIALIZER
            else:  # an address is this machine's
                ctx = HomeContext()
        super().__init__(address, authkey, serializer, ctx, **kwargs)

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Start the server process."""
        if self._serializer == doorway.SERIALIZER:
            doorway.start_manager(self, initializer, initargs)
        else:
            super().start(initializer, initargs)


class SyncManager(BaseManager, stdlib.SyncManager):
    """`multiprocessing.managers.SyncManager`. Its objects are freed at `shutdown`, or with the manager."""

    _registry = stdlib.SyncManager._registry.copy()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._process: Any = None
        self._remote = self._address is not None  # everything is in a server process, as the stdlib has it
        self._name = ""

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Be ready to make objects. A process is started now only if it may matter to the program when that is."""
        state = self._state
        if state.value == stdlib.State.STARTED:
            raise ProcessError("Already started server")
        if state.value == stdlib.State.SHUTDOWN:
            raise ProcessError("Manager has shut down")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        session = sessions.current()  # before the process: it is one of the session
        self._name = session.new_id("manager")
        if initializer is not None or self._remote or self._registry.keys() != SyncManager._registry.keys():
            super().start(initializer, initargs)
        state.value = stdlib.State.STARTED
        self._finalize_by(getattr(self, "shutdown", None))

    def _finalize_by(self, end_process: Callable[[], object] | None) -> None:
        """`shutdown` ends the process, if there is one, and frees the objects."""
        if isinstance(end_process, util.Finalize):
            end_process.cancel()
            arguments = (
                self._process,
                self._address,
                self._authkey,
                self._state,
                self._Client,
                self._shutdown_timeout,
            )
        else:
            arguments = None
        self.shutdown = util.Finalize(
            self, _shut_down, args=(type(self), self._name, self._state, arguments), exitpriority=0
        )

    def connect(self) -> None:
        """Connect to the server process at the address; all objects are made there."""
        super().connect()
        self._remote = True

    def _serve(self) -> None:
        """Have a server process."""
        self._check_started()
        if self._process is None and not self._remote:
            del self.shutdown
            self._state.value = stdlib.State.INITIAL
            try:
                super().start()
            finally:
                self._state.value = stdlib.State.STARTED
                self._finalize_by(getattr(self, "shutdown", None))

    def _check_started(self) -> None:
        assert self._state.value == stdlib.State.STARTED, "server not yet started"

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> Any:
        self._serve()
        return super()._create(typeid, *args, **kwds)

    @property
    def address(self) -> Any:
        """Where the server process listens: it is started for whoever asks."""
        if self._state.value == stdlib.State.STARTED:
            self._serve()
        return self._address

    # -- objects ------------------------------------------------------------------------------------------------------

    def _make(self, typeid: str, args: tuple[Any, ...], kwds: Mapping[str, Any]) -> Any:
        """A new object of the session's server, or of the manager's process where that has them all."""
        if self._remote:
            return getattr(stdlib.SyncManager, typeid)(self, *args, **kwds)
        self._check_started()
        try:
            if typeid in _CONTAINERS:
                return _CONTAINERS[typeid](self, *args, **kwds)
            proxy = _MAKERS[typeid](self._ctx, self, *args, **kwds)
        except (CloudpoolError, OSError, stdlib.RemoteError):
            raise
        except Exception as error:  # noqa: BLE001 - in the stdlib it is raised in the manager's process
            _raise_remotely(error)
        session = sessions.current()
        session.channel().call("HSET", session.keys.objects, proxy._id, self._name)
        return proxy

    def dict(self, *args: Any, **kwds: Any) -> Any:
        return self._make("dict", args, kwds)

    def list(self, *args: Any, **kwds: Any) -> Any:
        return self._make("list", args, kwds)

    def Namespace(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Namespace", args, kwds)

    def Value(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Value", args, kwds)

    def Array(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Array", args, kwds)

    def Queue(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Queue", args, kwds)

    def JoinableQueue(self, *args: Any, **kwds: Any) -> Any:
        return self._make("JoinableQueue", args, kwds)

    def Event(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Event", args, kwds)

    def Lock(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Lock", args, kwds)

    def RLock(self, *args: Any, **kwds: Any) -> Any:
        return self._make("RLock", args, kwds)

    def Semaphore(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Semaphore", args, kwds)

    def BoundedSemaphore(self, *args: Any, **kwds: Any) -> Any:
        return self._make("BoundedSemaphore", args, kwds)

    def Condition(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Condition", args, kwds)

    def Barrier(self, *args: Any, **kwds: Any) -> Any:
        return self._make("Barrier", args, kwds)

    # -- for debugging ------------------------------------------------------------------------------------------------

    def _number_of_objects(self) -> int:
        """How many of its objects someone holds."""
        if self._remote:
            return int(super()._number_of_objects())
        there = 0 if self._process is None else super()._number_of_objects()
        return there + len(_objects_of(self._name))

    def _debug_info(self) -> str:
        there = "" if self._process is None and not self._remote else super()._debug_info()
        return "\n".join(
            [*filter(None, [there]), *(f"  {object_id}" for object_id in _objects_of(self._name))]
        )


def _pool(*args: Any, **kwds: Any) -> Any:
    return default_context.Pool(*args, **kwds)


SyncManager.register("Pool", _pool, stdlib.PoolProxy)  # in a process of its own: several may use it


def _dict(manager: SyncManager, *args: Any, **kwds: Any) -> Any:
    if args and isinstance(args[0], stdlib.DictProxy):
        args = (args[0].copy(), *args[1:])
    return DictProxy(dict(*args, **kwds), manager=manager, about=manager._name)


def _list(manager: SyncManager, *args: Any) -> Any:
    return ListProxy(list(*args), manager=manager, about=manager._name)


def _namespace(manager: SyncManager, /, **kwds: Any) -> Any:
    return NamespaceProxy(kwds, manager=manager, about=manager._name)


def _value(manager: SyncManager, typecode: Any, value: Any, lock: Any = True) -> Any:
    return ValueProxy(typecode, value, manager=manager, about=manager._name)


def _array(manager: SyncManager, typecode: Any, sequence: Any, lock: Any = True) -> Any:
    return ArrayProxy(array(typecode, sequence), manager=manager, about=manager._name)


_CONTAINERS: dict[str, Callable[..., Any]] = {
    "dict": _dict,
    "list": _list,
    "Namespace": _namespace,
    "Value": _value,
    "Array": _array,
}
_MAKERS: dict[str, Callable[..., Any]] = {
    "Queue": threadlike.make_queue,
    "JoinableQueue": threadlike.make_joinable_queue,
    "Event": threadlike.make_event,
    "Lock": threadlike.make_lock,
    "RLock": threadlike.make_rlock,
    "Semaphore": threadlike.make_semaphore,
    "BoundedSemaphore": threadlike.make_bounded_semaphore,
    "Condition": threadlike.make_condition,
    "Barrier": threadlike.make_barrier,
}


def _raise_remotely(error: BaseException) -> NoReturn:
    """As the stdlib's manager does with what a constructor raises."""
    from traceback import format_exception

    raise stdlib.RemoteError("".join(format_exception(error))) from None


# -- the end -----------------------------------------------------------------------------------------------------------


def _objects_of(name: str) -> list[str]:
    session = sessions.current()
    found = session.channel().call("HGETALL", session.keys.objects)
    return [
        object_id.decode()
        for object_id, about in zip(found[::2], found[1::2], strict=True)
        if about == name.encode()
    ]


def _shut_down(cls: type[SyncManager], name: str, state: Any, process: tuple[Any, ...] | None) -> None:
    if process is not None:
        cls._finalize_manager(*process)
    state.value = stdlib.State.SHUTDOWN
    with suppress(SessionLostError):  # nothing is left to be freed
        _free(name)


def _free(name: str) -> None:
    """Free the manager's containers, whoever still has a proxy: it finds them gone. A lock that someone waits for stays."""
    session = sessions.current()
    channel = session.channel()
    for object_id in _objects_of(name):
        kind = kind_of(object_id)
        if kind not in CONTAINERS:
            continue
        base, parts = session.keys.base(object_id), PARTS[kind]
        for message in channel.script("blobs", (base,), MESSAGES[kind]):
            payload.discard(message, session)
        channel.script("free", (base,), (len(parts.own), *parts.own, *parts.party))
        channel.call("HDEL", session.keys.objects, object_id)
