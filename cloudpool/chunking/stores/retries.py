"""Trying again what may pass: exponential back-off with full jitter, as long as nothing at all comes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from cloudpool.chunking.stores import Entry, Store, TransientError

ATTEMPTS = 8  # in a row without one byte: 20 s or so
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0
ENDED = "the reply ended early"

T = TypeVar("T")


class Attempts:
    """Failures that may pass, of which so many in a row are too many."""

    def __init__(self) -> None:
        self._failed = 0

    def worked(self) -> None:
        self._failed = 0

    def failed(self, about: str, error: TransientError) -> None:
        """Wait before the next attempt. Raises ConnectionError when there is to be none."""
        self._failed += 1
        if self._failed == ATTEMPTS:
            raise ConnectionError(f"{about}: tried {ATTEMPTS} times, the last time: {error}") from error
        _wait(self._failed - 1, error.wait_s)


def patiently(about: str, act: Callable[[], T]) -> T:
    """What `act` returns, tried again after TransientErrors. Raises ConnectionError when that does not end."""
    attempts = Attempts()
    while True:
        try:
            return act()
        except TransientError as error:
            attempts.failed(about, error)


def fill(store: Store, entry: Entry, start: int, view: memoryview) -> None:
    """Fill `view` with the object's bytes from `start` on; after a break go on at the byte where it broke.

    Raises ConnectionError when nothing comes any more, and what the store raises.
    """
    done, attempts = 0, Attempts()
    while done < len(view):
        try:
            got = store.read_into(entry, start + done, view[done:])
            if not got:
                raise TransientError(ENDED)
        except TransientError as error:
            attempts.failed(wanted(store, entry, start + done, start + len(view)), error)
        else:
            done += got
            attempts.worked()


def wanted(store: Store, entry: Entry, start: int, stop: int) -> str:
    return f"{store.url(entry.key)}, bytes {start} to {stop}"


def _wait(attempt: int, asked_s: float) -> None:
    # Full jitter: many workers that were told to slow down do not come back together.
    time.sleep(max(asked_s, random.uniform(0, min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S))))
