"""`multiprocessing.pool`, by its own names."""

from collections.abc import Callable, Iterable
from multiprocessing import pool as _stdlib
from multiprocessing.pool import (
    CLOSE as CLOSE,
    INIT as INIT,
    RUN as RUN,
    TERMINATE as TERMINATE,
    ApplyResult as ApplyResult,
    AsyncResult as AsyncResult,
    ExceptionWithTraceback as ExceptionWithTraceback,
    IMapIterator as IMapIterator,
    IMapUnorderedIterator as IMapUnorderedIterator,
    MapResult as MapResult,
    MaybeEncodingError as MaybeEncodingError,
    RemoteTraceback as RemoteTraceback,
    TimeoutError as TimeoutError,
    job_counter as job_counter,
    mapstar as mapstar,
    rebuild_exc as rebuild_exc,
    starmapstar as starmapstar,
    worker as worker,
)
from typing import TYPE_CHECKING, Any

from cloudpool.context.pool import Pool

if TYPE_CHECKING:

    class ThreadPool(Pool, _stdlib.ThreadPool):
        """The stdlib's, which is registered as a Pool."""

        def __init__(
            self,
            processes: int | None = None,
            initializer: Callable[..., object] | None = None,
            initargs: Iterable[Any] = (),
        ) -> None: ...
else:
    from multiprocessing.pool import ThreadPool

__all__ = ["Pool", "ThreadPool"]
