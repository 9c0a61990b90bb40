"""Partitions: the sequence that partition() gives, of which each piece is made when it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, overload

from cloudpool.chunking.piece import Pack, Partition, Source
from cloudpool.chunking.stores import Entry


@dataclass(frozen=True, slots=True)
class Cut:
    """An object and where it is cut: at multiples of `step`, or at `places`, with 0 and the end in them."""

    source: Source
    entry: Entry
    step: int = 0
    places: tuple[int, ...] = ()
    exact: bool = False  # the places are records' starts already

    def __len__(self) -> int:
        if self.places:
            return len(self.places) - 1
        return max(1, -(-self.entry.size // self.step)) if self.step else 1

    def piece(self, number: int, index: int) -> Partition:
        size = self.entry.size
        if self.places:
            start, stop = self.places[number], self.places[number + 1]
        elif self.step:
            start, stop = number * self.step, min((number + 1) * self.step, size)
        else:
            start, stop = 0, size
        source = self.source
        some = getattr(source.codec, "at", None)  # an index: the piece takes its own part of it
        if some is not None:
            source = Source(source.store, source.format, some(start, stop))
        return Partition(source, self.entry, index, start, stop, self.exact)


@dataclass(frozen=True, slots=True)
class Packed:
    """Whole objects that are one piece."""

    cuts: tuple[Cut, ...]

    def __len__(self) -> int:
        return 1

    def piece(self, number: int, index: int) -> Pack:
        return Pack([cut.piece(0, index) for cut in self.cuts], index)


class Partitions(Sequence[Any]):
    """The partitions of a dataset, in the order of its objects; a slice is such a sequence again.

    A pickle, and so a task, carries what its own partitions need.
    """

    def __init__(self, plan: list[Cut | Packed], numbers: range | None = None, first: int = 0) -> None:
        self._plan = plan
        self._first = first  # the number of the plan's first piece
        self._ends = list(accumulate(map(len, plan), initial=first))[1:]
        self._numbers = range(first, self._ends[-1] if plan else first) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Partitions: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._some(self._numbers[index])
        try:
            number = self._numbers[index]
        except IndexError:
            raise IndexError(f"there are {len(self)} partitions, so no partition {index}") from None
        at = bisect_right(self._ends, number)
        return self._plan[at].piece(number - (self._ends[at] - len(self._plan[at])), number)

    def _some(self, numbers: range) -> Partitions:
        """Those with these numbers, and of the plan what they are made of."""
        if not numbers:
            return Partitions([], range(0), 0)
        low, high = sorted((numbers[0], numbers[-1]))
        begin, end = bisect_right(self._ends, low), bisect_right(self._ends, high) + 1
        return Partitions(self._plan[begin:end], numbers, self._ends[begin] - len(self._plan[begin]))

    def __reduce__(self) -> tuple[Any, ...]:
        some = self._some(self._numbers)
        return Partitions, (some._plan, some._numbers, some._first)

    @property
    def size(self) -> int:
        """Bytes of all objects in it."""
        cuts = [cut for item in self._plan for cut in (item.cuts if isinstance(item, Packed) else (item,))]
        return sum(cut.entry.size for cut in cuts)

    def __repr__(self) -> str:
        return f"<{len(self)} partitions of {len(self._plan)} objects, {self.size} bytes>"
