"""Is a history linearizable? Wing and Gong's search with Lowe's memory of what was tried, object by object.

    recorder = Recorder(folder)                                  # one a thread, in any process
    recorder("q", "put", 7, queue.put, 7)           # what it returns is the result, and must be JSON's
    check(history(folder), {"q": fifo()})                        # raises NotLinearizable

Each operation takes effect at one moment between its call and its return. One that never returned, as its process was
killed, took effect at any time after its call or never. One in `posted` (a Queue's put, which does not wait for the
server) takes effect before its thread's next operation on the same object does, and by that operation's return.

A model is (initial state, step), with step(state, operation) -> the states that it may lead to: none when its result was
impossible there, several when its result is unknown (`operation.is_pending`). It may add what must come before what, as
its results tell: an order that the search would else find out by trying, late and again and again.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

State = Any
_recorders = itertools.count(1)
MOST_TRIED = 1_000_000  # steps of a search: some 20 s


@dataclass(slots=True)
class Operation:
    thread: str
    object: str
    name: str
    argument: Any
    began: float
    ended: float = math.inf
    result: Any = None

    @property
    def is_pending(self) -> bool:
        return self.ended == math.inf

    def __str__(self) -> str:
        result = "?" if self.is_pending else self.result
        return f"{self.began:.0f}..{self.ended:.0f} {self.thread}: {self.object}.{self.name}({self.argument}) = {result}"


Step = Callable[[State, Operation], Iterable[State]]
# order(operations, when each must have taken effect) -> pairs of their numbers: the first of each comes before the second.
# It may find that some must have earlier.
Order = Callable[[list[Operation], list[float]], Iterable[tuple[int, int]]]


class Model(NamedTuple):
    initial: State
    step: Step
    order: Order = lambda _operations, _ends: ()


class NotLinearizable(AssertionError):
    """The object, and the operations around which no order was found."""


class Undecided(AssertionError):
    """Too many operations overlap: record fewer, or have them leave less that others may see in any order."""


# -- histories ----------------------------------------------------------------------------------------------------------


class Recorder:
    """A thread's operations, written down as they begin and as they end: a killed process leaves what it was at."""

    def __init__(self, folder: str | Path) -> None:
        self.name = f"{os.getpid()}-{next(_recorders)}"
        self._fd = os.open(Path(folder) / f"{self.name}.history",
                           os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)  # fmt: skip

    def __call__(self, object: str, name: str, argument: Any, call: Callable[..., Any], *args: Any) -> Any:
        """call(*args), as the operation `name` with that argument."""
        self._write([time.monotonic_ns(), object, name, argument])
        result = call(*args)
        self._write([time.monotonic_ns(), result])
        return result

    def _write(self, line: list[Any]) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        os.close(self._fd)


def history(folder: str | Path) -> list[Operation]:
    """What the recorders in a folder have written."""
    operations = []
    for file in Path(folder).glob("*.history"):
        operation = None
        for line in map(json.loads, file.read_text().splitlines()):
            if len(line) == 4:
                operation = Operation(file.stem, line[1], line[2], line[3], line[0])
                operations.append(operation)
            else:
                assert operation is not None
                operation.ended, operation.result = line
    return operations


# -- the search ---------------------------------------------------------------------------------------------------------


def check(operations: Iterable[Operation], models: dict[str, Model], posted: Iterable[str] = ("put",)) -> int:
    """Raises NotLinearizable; the number of operations. A dict's keys are objects of their own: "d/key" is "d"'s kind."""
    objects: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        objects[operation.object].append(operation)
    for name, own in objects.items():
        _search(name, own, models[name.partition("/")[0]], frozenset(posted))
    return sum(map(len, objects.values()))


