"""On a far host: an import that finds nothing asks the root's Python for the package, and then finds it. So does
importlib.metadata for a distribution by its name.

It stands last in sys.meta_path, so that what the image has, and what the program brings, comes first.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterable
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from cloudpool.runners.packages import this_platform
from cloudpool.runners.questions import Questions
from cloudpool.store import bucket

NAME = re.compile(r"[\w.-]{1,100}")  # of a distribution


class Shipped(MetaPathFinder):
    """Finds top-level modules in packages that the root has sent to this host, and has it send them."""

    def __init__(self, questions: Questions, folder: str) -> None:
        self._questions, self._folder = questions, folder
        self._asked: dict[str, str] = {}  # what -> the folder to look in, or ""
        self._refused: dict[str, str] = {}  # what -> why the root cannot send it
        self._locks: dict[str, threading.RLock] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Raises ImportError with what to do, when the root has it and cannot send it."""
        if path is not None or "." in fullname or fullname in sys.stdlib_module_names:
            return None
        # boto3, for credentials: the way to the root's may be the one that asks for them
        if bucket.is_in_use():
            return None
        place = self._place(f"package.{fullname}", "package", fullname, this_platform())
        if not place:
            return None
        if place not in sys.path:
            sys.path.append(place)
        return PathFinder.find_spec(fullname, [place], target)

    def find_distributions(
        self, context: metadata.DistributionFinder.Context
    ) -> Iterable[metadata.Distribution]:
        """That of a name; of the root's others nobody here can say which there are. Raises PackageNotFoundError, with a note,
        when the root has it and cannot send it.
        """
        name = context.name
        if not name or not NAME.fullmatch(name) or context.path is not sys.path or bucket.is_in_use():
            return ()
        try:
            place = self._place(f"metadata.{re.sub(r'[-_.]+', '-', name).lower()}", "metadata", name)
        except ImportError as error:
            missing = metadata.PackageNotFoundError(name)
            missing.add_note(str(error))
            raise missing from None
        if not place:
            return ()
        there = metadata.DistributionFinder.Context(name=name, path=[place])
        return metadata.MetadataPathFinder.find_distributions(there)

    def _place(self, about: str, *question: str) -> str:
        """The folder in which that is now, or "" when the root has nothing of the kind. Raises ImportError."""
        # Who asks for the same meanwhile waits for the answer.
        with self._locks.setdefault(about, threading.RLock()):
            if (found := self._asked.get(about)) is None:
                self._asked[about] = ""  # for this thread, which may come here again as it asks
                try:
                    found = self._fetched(about, *question)
                except ImportError as error:
                    self._refused[about] = str(error)
                except BaseException:
                    del self._asked[about]
                    raise
                else:
                    self._asked[about] = found
        if about in self._refused:
            raise ImportError(self._refused[about], name=question[1])
        return found or ""

    def _fetched(self, about: str, *question: str) -> str:
        place = os.path.join(self._folder, about)
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with open(place + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isdir(place):
                return place
            answer = self._questions.ask(about, *question)
            if "error" in answer:
                raise ImportError(answer["error"], name=question[1])
            if not answer["is_there"]:
                return ""
            content = io.BytesIO(self._questions.content(about))
            shutil.rmtree(place + ".part", ignore_errors=True)
            with zipfile.ZipFile(content) as archive:
                archive.extractall(place + ".part")
            os.rename(place + ".part", place)
        return place
