"""A sequence in memory cut into pieces, none of which is made before it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from cloudpool.chunking.output import Output
from cloudpool.chunking.sizes import at_least_one


def pieces_of(items: Any, chunks: int | None, chunk_size: Any) -> Pieces:
    """Cut `items` (a list, a range, an array, a frame: anything with a length and slices) into consecutive pieces.

    Either `chunks` pieces whose sizes differ by one at most, or pieces of `chunk_size` items, the last one perhaps shorter.
    No piece is empty, so there are fewer than `chunks` where there are fewer items. Raises TypeError for items that cannot
    be sliced, for neither or both numbers and for numbers that are not whole, ValueError for numbers below 1.
    """
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")) or isinstance(items, dict):
        raise TypeError(
            f"partition() needs a sequence, a URL or a list of URLs, not {type(items).__name__}: "
            f"list(items) makes a sequence of any iterable"
        )
    length = len(items)
    if chunks is None and chunk_size is None and not length:
        return Pieces(items, range(0), 1, 0, 0)
    if (chunks is None) == (chunk_size is None):
        raise TypeError("partition() of a sequence takes either chunks or chunk_size")
    if chunk_size is not None:
        size = at_least_one("chunk_size", chunk_size)
        return Pieces(items, range(-(-length // size)), size, 0, length)
    count = min(at_least_one("chunks", chunks), length)
    size, longer = divmod(length, count) if count else (1, 0)
    return Pieces(items, range(count), size, longer, length)


class Piece:
    """Consecutive items of a sequence; of an array `array()`, of a frame `frame()`. A pickle carries these items only."""

    __slots__ = ("index", "items", "start")

    def __init__(self, items: Any, index: int, start: int) -> None:
        self.items = items  # a slice of what was cut: a list of a list, a view of an array
        self.index = index
        self.start = start

    @property
    def stop(self) -> int:
        return self.start + len(self)

    @property
    def size(self) -> int:
        return len(self)

    def array(self) -> Any:
        """The items as a numpy array: a view, when an array was cut."""
        import numpy as np

        return np.asarray(self.items)

    def frame(self) -> Any:
        """The rows of a data frame, as a frame. Raises TypeError when something else was cut."""
        if not hasattr(self.items, "columns"):
            raise TypeError(f"these are pieces of a {type(self.items).__name__}, not of a data frame")
        return self.items

    def output(self, url: str, *, suffix: str = "", **place: Any) -> Output:
        """As Partition.output: a file for what is made of these items."""
        return Output.of(self.index, url, suffix, place)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return _rows(self.items)[index]

    def __iter__(self) -> Iterator[Any]:
        if hasattr(self.items, "itertuples"):
            return iter(self.items.itertuples())
        return iter(self.items)

    def __repr__(self) -> str:
        return f"<piece {self.index} of a {type(self.items).__name__}: items {self.start} to {self.stop}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Piece, (self.items, self.index, self.start)


class Pieces(Sequence[Any]):
    """The pieces, in order: as many as `len()`, each made by its index; a slice is a lazy sequence of pieces again.

    A pickle carries the items of its own pieces only. Made by `partition()`.
    """

    __slots__ = ("_first", "_items", "_length", "_longer", "_numbers", "_size")

    def __init__(
        self, items: Any, numbers: range, size: int, longer: int, length: int, first: int = 0
    ) -> None:
        self._items = items  # the items from number `first` on
        self._numbers = numbers  # of the pieces
        self._size = size
        self._longer = longer  # so many of the first pieces have one item more
        self._length = length
        self._first = first

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Piece: ...
    @overload
    def __getitem__(self, index: slice) -> Pieces: ...
    def __getitem__(self, index: int | slice) -> Piece | Pieces:
        if isinstance(index, slice):
            return Pieces(
                self._items, self._numbers[index], self._size, self._longer, self._length, self._first
            )
        try:
            number = self._numbers[index]
        except IndexError:
            raise IndexError(f"there are {len(self)} pieces, so no piece {index}") from None
        return Piece(self._cut(number, number + 1), number, self._start(number))

    def _cut(self, first: int, last: int) -> Any:
        """The items of the pieces from number `first` to before `last`."""
        return _rows(self._items)[self._start(first) - self._first : self._start(last) - self._first]

    def _start(self, number: int) -> int:
        """The number of a piece's first item; of the end, for the piece after the last."""
        return min(number * self._size + min(number, self._longer), self._length)

    def __repr__(self) -> str:
        return f"<{len(self)} pieces of a {type(self._items).__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        numbers = self._numbers
        items, first = self._items[:0], self._first
        if numbers:
            ends = sorted((numbers[0], numbers[-1]))  # min() and max() of a range would walk through it
            items, first = self._cut(ends[0], ends[1] + 1), self._start(ends[0])
        return Pieces, (items, numbers, self._size, self._longer, self._length, first)


def _rows(items: Any) -> Any:
    """What slices by row: of a pandas frame, [] would look for columns and labels."""
    return getattr(items, "iloc", items)
