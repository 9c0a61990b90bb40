"""Arrays that are maps of files, as joblib's pools send them: by the file's path, so that workers may write to it."""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from cloudpool.serialize import Reducers

WRITABLE = ("r+", "w+")


def mapped_alone(by_path: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """This reducer for what is a map of a file, and none for other arrays."""
    return partial(_mapped_alone, by_path)


def for_far(reducers: Reducers) -> Reducers:
    """What takes the place of joblib's where the other side is another host: arrays go by value."""
    return dict.fromkeys(reducers, _by_value)


def _mapped_alone(by_path: Callable[[Any], Any], array: Any) -> Any:
    found = _map_below(array)
    if (
        found is None or found.mode == "c" or not found.filename
    ):  # "c": what is written there is this process's alone
        return array.__reduce_ex__(5)
    return by_path(array)


def _by_value(array: Any) -> Any:
    """Raises PicklingError for a map that can be written to: nobody would see what a worker writes."""
    found = _map_below(array)
    if found is not None and found.filename and found.mode in WRITABLE:
        raise pickle.PicklingError(
            f"workers on other hosts cannot write to {found.filename}, a file of this one that is mapped as a numpy.memmap.\n"
            "Have them return what they find; or, if they only read, map it with mode 'r'."
        )
    return array.__reduce_ex__(5)


def _map_below(array: Any) -> Any:
    """The numpy.memmap whose memory an array is, if it is one's."""
    while array is not None and not isinstance(getattr(array, "base", None), mmap.mmap):
        array = getattr(array, "base", None)
    return array if hasattr(array, "filename") else None
