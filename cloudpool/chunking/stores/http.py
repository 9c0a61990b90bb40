"""HTTP requests on connections that are kept. The stdlib's client: it streams into a buffer as fast as any, and survives a fork.

A connection is used by one thread at a time and goes back when its reply has been read; a forked child has none of its
parent's. What may pass (a cut connection, 503 SlowDown) is a TransientError; what will not is the caller's to say.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
import struct
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from urllib.parse import urlsplit

from cloudpool.chunking.stores import TransientError, copy_into

TIMEOUT_S = 60.0
MOST_KEPT = 16  # idle connections a host
AT_ONCE_BYTES = 64 << 10
WAKE_BYTES = 512 << 10  # there before a reader is woken: waking it at each packet takes half of its time
WIDE_BYTES = 8 * WAKE_BYTES  # of the kernel's buffer: from here on that slows no connection over a distance
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

_lock = threading.Lock()
_idle: dict[str, list[http.client.HTTPConnection]] = {}


def _forget() -> None:
    """In a forked child: the connections are the parent's. Dropped without a goodbye, which would go to the server."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_forget)


class Reply:
    """A reply whose body is read before the next request: whole by `read`, or in parts by `fill` and `take`."""

    def __init__(self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
        self._response = response
        self._socket = None if isinstance(connection, http.client.HTTPSConnection) else connection.sock
        self._mark = 1  # SO_RCVLOWAT
        self._is_buffered = True  # some of the body may be: it came with the head, or was read bit by bit
        self.status = response.status
        self.headers = response.headers

    def read(self) -> bytes:
        try:
            return self._response.read()
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(_reason(error)) from error

    def fill(self, view: memoryview) -> int:
        """Bytes that came before the body ended or the connection broke."""
        done = 0
        try:
            self._set_mark(1)
            done = self._fill_at_once(view)
            while done < len(view) and (got := self._fill_by_bits(view[done:])):
                done += got
        except (OSError, http.client.HTTPException) as error:
            if not done:
                raise TransientError(_reason(error)) from error
        return done

    def take(self, most: int) -> bytes:
        """Some of the body, so many bytes at most; none at its end, or where the connection broke.

        In the middle of a body that comes as it is (no TLS, no chunks) it is as much, received there and not copied.
        """
        response = self._response
        try:
            if self._socket is not None and response.length is not None and response.fp is not None:
                if self._is_buffered:
                    buffered = len(response.fp.peek(1))
                    self._is_buffered = most < buffered
                    return response.read(min(most, buffered))
                if response.length > most:  # the response has to see its end
                    return self._take_at_once(self._socket, response.length, most)
            self._set_mark(1)
            self._is_buffered = True
            return response.read(most)
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(_reason(error)) from error

    def _take_at_once(self, sock: socket.socket, length: int, most: int) -> bytes:
        # Only where the kernel has found out by itself how much may be under way: it looks no further once there is a mark.
        is_wide = self._mark > 1 or sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= WIDE_BYTES
        # And not at the end, where so much might never come.
        self._set_mark(WAKE_BYTES if is_wide and length - most >= WAKE_BYTES else 1)
        data = sock.recv(most, socket.MSG_WAITALL)
        self._response.length = length - len(data)
        return data

    def _set_mark(self, count: int) -> None:
        """Have the kernel wake who waits for the body when so many bytes of it are there."""
        if self._mark != count and self._socket is not None:
            self._mark = count
            with suppress(OSError):  # of a system that does not know it: woken more often, one reads the same
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def _fill_at_once(self, view: memoryview) -> int:
        """By one system call, but for the body's last byte. Reading bit by bit, threads would wait for each other's turns."""
        response = self._response
        if self._socket is None or response.length is None or len(view) < AT_ONCE_BYTES or not response.fp:
            return 0
        done = 0
        if self._is_buffered:
            buffered = len(response.fp.peek(1))
            done = copy_into(response, view[: min(buffered, len(view))])
            self._is_buffered = done < buffered
        rest = min(len(view) - done, response.length - 1)  # the response has to see its end
        if rest > 0:
            got = self._socket.recv_into(view[done:], rest, socket.MSG_WAITALL)
            response.length -= got
            done += got
        return done

    def _fill_by_bits(self, view: memoryview) -> int:
        self._is_buffered = True
        return copy_into(self._response, view)

    def total(self, about: str, start: int) -> int | None:
        """How long all is, of a 206 that is to begin at `start`; None where it does not say."""
        said = self.headers.get("Content-Range", "")
        begin, total = said.removeprefix("bytes").strip().partition("-")[0], said.rpartition("/")[2].strip()
        if begin != str(start):
            raise ConnectionError(
                f"{about}: asked for its bytes from {start} on, the server sent {said or 'others'!r}"
            )
        return int(total) if total.isdigit() else None

    @property
    def reusable(self) -> bool:
        return self._response.isclosed() and not self._response.will_close

    def check_passing(self) -> None:
        """Raise TransientError for a status that may pass."""
        if self.status in PASSING:
            after = self.headers.get("Retry-After", "")
            body = self.read()[:300].decode(errors="replace")
            raise TransientError(
                f"HTTP {self.status} {self._response.reason}: {body}".rstrip(": "),
                min(float(after), 30.0) if after.isdigit() else 0.0,
            )


@contextmanager
def request(
    method: str, origin: str, target: str, headers: Mapping[str, str], body: bytes | None = None
) -> Iterator[Reply]:
    """Send a request to `origin` ("https://host:port") and give its reply. Raises TransientError when no reply came."""
    try:
        connection = _take(origin)
    except OSError as error:
        raise TransientError(f"{origin}: {_reason(error)}") from error
    kept = False
    try:
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            reply = Reply(connection.getresponse(), connection)
        except http.client.InvalidURL as error:
            raise ValueError(f"{origin}{target}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                raise ConnectionError(
                    f"{origin}: {error.verify_message}: its certificate is not trusted"
                ) from error
            raise TransientError(f"{origin}: {_reason(error)}") from error
        yield reply
        kept = reply.reusable
    finally:
        if kept:
            _give_back(origin, connection)
        else:
            connection.close()


def _take(origin: str) -> http.client.HTTPConnection:
    while True:
        with _lock:
            idle = _idle.get(origin)
            connection = idle.pop() if idle else None
        if connection is None:
            return _made(origin)
        if not _is_over(connection):
            return connection
        connection.close()


def _is_over(connection: http.client.HTTPConnection) -> bool:
    """The server has closed a connection that was idle for long. Not found out by a request: many are over at once."""
    if connection.sock is None:
        return True
    look = select.poll()
    look.register(connection.sock, select.POLLIN)
    return bool(look.poll(0))  # nothing is to come but the end


def _made(origin: str) -> http.client.HTTPConnection:
    parsed = urlsplit(origin)
    host, secure = parsed.hostname or "", parsed.scheme == "https"
    proxy = _proxy(parsed.scheme, host)
    at = urlsplit(proxy) if proxy else parsed
    made: http.client.HTTPConnection
    if secure:
        made = http.client.HTTPSConnection(at.hostname or "", at.port, timeout=TIMEOUT_S, context=_trust())
    else:
        made = http.client.HTTPConnection(at.hostname or "", at.port, timeout=TIMEOUT_S)
    if proxy:
        made.set_tunnel(host, parsed.port or (443 if secure else 80))
    if not secure:
        made.connect()
        # A timeout of the kernel's: one of Python's would end MSG_WAITALL at the first byte.
        made.sock.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            made.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(TIMEOUT_S), 0))
    return made


def _give_back(origin: str, connection: http.client.HTTPConnection) -> None:
    with _lock:
        idle = _idle.setdefault(origin, [])
        if len(idle) < MOST_KEPT:
            idle.append(connection)
            return
    connection.close()


def close_idle() -> None:
    """Close the connections that nobody uses."""
    with _lock:
        connections = [connection for idle in _idle.values() for connection in idle]
        _idle.clear()
    for connection in connections:
        with suppress(OSError):
            connection.close()


def _proxy(scheme: str, host: str) -> str | None:
    """The environment's proxy for this host, if any."""
    if urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(scheme)


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
