"""`multiprocessing.dummy`: the same interface on threads, the stdlib's own."""

from multiprocessing import dummy as _stdlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.dummy import *
    from multiprocessing.dummy import (
        Array as Array,
        DummyProcess as DummyProcess,
        Namespace as Namespace,
        Value as Value,
        shutdown as shutdown,
    )
else:
    __all__ = list(_stdlib.__all__)

    def __getattr__(name: str) -> object:
        return getattr(_stdlib, name)
