"""Objects to bytes and back: the C pickler with multiprocessing's reductions first, cloudpickle for what it refuses.

What the other side can import goes by reference, at the C pickler's speed; lambdas, closures and classes made in
functions go by value. Data that the C pickler refuses stays refused: a file's copy would lose what is written to it. Large
buffers (numpy arrays, bytes in PickleBuffers) can stay outside of the pickle.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from types import FunctionType
from typing import Any

from cloudpool import settings
from cloudpool.errors import MissingExtraError

__all__ = ["dumps", "dumps_apart", "dumps_plain", "goes_by_name", "loads"]

PROTOCOL = 5
Reducers = dict[type, Callable[[Any], Any]]

_STDLIBS_PROTOCOL = 4
_OWN_BYTES = 1000  # up to that many numpy copies what it unpickles in that protocol

_ATOMS = frozenset({int, float, bool, type(None)})
# Looking through more costs what it saves.
_MOST_PLAIN_BYTES, _MOST_PLAIN_ITEMS, _MOST_PLAIN_DEPTH = 1024, 8, 3

# What cloudpickle copies though it is no code: what is written to the copy would be lost.
_DATA = {io.TextIOWrapper, memoryview}


_main_stays = (
    False  # what is in __main__ cannot be imported where payloads go: it goes by value, whatever is said
)


def send_main_by_value() -> None:
    """From now on: some process that payloads go to has not, and cannot have, this program's __main__."""
    global _main_stays
    _main_stays = True


def dumps(obj: Any, *, by_value: bool = True) -> bytes:
    """Pickle `obj`. With `by_value`, code that the C pickler refuses is tried by cloudpickle (or dill, by setting).

    Raises what the C pickler raised (PicklingError, TypeError, AttributeError, or the object's own error).
    """
    return b"".join(dumps_apart(obj, None, by_value=by_value)[0])


def dumps_plain(obj: Any) -> bytes | None:
    """As `dumps`, in an eighth of the time: for numbers, short strings and bytes, and a few of these in a tuple, in whose
    pickles no reduction has a say. None for anything else.
    """
    return pickle.dumps(obj, PROTOCOL) if _is_plain(obj) else None


def _is_plain(obj: Any, depth: int = _MOST_PLAIN_DEPTH) -> bool:
    kind = type(obj)
    if kind is tuple:
        if len(obj) > _MOST_PLAIN_ITEMS or not depth:
            return False
        for item in obj:  # noqa: SIM110 - all() of a generator takes twice as long
            if not _is_plain(item, depth - 1):
                return False
        return True
    if kind is str or kind is bytes:
        return len(obj) <= _MOST_PLAIN_BYTES
    return kind in _ATOMS or (kind is dict and not obj)  # of calls without keywords


def dumps_apart(
    obj: Any,
    most: int | None,
    *,
    by_value: bool = True,
    begin: Callable[[], object] | None = None,
    reducers: Reducers | None = None,
) -> tuple[list[bytes], list[pickle.PickleBuffer]]:
    """Pickle `obj`, with buffers of more than `most` bytes apart (None: all within).

    The pickle is in pieces: a large bytes object in it is one, itself and not a copy.

    `begin` is called before each attempt: what reductions noted in one that was given up does not count. `reducers` are
    reductions by type besides multiprocessing's.
    """
    try:
        pickled = _attempt(ForkingPickler, obj, most, begin, reducers)
    except (pickle.PicklingError, AttributeError, TypeError) as refused:
        if not (by_value or _main_stays):
            raise
        try:
            return _attempt(_pickler_by_value(), obj, most, begin, reducers)
        except (pickle.PicklingError, AttributeError, TypeError):
            raise refused from None
    if _main_stays and any(b"__main__" in piece for piece in pickled[0]):  # most likely a name in there
        try:
            return _attempt(_pickler_by_value(), obj, most, begin, reducers)
        except (pickle.PicklingError, AttributeError, TypeError):
            return _attempt(ForkingPickler, obj, most, begin, reducers)
    return pickled


def _attempt(
    make_pickler: Callable[..., Any],
    obj: Any,
    most: int | None,
    begin: Callable[[], object] | None,
    reducers: Reducers | None,
) -> tuple[list[bytes], list[pickle.PickleBuffer]]:
    file = _Pieces()
    apart: list[pickle.PickleBuffer] = []

    def stays_within(buffer: pickle.PickleBuffer) -> bool:
        if most is None or buffer.raw().nbytes <= most:
            return True
        apart.append(buffer)
        return False

    if begin is not None:
        begin()
    pickler = make_pickler(file, PROTOCOL, True, stays_within)
    ndarray = getattr(sys.modules.get("numpy"), "ndarray", None)
    if ndarray is not None:
        pickler.dispatch_table.setdefault(ndarray, _reduce_array)
    if reducers:
        pickler.dispatch_table.update(reducers)
    pickler.dump(obj)
    return file.pieces, apart


def _reduce_array(array: Any) -> Any:
    """As the stdlib has them arrive, from its lower protocol: one that may not be written to as one that may, a small one with
    memory of its own, which it can be resized in. Only others go as buffers.
    """
    goes_as_buffer = array.flags.writeable and array.nbytes > _OWN_BYTES
    return array.__reduce_ex__(PROTOCOL if goes_as_buffer else _STDLIBS_PROTOCOL)


class _Pieces:
    """A file that keeps what is written to it: bytes as they are, of what may change meanwhile a copy."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: Any) -> None:
        self.pieces.append(piece if type(piece) is bytes else bytes(pickle.PickleBuffer(piece).raw()))


def _pickler_by_value() -> Callable[..., Any]:
    if settings.current().serializer == "dill":
        made_by = check_dill().Pickler
        reductions = copyreg.dispatch_table
    else:
        import cloudpickle

        made_by = cloudpickle.Pickler
        reductions = {cls: how for cls, how in made_by.dispatch_table.items() if cls not in _DATA}

    def make(file: Any, protocol: int, _fix_imports: bool, buffer_callback: Any) -> Any:
        pickler = made_by.__new__(made_by)
        # Its own, not the class's, which the whole process shares; before __init__, which is where the C pickler reads it.
        pickler.dispatch_table = {**reductions, **ForkingPickler._extra_reducers}
        pickler.__init__(file, protocol, buffer_callback=buffer_callback)
        return pickler

    return make


def goes_by_name(func: Any) -> bool:
    """Whether it is a function whose pickle is the name by which the other side imports it, and nothing else."""
    if type(func) is not FunctionType or (_main_stays and func.__module__ == "__main__"):
        return False
    module = sys.modules.get(func.__module__)
    return getattr(module, "__dict__", {}).get(func.__qualname__) is func


def loads(data: Any, buffers: Any = ()) -> Any:
    """Unpickle. Raises whatever unpickling raises."""
    if settings.current().serializer == "dill":  # whose pickles have names that only its unpickler finds
        return check_dill().Unpickler(io.BytesIO(data), buffers=buffers).load()
    return pickle.loads(data, buffers=buffers)


def check_dill() -> Any:
    """The module. Raises MissingExtraError, which says how to get it."""
    try:
        import dill
    except ImportError:
        raise MissingExtraError("dill", "The setting serializer = dill") from None
    return dill
