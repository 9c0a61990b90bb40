"""Messages between a process and its host's agent: one SEQPACKET datagram each, descriptors beside it.

marshal, not json or pickle: it is built in, so the agent imports nothing for it, and both ends are the same interpreter
in one session's 0700 folder.
"""

from __future__ import annotations

import array
import errno
import marshal
import os
import socket
from collections.abc import Iterable
from typing import Any, TypeVar

SOCKET = "agent.sock"
MOST_IDS = 1000  # object ids in one message: a datagram must fit the socket's buffer
_SIZE = 1 << 17

Message = tuple[Any, ...]
T = TypeVar("T")


def connect(folder: str) -> socket.socket:
    """Raises OSError when no agent listens there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(None)  # what the program has set by socket.setdefaulttimeout is for its own
    try:
        sock.connect(os.path.join(folder, SOCKET))
    except BaseException:
        sock.close()
        raise
    return sock


def listen(folder: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(os.path.join(folder, SOCKET))
    sock.listen(1024)
    return sock


def send(sock: socket.socket, message: Message, fds: Iterable[int] = ()) -> None:
    rights = array.array("i", fds)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
    sock.sendmsg([marshal.dumps(message)], ancillary)


def receive(sock: socket.socket) -> tuple[Message | None, list[int]]:
    """The next message and its descriptors; None at the end of the connection. Raises OSError."""
    data, ancillary, _flags, _address = sock.recvmsg(_SIZE, socket.CMSG_SPACE(16))
    fds = array.array("i")
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    return (_loads(data) if data else None), list(fds)


def _loads(data: bytes) -> Message:
    """Raises OSError for what is no message."""
    try:
        message = marshal.loads(data)
    except (ValueError, EOFError, TypeError, MemoryError):
        message = None
    if not (isinstance(message, tuple) and message and isinstance(message[0], str)):
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    return message


def batches(ids: Iterable[T]) -> list[list[T]]:
    listed = list(ids)
    return [listed[i : i + MOST_IDS] for i in range(0, len(listed), MOST_IDS)] or [[]]
