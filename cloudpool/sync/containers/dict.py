"""dict: values by field, and the order of insertion.

    values   field -> message of the value
    order    field -> number of insertion[:pickled key]; '' -> version, which each new or deleted key raises;
             '?' -> there is, or was, a key that only Python can compare

A field is the key's canonical name (dictkeys). A key without one gets a field of its own, `?<unique>`, and is compared
with all others by Python, here: what was compared stands in `Compared`, and is good as long as the version is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import AuthenticationError
from typing import Any, NamedTuple, NoReturn, Self

from cloudpool import serialize
from cloudpool.sync import dictkeys, payload
from cloudpool.sync.proxy import GoneError, Referent, gone, stdlib

COMPARE = -2  # a script's answer: the keys must be compared (again) by Python
BATCH = 3000  # items that go to the server in one script
_MISSING: Any = object()
_uniques = itertools.count(1)


class Compared(NamedTuple):
    """All keys of a version as a dict of Python's: key -> field."""

    version: bytes
    fields: dict[Any, bytes]
    keys: dict[
        bytes, tuple[int, Any]
    ]  # field -> number of insertion, key: a later insertion may be of another equal key


class DictProxy(Referent, stdlib.DictProxy):
    """`Manager().dict()`: dict's semantics, with any hashable key."""

    _kind = "dict"
    _typeid = "dict"

    def __init__(self, content: dict[Any, Any], *, manager: Any = None, about: str = "") -> None:
        self._manager = manager
        self._compared: Compared | None = None
        self._create(("HSET", "order", "", 0), about=about)
        self.update(content)

    def _restore(self, extra: Any) -> None:
        self._compared = None

    # -- reading ------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        field = self._name_field(key)
        if field is not None:
            message = self._here().channel().call("HGET", self._base + "values", field)
            if message is not None:
                if message[:1] == b"p" and self._session.sealer is None:  # the usual case, without detours
                    return serialize.loads(memoryview(message)[1:])
                with suppress(GoneError):  # then it is missing
                    return self._value(field, message)
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        field, message = self._find(key, "HGET")
        try:
            return default if message is None else self._value(field, message)
        except GoneError:
            return default

    def __contains__(self, key: Any) -> bool:
        return bool(self._find(key, "HEXISTS")[1])

    def _find(self, key: Any, read: str) -> tuple[bytes, Any]:
        """The key's field and what `read` says of it, in one trip unless keys must be compared."""
        field = self._name_field(key)
        if field is None:
            hash(key)  # raises dict's own TypeError
        channel, values, order = self._here().channel(), self._base + "values", self._base + "order"
        while True:
            compared = self._compared
            guess = field if field is not None else compared.fields.get(key) if compared is not None else None
            (version, foreign), found = channel.call_many(
                [("HMGET", order, "", "?"), (read, values, guess or "")]
            )
            if version is None:
                raise gone(self._typeid)
            if (guess is not None and found) or (field is not None and foreign is None):
                return guess or b"", found
            if compared is not None and compared.version == version:
                other = compared.fields.get(key)
                if other is None or other == guess:
                    return b"", None
                found = channel.call(read, values, other)
                if found:
                    return other, found
            else:
                self._compare()

    def _value(self, field: bytes, message: bytes) -> Any:
        channel = self._here().channel()
        return self._unpack(
            message, self._where(field), lambda: channel.call("HGET", self._base + "values", field)
        )

    def __len__(self) -> int:
        length: int = self._here().channel().call("HLEN", self._base + "values")
        if not length:
            self._version()
        return length

    def _version(self) -> bytes:
        version: bytes | None = self._here().channel().call("HGET", self._base + "order", "")
        if version is None:
            raise gone(self._typeid)
        return version

    def copy(self) -> dict[Any, Any]:
        while True:
            order, values = self._here().channel().script("dict_all", (self._base,))
            keys = self._in_order(order)
            message_of = dict(zip(values[::2], values[1::2], strict=True))
            try:
                return {
                    key: payload.unpack(message_of[field], self._session, self._where(field))
                    for field, (_, key) in keys.items()
                    if field in message_of or self._refuse("without its value")
                }
            except FileNotFoundError:  # a blob of a value that has been replaced since
                if self._here().channel().script("dict_all", (self._base,))[1] == values:
                    raise

    def keys(self) -> list[Any]:
        return [key for _, key in self._compare().keys.values()]

    def values(self) -> list[Any]:
        return list(self.copy().values())

    def items(self) -> list[tuple[Any, Any]]:
        return list(self.copy().items())

    def __iter__(self) -> Iterator[Any]:
        return KeyIterator(self, self.keys())

    _getvalue = copy

    # -- keys -----------------------------------------------------------------------------------------------------------

    def _compare(self) -> Compared:
        """Read all keys, if they are not known as they are."""
        order = self._here().channel().call("HGETALL", self._base + "order")
        keys = self._in_order(order)
        version = dict(zip(order[::2], order[1::2], strict=True)).get(b"") or self._refuse(
            "without a version"
        )
        self._compared = compared = Compared(version, {key: field for field, (_, key) in keys.items()}, keys)
        return compared

    def _in_order(self, order: list[bytes]) -> dict[bytes, tuple[int, Any]]:
        """Numbers and keys by field, in the order of insertion; those known from before are the same objects."""
        if not order:
            raise gone(self._typeid)
        known = self._compared.keys if self._compared is not None else {}
        entries = []
        try:
            for field, entry in zip(order[::2], order[1::2], strict=True):
                if field not in (b"", b"?"):
                    placed, _, pickled = entry.partition(b":")
                    entries.append((int(placed), field, pickled))
            entries.sort()
        except (ValueError, TypeError, AttributeError):
            self._refuse()
        keys = {}
        for number, field, pickled in entries:
            there = known.get(field)
            if there is None or there[0] != number:
                there = number, self._key(field, pickled)
            keys[field] = there
        return keys

    # A key's name (dictkeys) is hidden, a pickled key sealed, where the server is one's own.

    def _name_field(self, key: Any) -> bytes | None:
        name = dictkeys.field(key)
        return None if name is None else self._seal_name(name)

    def _key(self, field: bytes, pickled: bytes) -> Any:
        """The key behind a field. Raises AuthenticationError."""
        if pickled:
            sealer = self._session.sealer
            return serialize.loads(sealer.open(pickled, self._names + b" " + field) if sealer else pickled)
        name = self._open_name(field)
        return dictkeys.key_of(name) if dictkeys.is_key(name) else self._refuse("without its key")

    def _pickled(self, key: Any, field: bytes) -> bytes:
        """What stands beside a field that does not tell its key."""
        if dictkeys.tells_key(key) and field[:1] != b"?":
            return b""
        pickled, sealer = serialize.dumps(key), self._session.sealer
        return pickled if sealer is None else sealer.seal(pickled, self._names + b" " + field)

    def _refuse(self, why: str = "") -> NoReturn:
        raise AuthenticationError(
            f"the server gave an entry of {self._id} {why or 'that is none'}; it is refused."
        )

    def _fields(self, keys: list[Any], *, compare: bool) -> tuple[bytes, list[bytes]]:
        """The version of the keys that were compared (b'': none), and each key's field."""
        fields = [self._name_field(key) for key in keys]
        if not compare and None not in fields:
            return b"", fields  # type: ignore[return-value]
        known = self._compared
        if known is None or compare:
            known = self._compare()
        for i, key in enumerate(keys):
            found = known.fields.get(key)
            if found is not None:
                fields[i] = found
            elif fields[i] is None:
                fields[i] = f"?{self._here().channel().party}.{next(_uniques)}".encode()
        return known.version, fields  # type: ignore[return-value]

    # -- changing -------------------------------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        field = self._name_field(key)
        if field is not None:  # what follows is `_set` for one key with a name
            message = self._pack(value, self._where(field))
            replaced = self._change("dict_set", b"", b"", field, message, self._pickled(key, field))
            if replaced == b"":
                return
            if replaced != COMPARE:
                self._discard_all(replaced)
                return
            payload.discard(message, self._session)
        self._set({key: value})

    def setdefault(self, key: Any, default: Any = None) -> Any:
        there = self._set({key: default}, keep=b"1")
        return default if there is None else self._value(*there)

    def update(self, *args: Any, **kwds: Any) -> None:
        content = (
            dict(*args, **kwds)
            if not (args and isinstance(args[0], DictProxy))
            else {**args[0].copy(), **kwds}
        )
        items = list(content.items())
        for i in range(0, len(items), BATCH):
            self._set(dict(items[i : i + BATCH]))

    def _set(self, content: dict[Any, Any], keep: bytes = b"") -> tuple[bytes, bytes] | None:
        """Set all, or, with `keep`, only if the one key is not there; its field and message if it is."""
        messages: list[bytes] = []
        packed_for: list[bytes] = []
        reply: Any = COMPARE
        compare = False
        while reply == COMPARE:
            version, fields = self._fields(list(content), compare=compare)
            if fields != packed_for:  # at first; and when a comparison has found a key under another field
                for message in messages:
                    payload.discard(message, self._session)
                packed_for = fields
                messages = [
                    self._pack(value, self._where(field))
                    for field, value in zip(fields, content.values(), strict=True)
                ]
            arguments: list[bytes] = []
            for key, field, message in zip(content, fields, messages, strict=True):
                arguments += (field, message, self._pickled(key, field))
            reply = self._change("dict_set", version, keep, *arguments)
            compare = True
        if isinstance(reply, list):
            for message in messages:
                payload.discard(message, self._session)
            return fields[0], reply[0]
        self._discard_all(reply)
        if version:
            self._set_compared(version, content, fields)
        return None

    def _set_compared(self, version: bytes, content: dict[Any, Any], fields: list[bytes]) -> None:
        """The keys are known to be those that were compared and the new ones: no need to read them all again."""
        known = self._compared
        if known is None or known.version != version:
            return
        new = [(key, field) for key, field in zip(content, fields, strict=True) if field not in known.keys]
        for number, (key, field) in enumerate(new, int(version) + 1):
            mine = serialize.loads(
                serialize.dumps(key)
            )  # a copy, as everyone else has: the original may be changed
            known.fields[mine] = field
            known.keys[field] = number, mine
        self._compared = known._replace(version=b"%d" % (int(version) + len(new)))

    def __delitem__(self, key: Any) -> None:
        payload.discard(self._pop(key)[1], self._session)

    def pop(self, key: Any, *default: Any) -> Any:
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        try:
            field, message = self._pop(key)
        except KeyError:
            if default:
                return default[0]
            raise
        return self._taken(message, self._where(field))

    def _pop(self, key: Any) -> tuple[bytes, bytes]:
        """Take the key out: its field and message. Raises KeyError."""
        version, (field,) = self._fields([key], compare=False)
        message = self._change("dict_pop", version, field, "")
        while message == COMPARE:
            version, (field,) = self._fields([key], compare=True)
            message = self._change("dict_pop", version, field, "")
        if message == 0:
            raise KeyError(key)
        return field, bytes(message)

    def popitem(self) -> tuple[Any, Any]:
        while True:
            last = self._here().channel().script("dict_last", (self._base,))
            if not last:
                raise gone(self._typeid)
            if len(last) == 1:
                raise KeyError("popitem(): dictionary is empty")
            version, field, entry = last
            message = self._change("dict_pop", version, field, 1)
            if message not in (0, COMPARE):
                ((_, key),) = self._in_order([field, entry]).values()
                return key, self._taken(message, self._where(field))

    def clear(self) -> None:
        self._discard_all(self._change("dict_clear"))

    # -- as dict has it ---------------------------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, dict | stdlib.DictProxy):
            return NotImplemented
        return self.copy() | dict(other.items())

    def __ror__(self, other: Any) -> Any:
        if not isinstance(other, dict | stdlib.DictProxy):
            return NotImplemented
        return dict(other.items()) | self.copy()

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self


class KeyIterator(Iterator[Any]):
    """The keys as they were; notices a change of size at each step, as dict's own does."""

    def __init__(self, proxy: DictProxy, keys: list[Any]) -> None:
        self._proxy = proxy
        self._keys = iter(keys)
        self._length = len(keys)

    def __next__(self) -> Any:
        key = next(self._keys)
        if len(self._proxy) != self._length:
            raise RuntimeError("dictionary changed size during iteration")
        return key
