"""map_reduce(): a value of each partition, and one of all of them, made in workers as soon as what it needs is there.

    f(part) f(part) f(part) f(part)  f(part) ...
       \\______g______/ \\______g______/              8 at a time, neighbours only: g need not be commutative
              \\_______________g_______ ...

Partial results go through this process; a pool that can keep them where its workers are (it has a method `kept`) keeps them.
"""

from __future__ import annotations

import os
import queue
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

TOGETHER = 8  # results that one call of g takes


def map_reduce(
    pool: Any,
    f: Callable[[Any], Any],
    parts: Sequence[Any],
    g: Callable[[list[Any]], Any],
    per_object: bool = False,
) -> Any:
    """`g` of the list of `f(part)` of all parts; with `per_object` a dict from each object's URL to that of its parts.

    `g` gets lists of results of f or of g, in the parts' order, and must be associative; of no parts it gets []. `pool` is any
    with apply_async (multiprocessing's) or submit (an Executor). Raises the first exception that f or g raises.
    """
    names = [_url(parts[n]) for n in range(len(parts))] if per_object else [None] * len(parts)
    places: dict[Any, list[int]] = defaultdict(list)
    for n, name in enumerate(names):
        places[name].append(n)
    trees = {name: Tree(len(numbers)) for name, numbers in places.items()}
    work = Work(pool, f, g)
    try:
        leaves = ((name, n, number) for name, numbers in places.items() for n, number in enumerate(numbers))
        for name, level, n, value in work.results(leaves, parts):
            for up, place, children in trees[name].put(level, n, value):
                work.reduce(name, up, place, children)
        made = {name: work.value(tree.top) for name, tree in trees.items()}
    finally:
        work.close()
    if per_object:
        return made
    return made[None] if made else g([])


class Tree:
    """Results and what is still to be made of them: node n of a level has the nodes 8n to 8n + 7 of the level below."""

    def __init__(self, leaves: int) -> None:
        self._counts = [leaves]
        while self._counts[-1] > 1:
            self._counts.append(-(-self._counts[-1] // TOGETHER))
        self._there: dict[tuple[int, int], dict[int, Any]] = defaultdict(dict)
        self.top: Any = None

    def put(self, level: int, n: int, value: Any) -> Iterator[tuple[int, int, list[Any]]]:
        """A result is there; the reductions that can be made now, as (level, number, children)."""
        while True:
            if level == len(self._counts) - 1:
                self.top = value
                return
            parent = n // TOGETHER
            there = self._there[level + 1, parent]
            there[n] = value
            wanted = min(TOGETHER, self._counts[level] - parent * TOGETHER)
            if len(there) < wanted:
                return
            del self._there[level + 1, parent]
            if wanted > 1:
                yield level + 1, parent, [there[child] for child in sorted(there)]
                return
            level, n = level + 1, parent


class Work:
    """Calls of f and g under way in the pool. Owned by one map_reduce()."""

    def __init__(self, pool: Any, f: Callable[[Any], Any], g: Callable[[list[Any]], Any]) -> None:
        self._pool = pool
        keep = getattr(pool, "kept", None)
        self._keeps = keep is not None
        self._f: Callable[[Any], Any] = keep(f) if keep else f
        self._g: Callable[[list[Any]], Any] = keep(g) if keep else g
        self._done: queue.SimpleQueue[tuple[Any, bool, Any]] = queue.SimpleQueue()
        self._under_way = 0
        said = getattr(pool, "_max_workers", None) or getattr(pool, "_processes", None)
        workers = said if isinstance(said, int) else os.cpu_count() or 1
        self._most = max(16, 4 * workers)  # so that a reduction does not wait behind all calls of f
        self._held: set[Any] = set()

    def results(
        self, leaves: Iterator[tuple[Any, int, int]], parts: Sequence[Any]
    ) -> Iterator[tuple[Any, int, int, Any]]:
        """(tree, level, number, result) as they come, until there is nothing under way."""
        while True:
            while self._under_way < self._most and (leaf := next(leaves, None)) is not None:
                name, n, number = leaf
                self._send((name, 0, n, ()), self._f, parts[number])
            if not self._under_way:
                return
            (name, level, n, used), worked, value = self._done.get()
            self._under_way -= 1
            if not worked:
                raise value
            if self._keeps:
                self._held.add(value)
                self._drop(used)
            yield name, level, n, value

    def reduce(self, name: Any, level: int, n: int, children: list[Any]) -> None:
        self._send((name, level, n, tuple(children) if self._keeps else ()), self._g, children)

    def value(self, result: Any) -> Any:
        return result.value() if self._keeps else result

    def close(self) -> None:
        """Drop what is kept."""
        self._drop(tuple(self._held))

    def _drop(self, results: tuple[Any, ...]) -> None:
        for result in results:
            result.drop()
            self._held.discard(result)

    def _send(self, about: tuple[Any, ...], call: Callable[[Any], Any], argument: Any) -> None:
        self._under_way += 1
        if hasattr(self._pool, "apply_async"):
            self._pool.apply_async(
                call, (argument,),
                callback=partial(self._heard, about, True), error_callback=partial(self._heard, about, False),
            )  # fmt: skip
        else:
            self._pool.submit(call, argument).add_done_callback(partial(self._ended, about))

    def _heard(self, about: tuple[Any, ...], worked: bool, value: Any) -> None:
        self._done.put((about, worked, value))

    def _ended(self, about: tuple[Any, ...], future: Any) -> None:
        try:
            error = future.exception()
        except BaseException as cancelled:  # noqa: BLE001 - each kind of futures has a CancelledError of its own
            error = cancelled
        self._heard(about, error is None, future.result() if error is None else error)


def _url(part: Any) -> str:
    if not hasattr(part, "url") or hasattr(part, "parts"):
        raise TypeError(f"per_object=True needs partitions of one object each, not {part!r}")
    return str(part.url)
