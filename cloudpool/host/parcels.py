"""Large payloads between processes: a file on this host, and pieces on the way from one host to another.

    home: put --> file --"wanted" (a letter to its host's agent)--> carrier --> file of the host that reads it
    far:  put --> carrier (its host may be gone by the time it is read)    -->  file of the host that reads it

A carrier has the pieces in the server, field by field of a hash what one command carries well; where the session has a
bucket (blob_url), above 1 MiB they are there, and the hash only says so. The field "count" is written with the last
piece, or once all are in the bucket. A host fetches a blob once: what it has fetched is a file like those made there.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from cloudpool.errors import BlobStoreError
from cloudpool.host.inbox import Post, host_id
from cloudpool.store.blobs import Blobs
from cloudpool.store.bucket import Bucket, Place
from cloudpool.store.keys import Keys
from cloudpool.store.wire import ReplyError

if TYPE_CHECKING:
    from cloudpool.host.membership import Session
    from cloudpool.sealing import Sealer

BULK = 1 << 20  # above, a payload goes to the bucket, if there is one
PIECE = 8 << 20
OBJECT = 32 << 20  # of a payload in the bucket: each is a request

Command = tuple[object, ...]
Line = Callable[
    [list[Command]], Any
]  # commands to the server in one trip, again after a cut; error replies stand in the list


def maker(name: str) -> int:
    """The epoch of the host where a blob was made; 0 of what is no blob's name."""
    _, _, rest = name.partition(".")
    epoch = rest.partition(".")[0]
    return int(epoch) if epoch.isdecimal() else 0


def content(keys: Keys, name: str) -> str:
    return keys.base(name) + "content"


