"""Array: the elements' bytes in one string, behind the typecode.

Where it is sealed each element is a record by itself, so that one can be replaced; its index is a part of its place.
"""

from __future__ import annotations

import hashlib
from array import array
from multiprocessing import AuthenticationError
from typing import Any

from cloudpool.sync.proxy import Referent, gone, stdlib


class ArrayProxy(Referent, stdlib.ArrayProxy):
    """`Manager().Array(typecode, sequence)`: array.array's items and slices."""

    _kind = "array"
    _typeid = "Array"

    def __init__(self, content: Any, *, manager: Any = None, about: str = "") -> None:
        self._manager = manager
        self._restore(content.typecode)
        # The elements come later: what seals them must know the object's id.
        self._create(("SET", "items", content.typecode), about=about)
        if len(content):
            self[:] = content

    def _extra(self) -> Any:
        return self._typecode

    def _restore(self, extra: Any) -> None:
        self._typecode = extra
        self._item_size = array(extra).itemsize

    @property
    def _width(self) -> int:
        """Bytes of an element in the server."""
        sealer = self._here().sealer
        return self._item_size if sealer is None else sealer.LEAST + self._item_size

    def __len__(self) -> int:
        size: int = self._here().channel().call("STRLEN", self._base + "items")
        if not size:
            raise gone(self._typeid)
        return (size - 1) // self._width

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._getvalue()[index]
        at, width = self._index(index), self._width
        start = at * width + (at >= 0)  # the typecode's byte is before the first
        end = start + width - 1
        size, found = (
            self._here()
            .channel()
            .call_many([("STRLEN", self._base + "items"), ("GETRANGE", self._base + "items", start, end)])
        )
        if not size:
            raise gone(self._typeid)
        if not -size < at * width < size - 1:
            raise IndexError("array index out of range")
        return self._elements(found, at)[0]

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._set_slice(index, value)
            return
        at = self._index(index)
        if self._change("array_set", at, self._bytes(array(self._typecode, [value]), at)) == 0:
            raise IndexError("array assignment index out of range")

    def _index(self, index: Any) -> int:
        """As it is; counted from the beginning where an element must know its place."""
        at: int = index.__index__()
        if at >= 0 or self._here().sealer is None:
            return at
        length = len(self)
        return at + length if at + length >= 0 else at

    def _set_slice(self, index: slice, values: Any) -> None:
        replaced: Any = 0
        while replaced == 0:
            before = self._read()
            content = self._elements(before[1:])
            content[index] = values
            digest = hashlib.sha1(before, usedforsecurity=False).hexdigest()
            replaced = self._change("array_replace", digest, before[:1] + self._bytes(content))

    def _read(self) -> bytes:
        found: bytes | None = self._here().channel().call("GET", self._base + "items")
        if found is None:
            raise gone(self._typeid)
        return found

    def _getvalue(self) -> Any:
        return self._elements(self._read()[1:])

    # -- elements as they stand in the server -----------------------------------------------------------------------

    def _bytes(self, content: Any, first: int = 0) -> bytes:
        data, sealer, step = content.tobytes(), self._here().sealer, self._item_size
        if sealer is None:
            return bytes(data)
        return b"".join(
            sealer.seal(data[i * step : (i + 1) * step], self._where_at(first + i))
            for i in range(len(content))
        )

    def _elements(self, data: bytes, first: int = 0) -> Any:
        """An array of them. Raises AuthenticationError."""
        sealer, width = self._here().sealer, self._width
        if len(data) % width:
            raise AuthenticationError(f"the server gave half an element of {self._id}; it is refused.")
        if sealer is not None:
            data = b"".join(
                sealer.open(data[i : i + width], self._where_at(first + i // width))
                for i in range(0, len(data), width)
            )
        return array(self._typecode, data)

    def _where_at(self, index: int) -> bytes:
        return self._where(b"%b %d" % (self._typecode.encode(), index))
