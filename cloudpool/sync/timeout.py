"""A timeout that is no number is refused, in the words of what the stdlib waits with; the server would wait for ever."""

from __future__ import annotations

import errno
import math
import os


def check_of_poll(timeout: float | None) -> None:
    """What a pipe's or a queue's reader is given. Raises ValueError."""
    if timeout is not None and math.isnan(timeout):
        raise ValueError("cannot convert float NaN to integer")


def check_of_semaphore(timeout: float | None) -> None:
    """What a lock, or what the stdlib builds on one, is to wait for. Raises OSError."""
    if timeout is not None and math.isnan(timeout):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
