"""Lua scripts by name: one file in lua/ each, read once, addressed by their SHA1."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"


@cache
def source(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


@cache
def digest(name: str) -> str:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


# Sent without waiting, so they must be there: loaded with each connection.
POSTED = ("queue_put", "queue_taken", "pipe_taken", "pool_submit", "pool_done")


def load_commands() -> list[tuple[str, ...]]:
    return [("SCRIPT", "LOAD", source(name)) for name in POSTED]
