"""Namespace and Value: attributes in a hash, beside a field '' that keeps an empty one there.

What a party has done last is in the same hash, so that an attribute is set by one write: `/<party>`.
"""

from __future__ import annotations

from typing import Any

from cloudpool.sync import payload
from cloudpool.sync.proxy import GoneError, Proxy, Referent, gone, stdlib

MISSING: Any = object()


class _Attributes(Referent):
    """Fields that are read by one native command and set by one script."""

    _kind = "namespace"
    _done = "values"
    _field = "/{}"  # no attribute's name

    def _make(self, content: dict[str, Any], manager: Any, about: str) -> None:
        self._manager = manager
        self._create(("HSET", "values", "", "n"), about=about)
        for name, value in content.items():
            self._set_field(name, value)

    def _get_field(self, name: str) -> Any:
        """The value, or MISSING."""
        channel, values = self._here().channel(), self._base + "values"
        field = self._seal_name(name.encode())
        message = channel.call("HGET", values, field)
        if message is None:
            if not channel.call("EXISTS", values):
                raise gone(self._typeid)
            return MISSING
        try:
            return self._unpack(message, self._where(field), lambda: channel.call("HGET", values, field))
        except GoneError:
            return MISSING

    def _set_field(self, name: str, value: Any) -> None:
        field = self._seal_name(name.encode())
        replaced = self._change("namespace_set", field, self._pack(value, self._where(field)))
        if replaced:
            payload.discard(replaced, self._session)


class _Names(_Attributes):
    """What is behind a NamespaceProxy, apart from it: there a user may set any name, of which none is to hide one here."""

    _typeid = "Namespace"

    def __init__(self, content: dict[str, Any], manager: Any, about: str) -> None:
        self._make(content, manager, about)

    def read(self, name: str) -> Any:
        value = self._get_field(name)
        if value is MISSING:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}")
        return value

    def delete(self, name: str) -> None:
        message = self._change("namespace_delete", self._seal_name(name.encode()))
        if message == 0:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}")
        payload.discard(message, self._session)

    def _getvalue(self) -> Any:
        while True:
            fields = self._here().channel().call("HGETALL", self._base + "values")
            if not fields:
                raise gone(self._typeid)
            messages = dict(zip(fields[::2], fields[1::2], strict=True))
            try:
                values = {
                    self._open_name(field).decode(): payload.unpack(
                        message, self._session, self._where(field)
                    )
                    for field, message in messages.items()
                    if field and field[:1] != b"/"
                }
            except FileNotFoundError:  # a blob of a value that has been replaced since
                if self._here().channel().call("HGETALL", self._base + "values") == fields:
                    raise
            else:
                return stdlib.Namespace(**values)


class NamespaceProxy(Proxy, stdlib.NamespaceProxy):
    """`Manager().Namespace()`. Names that start with an underscore are the proxy's own, as in the stdlib."""

    _typeid = "Namespace"

    def __init__(self, content: dict[str, Any], *, manager: Any = None, about: str = "") -> None:
        self.__names = _Names(content, manager, about)

    def __reduce__(self) -> tuple[Any, ...]:
        return _proxy_of, (type(self), self.__names)

    def __getattr__(self, key: str) -> Any:
        if key[0] != "_":
            return self.__names.read(key)
        if key.startswith("_NamespaceProxy__"):  # it is just being made
            return object.__getattribute__(self, key)
        return getattr(self.__names, key)  # what software reads of a proxy's insides

    def __setattr__(self, key: str, value: Any) -> None:
        if key[0] == "_":
            object.__setattr__(self, key, value)
        else:
            self.__names._set_field(key, value)

    def __delattr__(self, key: str) -> None:
        if key[0] == "_":
            object.__delattr__(self, key)
        else:
            self.__names.delete(key)

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - the stdlib's signature
        if methodname == "__getattribute__":
            return getattr(self, *args)
        return super()._callmethod(methodname, args, kwds)

    def _getvalue(self) -> Any:
        return self.__names._getvalue()


def _proxy_of(cls: type[NamespaceProxy], names: _Names) -> NamespaceProxy:
    proxy = cls.__new__(cls)
    proxy.__dict__["_NamespaceProxy__names"] = names
    return proxy


class ValueProxy(_Attributes, stdlib.ValueProxy):
    """`Manager().Value(typecode, value)`: one value; the typecode means nothing, as in the stdlib."""

    _typeid = "Value"

    def __init__(self, typecode: Any, value: Any, *, manager: Any = None, about: str = "") -> None:
        self._typecode = typecode
        self._make({"value": value}, manager, about)

    def _extra(self) -> Any:
        return self._typecode

    def _restore(self, extra: Any) -> None:
        self._typecode = extra

    def get(self) -> Any:
        return self._get_field("value")

    def set(self, value: Any) -> None:
        self._set_field("value", value)

    value = property(get, set)

    def _getvalue(self) -> Any:
        return stdlib.Value(self._typecode, self.get())
