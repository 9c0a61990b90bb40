"""Sealing: what stands in a server of one's own is encrypted, and refused where it is not what was put there.

    sealed   <sender, 16 bytes> <number, 8 bytes> <AES-256-GCM ciphertext and tag>
    hidden   <AES-SIV of a name>          the same name always gives the same bytes: a dict's field, an attribute

The associated data say where a message stands (which object, and what in it), so that it opens nowhere else. A sender
is one process, by a random name of its own that its subkey is derived from; the number is its nonce. So no nonce can
come twice under a subkey, whatever a hostile server tells processes about who they are.

Imported only where there is such a server: `cryptography` is an extra.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from typing import NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from cloudpool.seen import Seen

__all__ = ["Sealer"]

SENDER, HEADER = 16, 24  # bytes: of a sender's name, of it and the number
MOST_DIGEST = 16
MOST_SENDERS = 1024  # whose subkeys are kept at hand


class _Sender(NamedTuple):
    """One process's part, replaced as a whole: who uses it sees no mixture of two."""

    pid: int
    name: bytes
    cipher: AESGCM
    numbers: Iterator[int]

    def __repr__(self) -> str:
        return f"_Sender(pid={self.pid})"


class Sealer:
    """Seals and opens for one process, by the session's key. Owned by the process's Session; used by all its threads.

    A forked child is another sender and has seen nothing yet: an item that comes back after its parent's death is its.
    """

    LEAST = HEADER + 16  # bytes that a message has more than its secret

    def __init__(self, key: bytes) -> None:
        if not key:
            raise ValueError("a session's key is needed")
        self._key = key
        self._names = AESSIV(self._subkey(b"names", 64))
        self._digests = hashlib.blake2b(key=self._subkey(b"digests", 32), digest_size=MOST_DIGEST)
        self._ciphers: dict[bytes, AESGCM] = {}  # the oldest first
        self._delivered: dict[bytes, Seen] = {}
        self._lock = threading.RLock()  # re-entered by a signal's handler that gets something, too
        self._mine = self._begin()

    def _begin(self) -> _Sender:
        self._lock = threading.RLock()
        self._delivered = {}
        name = secrets.token_bytes(SENDER)
        self._mine = _Sender(
            os.getpid(), name, AESGCM(self._subkey(b"payload " + name, 32)), itertools.count()
        )
        return self._mine

    def _subkey(self, purpose: bytes, length: int) -> bytes:
        return HKDFExpand(SHA256(), length, b"cloudpool " + purpose).derive(self._key)

    # -- messages ---------------------------------------------------------------------------------------------------

    def seal(self, secret: bytes | memoryview, where: bytes, clear: bytes = b"") -> bytes:
        """`clear`, which stays readable and cannot be changed either, and `secret`, for that place alone."""
        mine = self._mine
        if mine.pid != os.getpid():  # a fork that the session has not heard of
            mine = self._begin()
        header = mine.name + next(mine.numbers).to_bytes(HEADER - SENDER)
        nonce = b"\0\0\0\0" + header[SENDER:]
        return b"".join((clear, header, mine.cipher.encrypt(nonce, secret, clear + b"\0" + where)))

    def open(self, message: bytes, where: bytes, clear: int = 0, *, once: bool = False) -> bytes:
        """The secret of a message whose first `clear` bytes are clear. With `once` it opens in this process once only.

        Raises AuthenticationError.
        """
        if len(message) < clear + self.LEAST:
            self.refuse(where)
        sender = message[clear : clear + SENDER]
        number = message[clear + SENDER : clear + HEADER]
        try:
            secret = self._cipher_of(sender).decrypt(
                b"\0\0\0\0" + number,
                memoryview(message)[clear + HEADER :],
                message[:clear] + b"\0" + where,
            )
        except InvalidTag:
            self.refuse(where)
        if once and not self._is_first(sender, int.from_bytes(number)):
            self.refuse(where, "this process has had before")
        return secret

    def _cipher_of(self, sender: bytes) -> AESGCM:
        cipher = self._ciphers.get(sender)
        if cipher is None:
            cipher = AESGCM(self._subkey(b"payload " + sender, 32))
            with self._lock:
                if len(self._ciphers) >= MOST_SENDERS:
                    del self._ciphers[next(iter(self._ciphers))]
                self._ciphers[sender] = cipher
        return cipher

    def _is_first(self, sender: bytes, number: int) -> bool:
        with self._lock:
            numbers = self._delivered.get(sender)
            if numbers is None:
                numbers = self._delivered[sender] = Seen()
            return numbers.add(number)

    @staticmethod
    def refuse(where: bytes, why: str = "was not put there by this session") -> NoReturn:
        """Raises AuthenticationError for what stands at `where`."""
        object_id, _, what = where.partition(b" ")
        raise AuthenticationError(
            f"the server gave a {what.partition(b' ')[0].decode(errors='replace') or 'message'} "
            f"of {object_id.decode(errors='replace')} that {why}; it is refused.\n"
            "Someone else writes to the server: see who may, and start the program again."
        ) from None

    # -- names ------------------------------------------------------------------------------------------------------

    def hide(self, name: bytes, where: bytes) -> bytes:
        """`name` so that it can be found again, in that place, by whoever has the key."""
        return self._names.encrypt(name, [where])

    def show(self, hidden: bytes, where: bytes) -> bytes:
        """The name. Raises AuthenticationError."""
        try:
            return self._names.decrypt(hidden, [where])
        except (InvalidTag, ValueError):  # ValueError: too short
            self.refuse(where)

    def digest(self, data: bytes, size: int) -> bytes:
        """A digest, of 16 bytes at most, that says nothing to who has not the key."""
        digest = self._digests.copy()
        digest.update(data)
        return digest.digest()[:size]
