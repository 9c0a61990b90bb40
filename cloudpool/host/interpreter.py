"""What a fresh interpreter must be told to find cloudpool, before it has a sys.path of its own (-S, -E, a moved script)."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.util import find_spec

NEEDED = ("cloudpool", "hiredis")


@cache
def import_places() -> list[str]:
    """The folders that hold cloudpool and what it imports from outside the stdlib on every path."""
    origins = [
        spec.origin for name in NEEDED if (spec := find_spec(name)) is not None and spec.origin is not None
    ]
    return sorted({os.path.dirname(os.path.dirname(os.path.abspath(origin))) for origin in origins})


def program_places() -> list[str]:
    """The folders of this process's sys.path, the program's own among them: a runner may come from any."""
    return [os.path.abspath(place) for place in sys.path]
