"""What an exception on a far host may come from, said where the user reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloudpool.errors import CloudpoolError

if TYPE_CHECKING:  # every pool's worker imports this: what far hosts need comes with them
    from cloudpool.runners.questions import Questions

_questions: Questions | None = None  # of a process on a far host


def arrived(questions: Questions) -> None:
    """This process is on a far host."""
    global _questions
    _questions = questions


def note(error: BaseException) -> None:
    """Add to a FileNotFoundError that the file is at the root, if it is."""
    if _questions is None or not isinstance(error, FileNotFoundError):
        return
    if not isinstance(error.filename, str | bytes):
        return
    from cloudpool.runners import manifest

    path = os.fsdecode(error.filename)
    there = manifest.at_home(os.path.abspath(path))
    with suppress(CloudpoolError):
        if _questions.ask(f"file.{there}", "exists", there):
            error.add_note(
                f"{path} exists where the program was started, and is not on this host: what lies beside the script travels.\n"
                "Name what else is to travel in CLOUDPOOL_FILES (the setting `files`), and open it by its relative path."
            )


def noting(run: Callable[[], Any]) -> Callable[[], Any]:
    """A process's `run` whose errors bear their notes."""

    def run_and_note() -> Any:
        try:
            return run()
        except FileNotFoundError as error:
            note(error)
            raise

    return run_and_note
