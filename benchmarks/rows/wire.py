"""What the wire itself costs: bare sockets to a server of the kind that cloudpool has, with nothing of cloudpool between."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rows import check

PING = b"*1\r\n$4\r\nPING\r\n"


@contextmanager
def running(is_there: Callable[[], bool], *options: str) -> Iterator[None]:
    """A server with these options that keeps nothing, from when it `is_there`."""
    from cloudpool.store.binary import find_server

    command = [find_server(), "--save", "", "--appendonly", "no", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not is_there():
            check(process.poll() is None, "the server has ended")
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def server() -> Iterator[str]:
    """The path of the socket of a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        with running(lambda: answers(socket.AF_UNIX, path), "--port", "0", "--unixsocket", path):
            yield path


def answers(family: int, address: Any) -> bool:
    """Whether someone listens there. (That a socket's file is there says only that it is bound.)"""
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        return sock.connect_ex(address) == 0


def connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    return sock


def trip_s() -> float:
    """One command and its answer."""
    with server() as path, connected(path) as sock:
        taken = []
        for _ in range(5000):
            began = time.perf_counter()
            sock.sendall(PING)
            answer = sock.recv(64)
            taken.append(time.perf_counter() - began)
            check(answer == b"+PONG\r\n")
        return statistics.median(taken)


def pair_s() -> float:
    """Two commands, each with its answer: what an acquire and a release must at least be."""
    return 2 * trip_s()


def echo_s() -> float:
    """An item to another process and back: each puts into a list of the server and waits at another."""
    with server() as path:
        child = os.fork()
        if child == 0:
            with connected(path) as sock:
                while _taken(sock, b"there") != b"end":
                    _put(sock, b"back", b"7")
            os._exit(0)
        with connected(path) as sock:
            taken = []
            for _ in range(2000):
                began = time.perf_counter()
                _put(sock, b"there", b"7")
                item = _taken(sock, b"back")
                taken.append(time.perf_counter() - began)
                check(item == b"7")
            _put(sock, b"there", b"end")
        check(os.waitpid(child, 0)[1] == 0)
        return statistics.median(taken)


def _put(sock: socket.socket, name: bytes, item: bytes) -> None:
    sock.sendall(b"*3\r\n$5\r\nRPUSH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(item), item))
    check(sock.recv(64).startswith(b":"))


def _taken(sock: socket.socket, name: bytes) -> bytes:
    sock.sendall(b"*3\r\n$5\r\nBLPOP\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(name), name))
    return sock.recv(256).split(b"\r\n")[4]
