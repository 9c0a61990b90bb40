"""NPY: the rows of an array, whose place in the file says whose they are. Each reader reads the header itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cloudpool.chunking.formats import Format
from cloudpool.chunking.stream import Flow
from cloudpool.errors import FormatError, MissingExtraError

if TYPE_CHECKING:
    from cloudpool.chunking.piece import Partition

ROWS_BYTES = 1 << 20  # that are read at a time while iterating


class Npy(Format):
    """Rows are along the first axis. An array in Fortran's order is cut by rows as well, and read column by column."""

    joins = False
    compressible = False

    def read(self, part: Partition) -> Iterator[Any]:
        """numpy arrays with one axis less."""
        layout = Layout(part)
        some = max(1, ROWS_BYTES // max(1, layout.row_bytes))
        for first in range(layout.first, layout.last, some):
            yield from layout.rows(first, min(first + some, layout.last))

    def array(self, part: Partition) -> Any:
        layout = Layout(part)
        return layout.rows(layout.first, layout.last)

    def open(self, part: Partition) -> io.BufferedReader:
        """An NPY file of these rows."""
        import numpy as np

        layout = Layout(part)
        head = io.BytesIO()
        shape = (layout.last - layout.first, *layout.shape[1:])
        about = {"descr": np.lib.format.dtype_to_descr(layout.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(head, about)
        some = max(1, ROWS_BYTES // max(1, layout.row_bytes))

        def flow() -> Iterator[bytes]:
            yield head.getvalue()
            for first in range(layout.first, layout.last, some):
                yield layout.rows(first, min(first + some, layout.last)).tobytes()

        return io.BufferedReader(Flow(flow, part.url))


class Layout:
    """What the header says, and which rows are the piece's: those whose first byte is in it, were it in C's order."""

    def __init__(self, part: Partition) -> None:
        try:
            import numpy as np
        except ImportError:
            raise MissingExtraError("numpy", "Reading NPY") from None
        self._part = part
        try:
            with part.open_start() as file:
                version = np.lib.format.read_magic(file)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                self.shape, self.fortran, self.dtype = read(file)
                self.data = file.tell()
        except (ValueError, UnicodeDecodeError) as error:
            raise FormatError(f"{part.url} is not NPY: {error}") from None
        if self.dtype.hasobject:
            raise FormatError(
                f"{part.url} holds pickled objects, which are not read from storage: save plain numbers"
            )
        if not self.shape:
            raise FormatError(f"{part.url} holds a single number, not rows")
        self.count = self.shape[0]
        self.row_bytes = self.dtype.itemsize
        for length in self.shape[1:]:
            self.row_bytes *= length
        need = self.data + self.count * self.row_bytes
        if need > part.object_size:
            raise FormatError(
                f"{part.url} is cut short: its header speaks of {need} bytes, and it has {part.object_size}"
            )
        self.first, self.last = self._row_at(part.start), self._row_at(part.stop)

    def _row_at(self, place: int) -> int:
        """The first row that begins at a place or after it."""
        if place >= self._part.object_size:
            return int(self.count)
        if not self.row_bytes:
            return 0
        return int(min(self.count, max(0, -(-(place - self.data) // self.row_bytes))))

    def rows(self, first: int, last: int) -> Any:
        """Rows from number `first` to before `last`, in C's order."""
        import numpy as np

        made = np.empty((last - first, *self.shape[1:]), self.dtype)
        if not made.size or not self.dtype.itemsize:
            return made
        if not self.fortran:
            self._fill(made, self.data + first * self.row_bytes)
            return made
        size = self.dtype.itemsize
        columns = np.empty((self.row_bytes // size, last - first), self.dtype)
        for n, column in enumerate(columns):
            self._fill(column, self.data + (n * self.count + first) * size)
        return np.ascontiguousarray(columns.reshape(*reversed(self.shape[1:]), last - first).transpose())

    def _fill(self, array: Any, start: int) -> None:
        view = memoryview(array.reshape(-1).view("u1"))
        done = 0
        for block in self._part.blocks(start, start + len(view)):
            view[done : done + len(block)] = block
            done += len(block)
