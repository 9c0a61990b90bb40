"""What Lithops needs: a server on a loopback port, and a configuration that says so."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

from rows import wire


@contextmanager
def configured() -> Iterator[dict[str, str]]:
    """Its environment, while the server runs: processes of this machine, as fast as it can be."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "lithops": {"backend": "localhost", "storage": "localhost", "log_level": "ERROR", "data_limit": 0},
        "localhost": {"runtime": sys.executable},
        "redis": {"host": "127.0.0.1", "port": port},
    }
    address = ("127.0.0.1", port)
    with wire.running(
        lambda: wire.answers(socket.AF_INET, address), "--port", str(port), "--bind", address[0]
    ):
        yield {"LITHOPS_CONFIG": json.dumps(settings)}
