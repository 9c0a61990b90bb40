"""Value, Array, RawValue, RawArray: ctypes objects in blocks, and their wrappers with a lock.

The objects are plain ctypes, at memory's speed. As `multiprocessing.sharedctypes`, but for pickling: a block's handle may go
anywhere (a queue's item, a Pool's argument), not to a new process alone.
"""

from __future__ import annotations

import ctypes
from multiprocessing import sharedctypes as stdlib
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import make_property, typecode_to_type
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from cloudpool.sync.block import Block
from cloudpool.sync.semaphore import RLock

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


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory, initialized with `args`, without a lock."""
    obj = _new_value(typecode_to_type.get(typecode_or_type, typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """A ctypes array in shared memory, of that size and zero, or with the initializer's items; without a lock."""
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(type_ * size_or_initializer)
    obj = _new_value(type_ * len(size_or_initializer))
    obj.__init__(*size_or_initializer)
    return obj


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """RawValue with a lock, a new RLock unless one is given; `lock=False` gives the RawValue."""
    return _locked(RawValue(typecode_or_type, *args), lock, ctx)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None) -> Any:
    """RawArray with a lock, a new RLock unless one is given; `lock=False` gives the RawArray."""
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def copy(obj: Any) -> Any:
    """A ctypes object in shared memory with the value of `obj`."""
    new = _new_value(type(obj))
    ctypes.pointer(new)[0] = obj
    return new


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """A wrapper for a ctypes object that takes a lock, a new RLock unless one is given, at each access."""
    assert not isinstance(obj, stdlib.SynchronizedBase), "object already synchronized"
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        if obj._type_ is ctypes.c_char:
            return SynchronizedString(obj, lock, ctx)
        return SynchronizedArray(obj, lock, ctx)
    return _wrapper_class(type(obj))(obj, lock, ctx)


def _locked(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = None
    elif not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx)


# -- wrappers -------------------------------------------------------------------------------------------------------


# The stubs' classes are generic, the stdlib's are not.


class SynchronizedBase(stdlib.SynchronizedBase):
    """A ctypes object and its lock: `get_obj()`, `get_lock()`, `with`."""

    _obj: Any
    _lock: Any

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        if lock is None:
            lock = RLock() if ctx is None else ctx.RLock()
        super().__init__(obj, lock, ctx)

    def __reduce__(self) -> Any:
        if isinstance(getattr(self._obj, "_wrapper", None), _Held):
            return _rebuild_synchronized, (*_parts(self._obj), self._lock)
        return synchronized, (self._obj, self._lock)


class Synchronized(SynchronizedBase, stdlib.Synchronized):
    """Of a simple type: `value`."""


class SynchronizedArray(SynchronizedBase, stdlib.SynchronizedArray):
    """Of an array: items and slices, each access a lock pair. Loops are faster over `get_obj()` under `get_lock()`."""


class SynchronizedString(SynchronizedArray, stdlib.SynchronizedString):
    """Of an array of c_char: also `value` and `raw`."""


_wrapper_classes: WeakKeyDictionary[type, type] = WeakKeyDictionary()


def _wrapper_class(cls: Any) -> type:
    """Of a structure or union: its fields as properties."""
    wrapper = _wrapper_classes.get(cls)
    if wrapper is None:
        fields = {field[0]: make_property(field[0]) for field in cls._fields_}
        wrapper = _wrapper_classes[cls] = type(f"Synchronized{cls.__name__}", (SynchronizedBase,), fields)
    return wrapper


# -- the ctypes objects: making and pickling ------------------------------------------------------------------------


class _Held:
    """What ties a ctypes object to its block, so that the block lives as long as the object, or a view of it, does.

    ctypes pickles its objects by value, with their attributes. What comes of that would look shared and not be: this
    attribute refuses. Our reductions go around it.
    """

    __slots__ = ("block",)

    def __init__(self, block: Block) -> None:
        self.block = block

    def __reduce__(self) -> NoReturn:
        raise RuntimeError(
            "a shared ctypes object cannot be pickled by plain pickle: it would become a private copy.\n"
            "Send it by cloudpool's Process, Pool, queues and pipes, or copy it first: type(obj).from_buffer_copy(obj)"
        )


def _new_value(type_: Any) -> Any:
    return rebuild_ctype(type_, Block(ctypes.sizeof(type_), type_.__name__), None)


def rebuild_ctype(type_: Any, wrapper: Block, length: int | None) -> Any:
    """The ctypes object in a block: of `type_`, or an array of `length` of them."""
    if length is not None:
        type_ = type_ * length
    ForkingPickler.register(type_, reduce_ctype)
    obj = type_.from_buffer(wrapper.create_memoryview())
    obj._wrapper = _Held(wrapper)
    return obj


def reduce_ctype(obj: Any) -> Any:
    """How ForkingPickler reduces an object of a type that has been shared: another's, or a private one, as it would be."""
    wrapper = getattr(obj, "_wrapper", None)
    if isinstance(wrapper, _Held):
        return rebuild_ctype, _parts(obj)
    return obj.__reduce_ex__(4) if wrapper is None else stdlib.reduce_ctype(obj)


def _parts(obj: Any) -> tuple[Any, Block, int | None]:
    block = obj._wrapper.block
    if isinstance(obj, ctypes.Array):
        return obj._type_, block, obj._length_
    return type(obj), block, None


def _rebuild_synchronized(type_: Any, block: Block, length: int | None, lock: Any) -> Any:
    return synchronized(rebuild_ctype(type_, block, length), lock)