def _search(name: str, operations: list[Operation], model: Model, posted: frozenset[str]) -> None:
    """Depth first: of what has been called before anything that is left has returned, take one that the model allows.

    A set of operations done with the state that they led to is never entered twice. Sets are bits of an int.
    """
    operations = sorted(operations, key=lambda operation: operation.began)
    ends, before = [o.ended for o in operations], [0] * len(operations)
    following: dict[str, int] = {}
    for n in reversed(range(len(operations))):
        later = following.get(operations[n].thread)
        if operations[n].name in posted:
            ends[n] = math.inf if later is None else ends[later]
        if later is not None:
            before[later] = 1 << n  # a thread's operations take effect in its order
        following[operations[n].thread] = n
    for first, second in model.order(operations, ends):
        before[second] |= 1 << first
    # Which of those that may come next is tried first: what somebody has seen the result of, then what returns first.
    seen_at = {repr(o.result): o.ended for o in reversed(operations) if o.argument is None}
    urgency = [
        seen_at.get(repr(o.argument), end) if o.argument else end
        for o, end in zip(operations, ends, strict=True)
    ]
    owed = sum(1 << n for n, operation in enumerate(operations) if not operation.is_pending)

    def steps(done: int, state: State, first: int) -> Iterator[tuple[int, State, int]]:
        """What may come next; `first` is the first operation that is not done."""
        while first < len(operations) and done >> first & 1:
            first += 1
        latest, next_ones = math.inf, []
        for n in range(first, len(operations)):
            if operations[n].began > latest:
                break
            if not done >> n & 1:
                latest = min(latest, ends[n])
                if not before[n] & ~done:
                    next_ones.append(n)
        next_ones.sort(key=urgency.__getitem__)
        for n in next_ones:
            for next_state in model.step(state, operations[n]):
                yield done | 1 << n, next_state, first

    seen = {(0, model.initial)}
    path = [steps(0, model.initial, 0)]
    furthest, most = 0, -1
    while path:
        found = next(path[-1], None)
        if found is None:
            path.pop()
            continue
        done, state, first = found
        if not owed & ~done:
            return  # what is left never returned, and need not have taken effect
        if len(seen) > MOST_TRIED:
            raise Undecided(
                f"{name}: no order of {len(operations)} operations was found in {MOST_TRIED} steps."
            )
        if (done, state) not in seen:
            seen.add((done, state))
            path.append(steps(done, state, first))
            if len(path) > most:
                furthest, most = done, len(path)
    if not owed:
        return
    left = [o for n, o in enumerate(operations) if not furthest >> n & 1][:12]
    done_last = [o for n, o in enumerate(operations) if furthest >> n & 1][-8:]
    raise NotLinearizable(
        f"{name}: after {most} of {len(operations)} operations there is no order for the rest.\nThe last done:\n  "
        + "\n  ".join(map(str, done_last)) + "\nThe first left:\n  " + "\n  ".join(map(str, left))
    )  # fmt: skip


# -- models -------------------------------------------------------------------------------------------------------------


def fifo(maxsize: int = 0) -> Model:
    """put(x) -> None, or "full"; get() -> x, or "empty"."""

    def step(items: tuple[Any, ...], o: Operation) -> Iterable[State]:
        if o.name == "put":
            is_full = bool(maxsize) and len(items) >= maxsize
            if o.is_pending or (o.result == "full") == is_full:
                yield items if is_full else (*items, o.argument)
        elif not items:
            if o.is_pending or o.result == "empty":
                yield items
        elif o.is_pending or o.result == items[0]:
            yield items[1:]

    return Model((), step, _fifo_order)


def _fifo_order(operations: list[Operation], ends: list[float]) -> Iterator[tuple[int, int]]:
    """What was got in an order had been put in it, and the reverse. And as `_items_order`."""
    return _items_order(operations, ends, is_fifo=True)


