"""Every test of a primitive runs on each server and each start method; parts are real, nothing is mocked.

`server` is the session's: an embedded one, and one on TCP with a password. pytest groups by it, so a run has two
sessions, one after the other.
"""

from __future__ import annotations

import gc
import itertools
import os
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from waiting import ended_well

import cloudpool
from cloudpool import settings
from cloudpool.host import folder as folders, session as sessions
from cloudpool.store import embedded
from cloudpool.store.binary import find_server
from cloudpool.store.wire import Connection, open_unix, open_url


class TcpServer:
    """A server on a loopback port, with a password, as a user would have it."""

    def __init__(self, folder: Path, *options: str) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.password = secrets.token_hex(16)
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        command = [find_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no", "--dir", str(folder), "--requirepass", self.password, *options]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if embedded.READY in line:
                return
        raise AssertionError("the test's server did not start")

    def connect(self) -> Connection:
        return open_url(self.url)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def tcp_server(tmp_path: Path) -> Iterator[TcpServer]:
    server = TcpServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="session", params=["embedded", "tcp"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The kind of server that this process's session uses."""
    sessions.leave()
    tcp = TcpServer(tmp_path_factory.mktemp("server")) if request.param == "tcp" else None
    if tcp is not None:
        os.environ["CLOUDPOOL_REDIS_URL"] = tcp.url
    settings.reload()
    yield request.param
    sessions.leave()
    os.environ.pop("CLOUDPOOL_REDIS_URL", None)
    settings.reload()
    if tcp is not None:
        tcp.stop()


@pytest.fixture(params=["fork", "spawn"])
def ctx(request: pytest.FixtureRequest, server: str) -> Any:
    """A context, on each server by each start method."""
    return cloudpool.get_context(request.param)


def connect() -> Connection:
    """A connection of the test's own to the session's server."""
    info = sessions.current().info
    if info.redis_url:
        return open_url(info.redis_url)
    return open_unix(os.path.join(info.folder, folders.SERVER_SOCKET))


@pytest.fixture
def store(server: str) -> Iterator[Connection]:
    """A connection of the test's own to the session's server, to see what is there."""
    connection = connect()
    yield connection
    connection.close()


@pytest.fixture
def dial(server: str) -> Callable[[], Connection]:
    """dial(): another such connection; whoever calls closes it."""
    return connect


_marks = itertools.count(1)


class Monitor:
    """What the session's server executes, as it executes it: how a test knows that a process has got somewhere."""

    def __init__(self) -> None:
        self._connection = connect()
        self._connection._sock.settimeout(30)
        self._connection.call("MONITOR")

    def until(self, *words: str) -> list[str]:
        """The commands up to the next one in which all of these words are."""
        lines = []
        while True:
            lines.append(self._connection.receive().decode(errors="replace"))
            if all(word in lines[-1] for word in words):
                return lines

    def skip(self) -> list[str]:
        """The commands up to now."""
        mark = f"mark {next(_marks)}"
        with closing(connect()) as other:
            other.call("ECHO", mark)
        return self.until(mark)[:-1]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def monitor(server: str) -> Iterator[Monitor]:
    watching = Monitor()
    yield watching
    watching.close()


@pytest.fixture
def interrupt(monitor: Monitor) -> Iterator[Callable[..., None]]:
    """interrupt(call, *words): call, and as soon as the server has seen these words have a signal's handler raise in it."""

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupt(call: Callable[[], object], *words: str) -> None:
        def send() -> None:
            monitor.until(*words)
            os.kill(os.getpid(), signal.SIGUSR1)

        monitor.skip()
        sender = threading.Thread(target=send)
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            call()
        sender.join()

    before = signal.signal(signal.SIGUSR1, handler)
    yield interrupt
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def start(ctx: Any) -> Iterator[Callable[..., Any]]:
    """start(target, *args): a process by the context's start method, or that of `by`; what still runs at the test's end
    is killed.
    """
    processes = []

    def start(target: Callable[..., Any], *args: Any, by: Any = ctx, **options: Any) -> Any:
        process = by.Process(target=target, args=args, **options)
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process._popen is not None:  # it is not closed
            process.kill()
            process.join()


@pytest.fixture
def finish() -> Callable[..., None]:
    """finish(*processes): wait until they have ended well."""
    return ended_well


def settled() -> None:
    """All that was said to the agent until now, and all deaths until now, have taken effect."""
    gc.collect()
    for _ in range(2):  # it hears messages before it looks at the deaths of the same moment
        sessions.current()._ask("settle")


@pytest.fixture
def settle(server: str) -> Callable[[], None]:
    """settle(): wait until the agent has dealt with all messages and deaths until now."""
    return settled
