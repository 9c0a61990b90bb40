"""`multiprocessing.managers`.

The proxy types are the stdlib's, to be given to `register`; what `Manager()` makes are subclasses of them. All of the
stdlib's other names (AutoProxy, MakeProxyType, RemoteError, Server, dispatch, ...) are here as well.
"""

from multiprocessing import managers as _stdlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # ours have the stdlib's signatures
    from multiprocessing.managers import *
    from multiprocessing.managers import (
        BaseListProxy as BaseListProxy,
        DictProxy as DictProxy,
        ListProxy as ListProxy,
        Namespace as Namespace,
        RemoteError as RemoteError,
        Server as Server,
        SharedMemoryServer as SharedMemoryServer,
        ValueProxy as ValueProxy,
    )
else:
    from multiprocessing.managers import BaseProxy, Token

    from cloudpool.context.managers import BaseManager, SyncManager
    from cloudpool.context.shared_memory_manager import SharedMemoryManager, SharedMemoryServer  # noqa: F401 - as in the stdlib, not in __all__

    def __getattr__(name: str) -> object:
        """The stdlib's other names."""
        try:
            return getattr(_stdlib, name)
        except AttributeError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *dir(_stdlib)})
