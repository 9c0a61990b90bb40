"""`multiprocessing.sharedctypes`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # ours have the stdlib's signatures
    from multiprocessing.sharedctypes import *
    from multiprocessing.sharedctypes import (
        Synchronized as Synchronized,
        SynchronizedArray as SynchronizedArray,
        SynchronizedBase as SynchronizedBase,
        SynchronizedString as SynchronizedString,
    )
else:
    from cloudpool.sync.sharedctypes import (
        Array,
        RawArray,
        RawValue,
        Synchronized,
        SynchronizedArray,
        SynchronizedBase,
        SynchronizedString,
        Value,
        copy,
        make_property,
        rebuild_ctype,
        reduce_ctype,
        synchronized,
        typecode_to_type,
    )

__all__ = [
    "Array",
    "RawArray",
    "RawValue",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "Value",
    "copy",
    "make_property",
    "rebuild_ctype",
    "reduce_ctype",
    "synchronized",
    "typecode_to_type",
]
