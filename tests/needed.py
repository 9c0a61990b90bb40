"""Packages that some tests need, all of the extra `test`: missing at home they are a reason to skip, in CI a failure."""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from typing import Any

import pytest


def needed(name: str) -> Any:
    """The module. Skips the test, or at its head the file."""
    return importlib.import_module(name) if "CI" in os.environ else pytest.importorskip(name)


def is_here(name: str) -> bool:
    """Whether files that need it are to be collected."""
    return "CI" in os.environ or find_spec(name) is not None
