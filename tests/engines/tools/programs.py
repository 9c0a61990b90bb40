"""Programs that tests of engines start, and how they end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"


def command(environ, *arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def run(environ, *arguments):
    """stdout of a program that ends well, and its stderr."""
    return end(command(environ, *arguments))


def end(program):
    """stdout and stderr, from here on, of a program that ends well."""
    try:
        stdout, stderr = program.communicate(timeout=240)
    finally:
        program.kill()
    assert program.returncode == 0, stderr
    return stdout, stderr
