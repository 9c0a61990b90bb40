"""A session's own server as a pod: a program that keeps it, and the way to it, as long as its stdin is open.

launch --stdin: one line of JSON--> main --stdout: lines of JSON--> launch
    {"waiting": why the pod does not come yet}                                          any number of them
    {"local_url": for this machine, "pod_url": for hosts, "ca": PEM, "grace_s": ...}    it is ready
    {"error": why there is none}, or later {"lost": why it is gone}                     and the program ends, with status 1
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import suppress
from typing import Any

from cloudpool import settings
from cloudpool.errors import CloudpoolError
from cloudpool.settings import Settings


def request(session_id: str, chosen: Settings, password: str, folder: str) -> bytes:
    """What the program reads first; `folder` is the session's, where its socket is to be."""
    values = {name: getattr(chosen, name) for name in settings.NAMES if name.startswith("kubernetes_")}
    values |= {"lease_s": chosen.lease_s, "start_timeout_s": chosen.start_timeout_s}
    line = {"session": session_id, "password": password, "folder": folder, "settings": values}
    return json.dumps(line).encode() + b"\n"


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the root's to deal with
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asked = json.loads(sys.stdin.buffer.readline())
    defaults = {name: row.default for name, row in settings._ROWS.items()}
    chosen = Settings(defaults | asked["settings"], {})
    server = None
    try:
        from cloudpool.runners.kubernetes_server_pod import PodServer  # not for who only asks for a server

        server = PodServer(asked["session"], chosen, asked["password"], asked["folder"], _say)
        _say(server.start()._asdict())
        server.stay()
    except (CloudpoolError, OSError) as error:
        _say({"lost" if server is not None and server.is_ready else "error": str(error)})
        sys.exit(1)
    finally:
        if server is not None:
            server.close()


def _say(line: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # who asked is gone; stdin says so, too
        print(json.dumps(line), flush=True)
