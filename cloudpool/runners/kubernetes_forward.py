"""The way from here to a session's server in the cluster: a unix socket, and for each of its connections a port-forward.

    process --unix socket--> Forward --TLS, in a websocket of the API--> kubelet --> pod

TLS is spoken from here to the pod, so what lies between sees nothing. While the API is away a connection is held, and tried
again; one that was open is closed, and whoever had it opens another.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import websocket
from kubernetes.stream import ws_client

from cloudpool.runners.kubernetes_api import Cluster

CHUNK = 65536
PAUSE_S = 0.2  # between attempts
CONNECT_S = 10.0
PROTOCOL = "v4.channel.k8s.io"
DATA, FAULT = 0, 1  # channels of a port-forward; the first frame of each holds the port
TROUBLE = (
    websocket.WebSocketException,
    OSError,
)  # what a way through the API can come to; TLS's errors are OSErrors


class Forward:
    """Listens until it is closed, or the server has been out of reach for `grace_s`: then `failed` is told why, once."""

    def __init__(
        self,
        cluster: Cluster,
        pod: str,
        port: int,
        tls: ssl.SSLContext,
        name: str,
        grace_s: float,
        failed: Callable[[str], None],
    ) -> None:
        websocket.setdefaulttimeout(CONNECT_S)  # create_websocket takes none
        self._cluster, self._pod, self._port = cluster, pod, port
        self._tls, self._name = tls, name
        self._grace_s, self._failed = grace_s, failed
        self._lock = threading.Lock()
        self._away_since = 0.0
        self._is_given_up = False
        self._is_over = threading.Event()
        self._listening: socket.socket | None = None
        self._path = ""

    def listen(self, path: str) -> None:
        self._path = path
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(path)
        os.chmod(path, 0o600)
        self._listening.listen(1024)
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        self._is_over.set()
        if self._listening is not None:
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # wakes who accepts
            self._listening.close()
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                local, _ = listening.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(local,), daemon=True).start()

    def _serve(self, local: socket.socket) -> None:
        tunnel = None
        with local:
            while tunnel is None and not self._is_over.is_set():
                try:
                    tunnel = self.open()
                except TROUBLE as error:
                    self._away(error)
            if tunnel is not None:
                tunnel.carry(local)

    def open(self) -> Tunnel:
        """A new way to the server. Raises one of TROUBLE."""
        tunnel = Tunnel(self._dial(), self._tls, self._name)
        with self._lock:
            self._away_since = 0.0
        return tunnel

    def _away(self, error: Exception) -> None:
        with self._lock:
            self._away_since = self._away_since or time.monotonic()
            is_lost = time.monotonic() - self._away_since > self._grace_s and not self._is_given_up
            self._is_given_up |= is_lost  # it is told once
        if is_lost:
            text = str(error).strip().splitlines()
            self._failed(
                f"the server's pod could not be reached for {self._grace_s:g} s ({text[0] if text else error!r})"
            )
            self.close()  # now that it has been told why: whoever waits for a connection hears of this at once
        self._is_over.wait(PAUSE_S)

    def _dial(self) -> Any:
        client = self._cluster.client
        path = f"/api/v1/namespaces/{self._cluster.namespace}/pods/{self._pod}/portforward?ports={self._port}"
        headers = {"sec-websocket-protocol": PROTOCOL, **self._cluster.headers()}
        url = ws_client.get_websocket_url(client.configuration.host + path)
        opened = ws_client.create_websocket(client.configuration, url, headers)
        _watch_machine(opened.sock)
        return opened


class Tunnel:
    """One connection to the server, with TLS inside a websocket."""

    def __init__(self, opened: Any, tls: ssl.SSLContext, name: str) -> None:
        """Raises one of TROUBLE."""
        self._socket, self._wire = opened, opened.sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._in, self._out, server_hostname=name)
        self._tls_lock = threading.Lock()  # a TLS object bears one thread at a time
        self._send_lock = threading.Lock()  # what it has made must leave in its order
        try:
            self._shake_hands()
            opened.settimeout(None)
        except BaseException:
            self.close()
            raise

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._in.write(self._frame())
            else:
                self._flush()
                return

    def carry(self, local: socket.socket) -> None:
        """Everything, both ways, until either end closes."""
        upwards = threading.Thread(target=self._carry_up, args=(local,), daemon=True)
        upwards.start()
        try:
            while data := self.receive():
                local.sendall(data)
        except TROUBLE:
            pass  # one end is gone, and the other hears of it by this one's end
        finally:
            with suppress(OSError):
                local.shutdown(socket.SHUT_RDWR)
            self._end()
            upwards.join()
            self.close()

    def _carry_up(self, local: socket.socket) -> None:
        with suppress(*TROUBLE):
            while data := local.recv(CHUNK):
                self.send(data)
        self._end()

    def send(self, data: bytes) -> None:
        with self._send_lock:
            with self._tls_lock:
                self._tls.write(data)
            self._flush_locked()

    def receive(self) -> bytes:
        """What has come; empty at the end."""
        while True:
            with self._tls_lock:
                try:
                    return self._tls.read(CHUNK)
                except ssl.SSLWantReadError:
                    answers = self._out.pending
                except ssl.SSLZeroReturnError:
                    return b""
            if answers:
                self._flush()
            frame = self._frame()
            with self._tls_lock:
                self._in.write(frame)

    def close(self) -> None:
        """When no thread uses it any more."""
        self._end()
        with suppress(*TROUBLE):
            self._socket.shutdown()

    def _end(self) -> None:
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)  # wakes who reads; no goodbye, for whom would it be

    def _flush(self) -> None:
        with self._send_lock:
            self._flush_locked()

    def _flush_locked(self) -> None:
        with self._tls_lock:
            data = self._out.read()
        if data:
            self._socket.send_binary(bytes((DATA,)) + data)

    def _frame(self) -> bytes:
        """The next bytes of the server. Raises one of TROUBLE, with the kubelet's words where it has some."""
        while True:
            frame = self._socket.recv()
            if not frame:
                raise ConnectionResetError("the port-forward has ended")
            channel, data = frame[0], frame[1:]
            if channel == FAULT and len(data) > 2:
                raise ConnectionRefusedError(data.decode(errors="replace").strip())
            if channel == DATA and not self._is_port(data):
                return bytes(data)

    _has_port = False

    def _is_port(self, data: bytes) -> bool:
        """Whether this is the channel's first frame, which says only which port it is."""
        is_first, self._has_port = not self._has_port, True
        return is_first and len(data) == 2


def _watch_machine(sock: Any) -> None:
    """Have the kernel end the connection when the API's machine is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
