"""What a process on a far host writes beside the program's files goes with that host: it is said once a host, when it happens."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

WRITING = os.O_WRONLY | os.O_RDWR
TOLD = "lost_files.told"  # in the host's folder: it has been said there


def arrived(files: str, folder: str) -> None:
    """This process is on a far host, which has the program's files in `files`, and a folder of its own."""
    below, is_told = files + os.sep, False

    def heard(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal is_told
        if event != "open" or is_told:
            return
        path, _, flags = arguments
        if (
            not isinstance(path, str | bytes | os.PathLike)
            or not isinstance(flags, int)
            or not flags & WRITING
        ):
            return
        with suppress(OSError):  # there is no current folder; or another process of this host has said it
            full = os.path.abspath(os.fsdecode(path))
            if full.startswith(below) and "__pycache__" not in full:
                is_told = True
                os.close(os.open(os.path.join(folder, TOLD), os.O_CREAT | os.O_EXCL, 0o600))
                _tell(os.fsdecode(path))

    sys.addaudithook(heard)


def _tell(path: str) -> None:
    print(
        f"cloudpool: {path} is written on the host {os.uname().nodename}, and goes with it, as all does that is written beside the program there.\n"
        "Return results, write them to object storage, or give hosts a folder of this machine (docker_mounts).",
        file=sys.stderr,
        flush=True,
    )