def _items_order(
    operations: list[Operation], ends: list[float], is_fifo: bool = False
) -> Iterator[tuple[int, int]]:
    """An item was put before it was got, and what was put before an "empty" was got before it.

    So of two that overlap the order is that of their others: of a put its get, of a get its put, of an "empty" itself.
    """
    is_put = [o.argument is not None for o in operations]
    puts = {o.argument: n for n, o in enumerate(operations) if is_put[n] and o.result != "full"}
    gets = {o.result: n for n, o in enumerate(operations) if not (is_put[n] or o.is_pending)}
    empty = {n for n, o in enumerate(operations) if not is_put[n] and o.result == "empty"}
    is_known = all(is_put[n] or not o.is_pending for n, o in enumerate(operations))
    times = Counter(o.argument for o in operations)
    others = {n: (operations[n].began, ends[n]) for n in empty}  # when they began and ended
    for item, put in puts.items():
        if times[item] == 1 and item in gets:  # else it is not known which of them was got
            get = gets[item]
            yield put, get
            ends[put] = min(ends[put], ends[get])
            others[put], others[get] = (operations[get].began, ends[get]), (operations[put].began, ends[put])
        elif is_known and not operations[put].is_pending:
            others[put] = (math.inf, math.inf)  # nobody has got it
    for pair in _overlapping(operations, ends):
        for a, b in (pair, pair[::-1]):
            tells = a in empty or b in empty or (is_fifo and is_put[a] == is_put[b])
            if tells and a in others and b in others and others[a][1] < others[b][0]:
                yield a, b


def _overlapping(operations: list[Operation], ends: list[float]) -> Iterator[tuple[int, int]]:
    """The numbers of each two that may have taken effect in either order; operations are sorted by their beginning."""
    under_way: list[int] = []
    for n, operation in enumerate(operations):
        under_way = [m for m in under_way if ends[m] >= operation.began]
        yield from ((m, n) for m in under_way)
        under_way.append(n)


def semaphore(value: int) -> Model:
    """acquire() -> whether; release(). A Lock is one of 1."""

    def step(free: int, o: Operation) -> Iterable[State]:
        if o.name == "release":
            yield free + 1
        elif free and (o.is_pending or o.result):
            yield free - 1
        elif not free and (o.is_pending or not o.result):
            yield free

    return Model(value, step)


def lock(is_recursive: bool = False) -> Model:
    """acquire() -> whether; release(), by the owner."""

    def step(held: tuple[str, int], o: Operation) -> Iterable[State]:
        owner, depth = held
        if o.name == "release":
            if owner == o.thread:
                yield (owner, depth - 1) if depth > 1 else ("", 0)
        elif not depth or (is_recursive and owner == o.thread):
            if o.is_pending or o.result:
                yield o.thread, depth + 1
        elif o.is_pending or not o.result:
            yield held

    return Model(("", 0), step)


def register(initial: Any) -> Model:
    """get() -> value; set(value); add(n) -> the new value."""

    def step(value: Any, o: Operation) -> Iterable[State]:
        if o.name == "set":
            yield o.argument
        elif o.name == "add":
            if o.is_pending or o.result == value + o.argument:
                yield value + o.argument
        elif o.is_pending or o.result == value:
            yield value

    return Model(initial, step)


def key() -> Model:
    """A key of a dict, whose values are not None: get() and pop() -> value or None; set(x); setdefault(x) -> value."""

    def step(value: Any, o: Operation) -> Iterable[State]:
        if o.name == "set":
            yield o.argument
        elif o.name == "setdefault":
            new = o.argument if value is None else value
            if o.is_pending or o.result == new:
                yield new
        elif o.is_pending or o.result == value:
            yield None if o.name == "pop" else value

    return Model(None, step)


def event() -> Model:
    """set(); clear(); is_set() and wait() -> whether."""

    def step(is_set: bool, o: Operation) -> Iterable[State]:
        if o.name in ("set", "clear"):
            yield o.name == "set"
        elif o.is_pending or o.result == is_set:
            yield is_set

    return Model(False, step)


def stack() -> Model:
    """A list: append(x); pop() -> x, or "empty"; pop_first() likewise."""

    def step(items: tuple[Any, ...], o: Operation) -> Iterable[State]:
        if o.name == "append":
            yield (*items, o.argument)
        elif not items:
            if o.is_pending or o.result == "empty":
                yield items
        elif o.name == "pop" and (o.is_pending or o.result == items[-1]):
            yield items[:-1]
        elif o.name == "pop_first" and (o.is_pending or o.result == items[0]):
            yield items[1:]

    return Model((), step, _items_order)
