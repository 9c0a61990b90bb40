# What type checkers see: typeshed's contexts, whose pools are cloudpool's.

from collections.abc import Callable, Iterable
from multiprocessing import context as stdlib
from multiprocessing.context import (
    AuthenticationError as AuthenticationError,
    BufferTooShort as BufferTooShort,
    ForkProcess as ForkProcess,
    ForkServerProcess as ForkServerProcess,
    Process as Process,
    ProcessError as ProcessError,
    SpawnProcess as SpawnProcess,
    TimeoutError as TimeoutError,
    _force_start_method as _force_start_method,
    _LockLike as _LockLike,
    assert_spawning as assert_spawning,
    get_spawning_popen as get_spawning_popen,
    set_spawning_popen as set_spawning_popen,
)
from typing import Any, Literal, overload

from cloudpool.context.pool import Pool as _Pool

class BaseContext(stdlib.BaseContext):
    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> _Pool: ...
    @overload
    def get_context(self, method: None = None) -> DefaultContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str) -> BaseContext: ...

class DefaultContext(BaseContext, stdlib.DefaultContext): ...
class SpawnContext(BaseContext, stdlib.SpawnContext): ...
class ForkContext(BaseContext, stdlib.ForkContext): ...
class ForkServerContext(BaseContext, stdlib.ForkServerContext): ...

default_context: DefaultContext
_default_context = default_context