class Carrier:
    """Takes payloads from host to host, by name: an object's id, of a kind that has the part `content`.

    Without a thread or connection of its own: the line to the server is the caller's.
    """

    def __init__(self, keys: Keys, ttl_ms: int, sealer: Sealer | None, place: Place | None) -> None:
        self._keys, self._ttl_ms, self._sealer = keys, ttl_ms, sealer
        self._place = place
        self._bucket: Bucket | None = None

    def is_bulk(self, size: int) -> bool:
        """Whether a payload of so many bytes goes to the bucket."""
        return self._place is not None and size > BULK

    def send(self, line: Line, name: str, data: memoryview | bytes) -> None:
        """Have it where other hosts find it. Bears repetition. Raises BlobStoreError, ReplyError, and what the line raises."""
        whole = memoryview(data).cast("B")
        if self.is_bulk(len(whole)):
            self.stow(name, whole)
            _say(line, self.stowed(name, len(whole)))
            return
        count = max(1, -(-len(whole) // PIECE))
        for number in range(count):
            piece = whole[number * PIECE : (number + 1) * PIECE]
            sealed = self._sealed(piece, f"{name} {number} of {count}")
            # Who finds "count" takes all pieces to be there: it comes with the last one.
            last = ("count", count) if number == count - 1 else ()
            _say(line, self._said(name, number, sealed, *last))

    def fetch(self, line: Line, name: str) -> list[bytes]:
        """Its pieces. Raises FileNotFoundError when it is not there any more, and as `send`; AuthenticationError."""
        key = content(self._keys, name)
        [[count, stowed, error, first]] = _say(line, [("HMGET", key, "count", "stowed", "error", 0)])
        if error is not None:
            raise BlobStoreError(self._opened(error, f"{name} error").decode(errors="replace"))
        if stowed is not None:
            return self._from_bucket(name, int(stowed))
        found: list[bytes] = []
        for number in range(int(count or 0)):
            data = first if number == 0 else _say(line, [("HGET", key, number)])[0]
            if data is None:
                break
            found.append(self._opened(data, f"{name} {number} of {int(count)}"))
        if not count or len(found) < int(count):
            raise FileNotFoundError(f"the blob {name} is gone")
        return found

    # -- the bucket -------------------------------------------------------------------------------------------------

    def bucket(self) -> Bucket:
        if self._bucket is None:
            assert self._place is not None
            self._bucket = Bucket(self._place)
        return self._bucket

    def stow(self, name: str, whole: memoryview) -> None:
        """Put it into the bucket; nobody looks for it there before `stowed`. Raises BlobStoreError."""
        count = _objects(len(whole))
        for number in range(count):
            piece = whole[number * OBJECT : (number + 1) * OBJECT]
            self.bucket().put(f"{name}.{number}", self._sealed(piece, f"{name} {number} of {count}"))

    def stowed(self, name: str, size: int) -> list[Command]:
        """What tells that it is there, whole."""
        key = content(self._keys, name)
        return [("HDEL", key, "error"), *self._said(name, "count", _objects(size), "stowed", size)]

    def failed(self, name: str, why: str) -> list[Command]:
        """What tells whoever waits for it that it cannot come."""
        return self._said(name, "error", self._sealed(why.encode(), f"{name} error"))

    def _said(self, name: str, *fields: object) -> list[Command]:
        key = content(self._keys, name)
        said: list[Command] = [("HSET", self._keys.objects, name, ""), ("HSET", key, *fields)]
        if self._ttl_ms:
            said.append(("PEXPIRE", key, self._ttl_ms))
        return said

    def _from_bucket(self, name: str, size: int) -> list[bytes]:
        found, count = [], _objects(size)
        least = self._sealer.LEAST if self._sealer is not None else 0
        for number in range(count):
            length = min(OBJECT, size - number * OBJECT) + least
            data = self.bucket().get(f"{name}.{number}", length)
            found.append(self._opened(data, f"{name} {number} of {count}"))
        return found

    def unstow(self, line: Line, name: str) -> None:
        """It has been read for the last time: what the bucket has of it goes. What cannot be deleted now goes with the session."""
        [stowed] = _say(line, [("HGET", content(self._keys, name), "stowed")])
        if stowed is not None and self._place is not None:
            for number in range(_objects(int(stowed))):
                self.bucket().delete(f"{name}.{number}")

    # -- sealing ----------------------------------------------------------------------------------------------------

    def _sealed(self, data: memoryview | bytes, where: str) -> bytes:
        return self._sealer.seal(data, where.encode()) if self._sealer is not None else bytes(data)

    def _opened(self, data: bytes | bytearray, where: str) -> bytes:
        data = bytes(data)
        return self._sealer.open(data, where.encode()) if self._sealer is not None else data


def _objects(size: int) -> int:
    return max(1, -(-size // OBJECT))


def _say(line: Line, commands: list[Command]) -> Any:
    """The replies. Raises ReplyError."""
    replies = line(commands)
    for reply in replies or ():
        if isinstance(reply, ReplyError):
            raise reply
    return replies


class Parcels(Blobs):
    """The blobs of this process's host, and of others'."""

    SLICE_S = 2.0  # then it is asked for again: a letter may be lost with a host's agent

    def __init__(self, session: Session) -> None:
        super().__init__(session.info.folder, session.process)
        self._session = session
        self._epoch = int(session.process.split(".")[0])
        self._fetching: set[tuple[int, str]] = set()

    def put(self, pieces: Sequence[memoryview | bytes]) -> str:
        if not self._session.info.is_far:
            return super().put(pieces)
        name = self.new_name()
        views = [memoryview(p).cast("B") for p in pieces]
        whole = views[0] if len(views) == 1 else memoryview(b"".join(views))
        self._session.send(name, whole)
        return name

    def get(self, name: str) -> mmap.mmap:
        try:
            return super().get(name)
        except FileNotFoundError:
            if maker(name) == self._epoch and not self._session.info.is_far:
                raise
        with self._alone(name):
            with suppress(FileNotFoundError):  # another process has fetched it meanwhile
                return super().get(name)
            self._fetch(name)
        return super().get(name)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Fetch it while nobody else on this host does."""
        me = (threading.get_ident(), name)
        if me in self._fetching:  # a signal's handler has interrupted just that
            yield
            return
        path = os.path.join(self._folder, name + ".lock")
        with open(path, "wb") as lock:
            self._fetching.add(me)
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)  # who waits has it open, and finds the blob
                fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was forked meanwhile has it open, too
                self._fetching.discard(me)

    def _fetch(self, name: str) -> None:
        """Make it a file here. Raises FileNotFoundError when it is nowhere any more, BlobStoreError."""
        session = self._session
        if not session.channel().call("HEXISTS", content(session.keys, name), "count"):
            self._want(name)
        self.write(name, session.fetch(name))

    def _want(self, name: str) -> None:
        """Wait until its maker's agent has put it on its way, or said that it is gone."""
        session = self._session
        post = Post(session.keys, session.ttl_ms, session.sealer)
        ready = session.keys.base(name) + "ready"
        while True:
            if not session.channel().call(*post.command(host_id(maker(name)), ("wanted", name))):
                return  # that host is gone: what it had not sent off by then is, too
            # From a list to itself: whoever else waits for it finds it, too.
            if session.channel().block(
                lambda seconds: ("BLMOVE", ready, ready, "LEFT", "LEFT", seconds), self.SLICE_S
            ):
                return

    def _is_elsewhere(self, name: str) -> bool:
        """Or may be."""
        return self._session.is_spread or maker(name) != self._epoch

    def spare(self, name: str) -> None:
        if self._is_elsewhere(name):
            self.drop(name)
        else:
            super().spare(name)

    def drop(self, name: str) -> None:
        session = self._session
        is_elsewhere = self._is_elsewhere(name)
        is_bulk = is_elsewhere and session.carrier.is_bulk(self._size(name))
        super().drop(name)
        if not is_elsewhere:
            return
        if is_bulk:
            session.carrier.unstow(session.channel().call_many, name)
        session.channel().post("DEL", content(session.keys, name), session.keys.base(name) + "ready")
        session.channel().post("HDEL", session.keys.objects, name)
        if maker(name) != self._epoch:
            post = Post(session.keys, session.ttl_ms, session.sealer)
            session.channel().post(*post.command(host_id(maker(name)), ("unwanted", name)))

    def _size(self, name: str) -> int:
        """Of the file that is here; of what nobody here has read it is not known, and what is elsewhere goes with the session."""
        try:
            return os.stat(os.path.join(self._folder, name)).st_size
        except FileNotFoundError:
            return 0
