"""What a Manager gives out: proxies in the stdlib's sense, of referents that live in the server as they are.

    BaseProxy (stdlib) <- DictProxy (stdlib) <- DictProxy      the referent is the handle's own keys
                       <- EventProxy (stdlib) <- EventProxy    the referent is one of our primitives

So isinstance checks hold, and `_callmethod`, `_getvalue`, repr and str do what they do there; no operation goes through
`BaseProxy`'s connection to a manager's process, since there is none.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from functools import cached_property
from multiprocessing import AuthenticationError, managers
from typing import Any, ClassVar

from cloudpool import serialize
from cloudpool.sync import payload
from cloudpool.sync.shared import Shared

stdlib: Any = managers  # typeshed knows half of it, and that half differs by version
GONE = -1  # what scripts answer when the object has been freed
HIDDEN = b"#"  # what the hidden name of a field starts with
_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})
_requests = itertools.count(1)


def gone(typeid: str) -> ConnectionRefusedError:
    """What the stdlib's proxies meet when their manager has ended: a ConnectionError."""
    return ConnectionRefusedError(f"the {typeid} is gone: its manager has been shut down.")


class GoneError(LookupError):
    """What was being read has been deleted meanwhile."""


class Proxy(stdlib.BaseProxy):
    """The parts of BaseProxy that software uses. A subclass has the referent's methods themselves."""

    _typeid: str
    _exposed_: ClassVar[tuple[str, ...]]
    _manager: Any = None  # keeps the manager alive; not taken along to other processes, as in the stdlib

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - the stdlib's signature
        """Call a method by name. Raises RemoteError for one that is not exposed."""
        if methodname == "#GETVALUE":
            return self._getvalue()
        if methodname in ("__repr__", "__str__"):
            return str(self)
        if methodname not in self._exposed_:
            raise stdlib.RemoteError(
                f"AttributeError: method {methodname!r} of {self._typeid!r} object is not in exposed={self._exposed_!r}\n"
            )
        return getattr(self, methodname)(*args, **kwds)

    def __str__(self) -> str:
        try:
            return repr(self._getvalue())
        except Exception:  # noqa: BLE001 - a referent's own repr may raise anything; the stdlib's proxies say it so
            return repr(self)[:-1] + "; '__str__()' failed>"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"


class Referent(Shared, Proxy):
    """A proxy whose referent is made of keys: a container.

    Every change is a script that leaves its request's number and result in the hash `_done`, one field a party: after a
    cut the field tells whether it took place, and it is never done twice.
    """

    _done: ClassVar[str] = "done"
    _field: ClassVar[str] = "{}"  # of a party

    @property
    def _token(self) -> Any:
        return stdlib.Token(self._typeid, self._here().info.folder, self._id)

    def _getvalue(self) -> Any:
        raise NotImplementedError

    def _change(self, script: str, *arguments: Any) -> Any:
        """Run a script that changes the object. Raises ConnectionRefusedError when it is gone."""
        session = self._here()
        channel = session.channel()
        channel.joined.add(self._id)
        number = next(_requests)
        party = self._field.format(channel.party)

        def look() -> bytes | None:
            done = channel.call("HGET", self._base + self._done, party)
            request, _, result = done.partition(b":") if done is not None else (b"", b"", b"")
            return result if request == b"%d" % number else None

        reply = channel.script(script, (self._base,), (party, number, session.ttl_ms, *arguments), look=look)
        if reply == GONE:
            raise gone(self._typeid)
        return reply

    def _where(self, field: bytes = b"") -> bytes:
        """Where a value's message stands: a message of another object, or field, is refused."""
        return self._place + field

    @cached_property
    def _place(self) -> bytes:
        return f"{self._id} value ".encode()

    def _pack(self, obj: Any, where: bytes) -> bytes:
        """A value's message. It may be unpickled any number of times, so handles in it are pinned."""
        if type(obj) in _PLAIN:  # the pickler that knows all reductions takes ten times as long
            plain = b"p" + pickle.dumps(obj, serialize.PROTOCOL)
            if len(plain) <= payload.LARGE:
                return payload.seal(plain, self._here(), where)
        return payload.pack(obj, self._here(), where)

    def _unpack(self, message: bytes, where: bytes, read_again: Callable[[], bytes | None]) -> Any:
        """The value of a message just read. Its blob may have gone since: then there is another value to be read.

        Raises GoneError when there is none, AuthenticationError.
        """
        while True:
            try:
                return payload.unpack(message, self._session, where)
            except FileNotFoundError:
                again = read_again()
                if again is None:
                    raise GoneError from None
                if again == message:
                    raise
                message = again

    def _taken(self, message: bytes, where: bytes) -> Any:
        """The value of a message that is no longer in the server."""
        try:
            return payload.unpack(message, self._session, where)
        finally:
            payload.discard(message, self._session)

    def _seal_name(self, name: bytes) -> bytes:
        """A field's name as it stands in the server, the same each time; as it is where nothing is sealed."""
        sealer = self._here().sealer
        return name if sealer is None else HIDDEN + sealer.hide(name, self._names)

    def _open_name(self, field: bytes) -> bytes:
        """The name behind a field. Raises AuthenticationError."""
        sealer = self._here().sealer
        return field if sealer is None else sealer.show(field[1:], self._names)

    @cached_property
    def _names(self) -> bytes:
        return f"{self._id} field".encode()

    def _discard_all(self, blobs: bytes) -> None:
        """Drop blobs that a script has listed, each as <length>:<message>."""
        for message in netstrings(blobs):
            payload.discard(message, self._session)


def netstrings(joined: bytes) -> Iterator[bytes]:
    """What is joined, each as <length>:<bytes>. Raises AuthenticationError for what is no such list."""
    at = 0
    while at < len(joined):
        colon = joined.find(b":", at, at + 20)
        length = joined[at : max(colon, at)]
        end = colon + 1 + int(length) if length.isdigit() else -1
        if not at < end <= len(joined):
            raise AuthenticationError("the server gave a list of messages that is none; it is refused.")
        yield joined[colon + 1 : end]
        at = end
