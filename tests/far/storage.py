"""Storage for large payloads as tests see it: what is in it, what was read, and how it goes wrong.

A folder, and a bucket behind a gateway that counts requests, refuses them, and holds them back.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from cloudpool.chunking.stores import http as connections
from cloudpool.chunking.stores.s3 import S3Store

OPENS = str(Path(__file__).parent / "opens")
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Folder:
    """A folder that all hosts share; what they read they write down themselves."""

    def __init__(self, path: Path) -> None:
        self.path, self._log = path, path.with_suffix(".log")
        path.mkdir()
        self._log.touch()
        self.url = f"file://{path}"
        self.environment = {
            "PYTHONPATH": os.pathsep.join((OPENS, os.environ["PYTHONPATH"])),
            "TEST_OPENS_BELOW": str(path),
            "TEST_OPENS": str(self._log),
        }

    def objects(self) -> list[str]:
        return sorted(str(p.relative_to(self.path)) for p in self.path.rglob("*"))

    def content(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def count(self) -> None:
        """Count reads from now on."""
        self._log.write_text("")

    def reads(self) -> Counter[str]:
        """How often far hosts have read each object."""
        return Counter(self._log.read_text().split())

    def refuse(self) -> None:
        """Take nothing."""
        self._aside = {session: session.with_suffix(".aside") for session in self.path.iterdir()}
        for session, aside in self._aside.items():
            session.rename(aside)
            session.touch()

    def mend(self) -> None:
        for session, aside in self._aside.items():
            session.unlink()
            aside.rename(session)

    def lose(self) -> None:
        """Everything in it."""
        for path in self.path.glob("*/*"):
            path.unlink()

    def close(self) -> None: ...


class Bucket:
    """A bucket of a run's own, on a server of S3."""

    def __init__(self, endpoint: str) -> None:
        self._store = S3Store.of(f"cloudpool-{uuid.uuid4().hex[:12]}", endpoint, False, {})
        self._store._whole("PUT", "", {}, "")
        self.url = f"s3://{self._store.bucket}/payloads"
        self.gateway = Gateway(endpoint)
        self.environment = {"AWS_ENDPOINT_URL": self.gateway.url}

    def objects(self) -> list[str]:
        return [entry.key for entry in self._store.list("")]

    def content(self, name: str) -> bytes:
        return self._store._whole("GET", name, {}, name)

    def count(self) -> None:
        self.gateway.requests.clear()

    def reads(self) -> Counter[str]:
        """How often each object has been read, by the root as well."""
        asked = self.gateway.requests.items()
        paths = {path: n for (method, path), n in asked if method == "GET" and "?" not in path}
        return Counter({path.rpartition("/")[2]: n for path, n in paths.items()})

    def refuse(self) -> None:
        self.gateway.instead = REFUSED

    def mend(self) -> None:
        self.gateway.instead = b""

    def lose(self) -> None:
        for key in self.objects():
            self._store.delete(key)

    def close(self) -> None:
        self.lose()
        self._store._whole("DELETE", "", {}, "")
        connections.close_idle()
        self.gateway.close()


class Gateway:
    """The way to a server of S3. `instead` is what a PUT gets for an answer; `busy` so many PUTs are told to come again."""

    def __init__(self, endpoint: str) -> None:
        at = urlsplit(endpoint)
        self._upstream = at.hostname or "", at.port or 80
        self.requests: Counter[tuple[str, str]] = Counter()
        self.instead, self.busy = b"", 0
        self.goes_on = threading.Event()  # unset: a PUT stops in the middle
        self.goes_on.set()
        self.is_held = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        # The server's name is signed: it is the one that the client knows.
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._upstream) as server:
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            with suppress(OSError):
                while data := client.recv(1 << 16):
                    # A client asks when it has read the answer: a request is the beginning of what comes.
                    if data.startswith((b"GET ", b"PUT ", b"DELETE ", b"HEAD ", b"POST ")):
                        method, path, _ = data.decode("latin1").split(" ", 2)
                        self.requests[method, path] += 1
                        if method == "PUT" and (answer := self._answer()):
                            client.sendall(answer)
                            break
                    elif not self.goes_on.is_set():
                        server.sendall(data[: len(data) // 2])
                        self.is_held.set()
                        self.goes_on.wait(60)
                        data = data[len(data) // 2 :]
                    server.sendall(data)
            for side in (server, client):
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            back.join()

    def _answer(self) -> bytes:
        if self.busy:
            self.busy -= 1
            return BUSY
        return self.instead

    def close(self) -> None:
        self.goes_on.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
