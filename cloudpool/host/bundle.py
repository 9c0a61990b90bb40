"""The program's own files, for far hosts: what a spawned process here would find on sys.path and beside the script.

    root: places() -> pack() -> bytes, named by their hash -> server -> far host: unpack() below a folder of its own

A file's place over there is its path here, below that folder: /home/u/model/run.py is FOLDER/home/u/model/run.py. Installed
packages stay out: they are the image's.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import io
import os
import shutil
import site
import stat
import sys
import sysconfig
import zipfile
from collections.abc import Callable, ItemsView, Iterator
from typing import Any

from cloudpool.errors import CloudpoolError

MOST_BYTES = 64 * 1024 * 1024
LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first date: the same files are the same bytes
_MODES = 0o777


def places(sys_path: list[str], folder: str) -> list[str]:
    """The folders of sys.path that hold the program's own code, and `folder`, the one beside the script."""
    installed = _installed()
    found = dict.fromkeys([os.path.abspath(folder)])
    for entry in sys_path:
        path = os.path.abspath(entry)
        if os.path.exists(path) and not _is_below(path, installed):
            found[path] = None
    return [p for p in found if not any(_is_below(p, [other]) for other in found if other != p)]


def _installed() -> list[str]:
    """Where the interpreter and its packages are."""
    paths = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    named = {sysconfig.get_path(name) for name in ("scripts", "data")}  # /usr: a program may live below it
    return [os.path.realpath(p) for p in paths if p not in named]


def _is_below(path: str, folders: list[str]) -> bool:
    real = os.path.realpath(path)
    return any(real == folder or real.startswith(folder.rstrip("/") + "/") for folder in folders)


class Selection:
    """The files to send: all of the folders; of the one beside the script, when `globs` are set, code and what those name."""

    def __init__(self, folders: list[str], beside: str, globs: tuple[str, ...] | None) -> None:
        self._folders, self._beside, self._globs = folders, beside, globs
        self.unmatched: list[str] = []  # of the globs, when it was last looked

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """In an order that does not depend on the file system. Hidden ones, and environments, stay here."""
        for top in self._folders:
            if os.path.isfile(top):  # a zip file on sys.path
                yield top, os.stat(top)
                continue
            is_limited = self._globs is not None and _is_below(self._beside, [top])
            for path, status in _walk(top):
                if not is_limited or path.endswith((".py", ".so", ".pyi", ".toml", ".cfg", ".json")):
                    yield path, status
        self.unmatched.clear()
        for pattern in self._globs or ():
            found = sorted(glob.glob(os.path.join(self._beside, pattern), recursive=True))
            if not found:
                self.unmatched.append(pattern)
            for path in found:
                if os.path.isfile(path):
                    yield os.path.abspath(path), os.stat(path)
                elif os.path.isdir(path):
                    yield from _walk(os.path.abspath(path))

    def signature(self) -> tuple[Any, ...]:
        """What changes when a file does: sending is only for what has changed since."""
        return tuple((path, s.st_size, s.st_mtime_ns) for path, s in self._checked())

    def _checked(self) -> ItemsView[str, os.stat_result]:
        found: dict[str, os.stat_result] = {}
        total = 0
        for path, status in self.files():
            if path not in found:
                found[path] = status
                total += status.st_size
            if total > MOST_BYTES:
                largest = max(found.items(), key=lambda item: item[1].st_size)
                raise CloudpoolError(
                    f"the files beside the program, in {', '.join(self._folders)}, are more than the {MOST_BYTES >> 20} MiB that\n"
                    f"travel to far hosts (the largest yet is {largest[0]}, {largest[1].st_size >> 20} MiB).\n"
                    "Name those that are needed: CLOUDPOOL_FILES='data/*.csv,model.npz' (code travels anyway)."
                )
        return found.items()

    def pack(self) -> tuple[str, bytes]:
        """(name, content) of the bundle. Raises CloudpoolError when there is too much."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path, status in self._checked():
                entry = zipfile.ZipInfo(path.lstrip("/"), EPOCH)
                entry.external_attr = (status.st_mode & _MODES) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                with open(path, "rb") as file:
                    archive.writestr(entry, file.read())
        data = content.getvalue()
        return hashlib.sha256(data).hexdigest()[:32], data


def _walk(top: str) -> Iterator[tuple[str, os.stat_result]]:
    for folder, inner, names in os.walk(top):
        inner[:] = sorted(
            name
            for name in inner
            if name not in LEFT_OUT
            and not name.startswith(".")
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.startswith(".") or name.endswith(".pyc"):
                continue
            try:
                status = os.stat(path)
            except OSError:  # a link to nowhere, or gone meanwhile
                continue
            if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                yield path, status


def unpack(data: bytes, folder: str) -> None:
    """Put the files below `folder`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            path = archive.extract(entry, folder)
            os.chmod(path, (entry.external_attr >> 16) & _MODES | stat.S_IRUSR)


def unpacked(folder: str, name: str, fetch: Callable[[], bytes]) -> str:
    """Where the files of that bundle are on this host: unpacked by the first process that needs them."""
    place = os.path.join(folder, name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(place):
            shutil.rmtree(f"{place}.part", ignore_errors=True)
            os.mkdir(f"{place}.part")
            unpack(fetch(), f"{place}.part")
            os.rename(f"{place}.part", place)
    return place


class Map:
    """Where a path of the root's is on a far host."""

    def __init__(self, folders: list[str], below: str) -> None:
        self._folders = folders
        self._below = below

    def path(self, path: str) -> str:
        return self._below + os.path.abspath(path)

    def own(self, paths: list[str]) -> list[str]:
        """Those of the paths that the bundle holds, as they are there."""
        return [self.path(p) for p in paths if _is_within(p, self._folders)]

    def preparation(self, data: dict[str, Any]) -> dict[str, Any]:
        """multiprocessing.spawn's preparation data as they must be there: installed packages are that host's own."""
        mapped = dict(data)
        own = self.own(data.get("sys_path", ()))
        mapped["sys_path"] = [*own, *(p for p in sys.path if p not in own)]
        for name in ("dir", "orig_dir"):
            if mapped.get(name):
                mapped[name] = self.path(mapped[name])
                os.makedirs(mapped[name], exist_ok=True)
        if (main := mapped.get("init_main_from_path")) is not None:
            if _is_within(main, self._folders):
                mapped["init_main_from_path"] = self.path(main)
            else:  # an installed tool's script (pytest's): it is nobody's code that must run there
                del mapped["init_main_from_path"]
        return mapped


def _is_within(path: str, folders: list[str]) -> bool:
    absolute = os.path.abspath(path)
    return any(absolute == f or absolute.startswith(f.rstrip("/") + "/") for f in folders)
