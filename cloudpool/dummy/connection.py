"""`multiprocessing.dummy.connection`, the stdlib's own."""

from multiprocessing.dummy import connection as _stdlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.dummy.connection import *
    from multiprocessing.dummy.connection import (
        Connection as Connection,
        families as families,
    )
else:
    __all__ = list(_stdlib.__all__)

    def __getattr__(name: str) -> object:
        return getattr(_stdlib, name)
