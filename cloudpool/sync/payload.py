"""A user's object as the bytes of a message: small ones in it, large ones in a blob that it names.

    "p" pickle                           up to 64 KiB
    "b" blob name " " sizes of its parts     above: the pickle, then its out-of-band buffers

On a server of one's own all but the letter and the blob's name is sealed, for the place `where` the message stands: the
object's id and what in it, as in b"queue.1.1.5 item". A blob is a file in the session's folder, so it need not be.

A blob's buffers are mapped, not read: an unpickled numpy array is a private, writable view of them. So each begins at a
multiple of ALIGNMENT, behind the padding that it takes: arithmetic on an array that does not gives other last digits.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from cloudpool import serialize
from cloudpool.host.membership import Session
from cloudpool.store import blobs

LARGE = 64 * 1024
ALIGNMENT = 64  # bytes: of the widest loads of a processor, and of its cache


def pack(
    obj: Any,
    session: Session,
    where: bytes,
    *,
    by_value: bool = True,
    read_once: bool = False,
    into: str = "",
    reducers: serialize.Reducers | None = None,
) -> bytes:
    """The message for `obj`. `read_once` says that it will be unpacked once, `into` what object it is to wait in
    (Holdings.in_message). Raises as serialize.dumps.
    """
    plain = pickled(obj, session, by_value=by_value, read_once=read_once, into=into, reducers=reducers)
    return seal(plain, session, where)


def pickled(
    obj: Any,
    session: Session,
    *,
    by_value: bool = True,
    read_once: bool = False,
    into: str = "",
    reducers: serialize.Reducers | None = None,
) -> bytes:
    """The message before it is sealed."""
    plain = serialize.dumps_plain(obj)
    if plain is not None and len(plain) <= LARGE:
        session.holdings.in_no_message()
        return b"p" + plain
    with session.holdings.in_message(read_once, into) as begin:
        pickled, buffers = serialize.dumps_apart(
            obj, LARGE, by_value=by_value, begin=begin, reducers=reducers
        )
    if not buffers and sum(map(len, pickled)) <= LARGE:
        return b"".join((b"p", *pickled))
    return _in_blob(pickled, [b.raw() for b in buffers], session)


def of_bytes(data: bytes | memoryview, session: Session) -> bytes:
    """The message, before it is sealed, for bytes that are not to be pickled."""
    session.holdings.in_no_message()
    if len(data) <= LARGE:
        return b"p" + bytes(data)
    return _in_blob([data], [], session)


def _in_blob(pickled: Sequence[bytes | memoryview], buffers: list[memoryview], session: Session) -> bytes:
    sizes = (sum(memoryview(piece).nbytes for piece in pickled), *(buffer.nbytes for buffer in buffers))
    pieces, end = list(pickled), sizes[0]
    for buffer, (start, stop) in zip(buffers, _places(sizes)[1:], strict=True):
        pieces += [bytes(start - end), buffer]
        end = stop
    try:
        name = session.blobs.put(pieces)
    except BaseException:
        session.holdings.recall()  # there is no message
        raise
    return f"b{name} {' '.join(map(str, sizes))}".encode()


def seal(plain: bytes, session: Session, where: bytes) -> bytes:
    """The message as it goes into the server."""
    sealer = session.sealer
    if sealer is None:
        return plain
    clear = _clear(plain)
    return sealer.seal(memoryview(plain)[clear:], where, plain[:clear])


def opened(message: bytes, session: Session, where: bytes, *, once: bool = False) -> bytes:
    """The message as it was before it was sealed. With `once` this process opens it once, so: when it is given out.

    Raises AuthenticationError.
    """
    sealer = session.sealer
    if sealer is None:
        return message
    if not isinstance(message, bytes):  # a reply that the command cannot have had
        sealer.refuse(where)
    clear = _clear(message)
    return message[:clear] + sealer.open(message, where, clear, once=once)


def _clear(message: bytes) -> int:
    """How many bytes of the message are not sealed."""
    return 1 if message[:1] != b"b" else message.find(b" ") + 1


def unpack(message: bytes, session: Session, where: bytes, *, once: bool = False) -> Any:
    """The object. The message may be unpacked again until it is discarded. Raises as `opened`, and what unpickling raises."""
    return loads(opened(message, session, where, once=once), session)


def loads(plain: bytes, session: Session) -> Any:
    """The object of an opened message."""
    if plain[:1] == b"p":
        return serialize.loads(memoryview(plain)[1:])
    pickled, *buffers = _parts(plain, session)
    return serialize.loads(pickled, buffers)


def bytes_of(plain: bytes, session: Session) -> bytes | memoryview:
    """The bytes of an opened message; of a pickled object its pickle."""
    if plain[:1] == b"p":
        return plain[1:]
    pickled, *buffers = _parts(plain, session)
    return serialize.dumps(serialize.loads(pickled, buffers)) if buffers else pickled


def size(plain: bytes) -> int:
    """How many bytes the opened message stands for."""
    return len(plain) if plain[:1] != b"b" else sum(_sizes(plain))


def discard(message: bytes, session: Session, *, by_reader: bool = False) -> None:
    """The message, sealed or not, has been read for the last time: its blob goes. `by_reader`: who calls is, and was, the
    only one who reads it, and has done so.
    """
    name = blobs.named(message)
    if name is None:
        return
    # What is apart from the pickle is mapped by who has the object.
    if by_reader and session.sealer is None and message.count(b" ") == 1:
        session.blobs.spare(name)
    else:
        session.blobs.drop(name)


def _sizes(plain: bytes) -> list[int]:
    try:
        return [int(size) for size in plain.split(b" ")[1:]]
    except ValueError:
        raise pickle.UnpicklingError("a message that names no blob") from None


def _parts(plain: bytes, session: Session) -> list[memoryview]:
    name, sizes = blobs.named(plain), _sizes(plain)
    if name is None or not sizes:
        raise pickle.UnpicklingError("a message that names no blob")
    view = memoryview(session.blobs.get(name))
    return [view[start:stop] for start, stop in _places(sizes)]


def _places(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Where in a blob its parts begin and end."""
    places, end = [], 0
    for size in sizes:
        start = end + -end % ALIGNMENT
        end = start + size
        places.append((start, end))
    return places
