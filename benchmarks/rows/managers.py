"""Objects of a Manager, from the root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rows import check, each_s, row, times, wire


@contextmanager
def managed(mp: Any) -> Iterator[Any]:
    manager = mp.Manager()
    yield manager
    manager.shutdown()


@row(times(1.0), times(1.3, wire.trip_s))
def manager_dict_set(mp: Any) -> float:
    with managed(mp) as manager:
        shared, last = manager.dict(), {}

        def once(i: int) -> None:
            shared[i % 100] = i
            last[i % 100] = i

        seconds = each_s(once)
        check(dict(shared.items()) == last)
        return seconds


@row(times(1.0), times(1.3, wire.trip_s))
def manager_dict_get(mp: Any) -> float:
    with managed(mp) as manager:
        shared = manager.dict({i: i for i in range(100)})
        return each_s(lambda i: check(shared[i % 100] == i % 100))


@row(times(1.0), times(1.3, wire.trip_s))
def manager_list_append(mp: Any) -> float:
    with managed(mp) as manager:
        shared, mine = manager.list(), []

        def once(i: int) -> None:
            shared.append(i)
            mine.append(i)

        seconds = each_s(once)
        check(list(shared[:]) == mine)
        return seconds


@row(times(1.0), times(1.3, wire.trip_s))
def manager_namespace_set(mp: Any) -> float:
    with managed(mp) as manager:
        names = manager.Namespace()

        def once(i: int) -> None:
            names.x = i

        seconds = each_s(once)
        names.x = 8
        check(names.x == 8)
        return seconds


@row(times(1.0), times(1.3, wire.trip_s))
def manager_namespace_get(mp: Any) -> float:
    with managed(mp) as manager:
        names = manager.Namespace(x=7)
        return each_s(lambda _: check(names.x == 7))


@row(times(1.0), times(1.3, wire.trip_s))
def manager_queue_put(mp: Any) -> float:
    with managed(mp) as manager:
        queue, count = manager.Queue(), 0

        def once(i: int) -> None:
            nonlocal count
            queue.put(i)
            count += 1

        seconds = each_s(once)
        check(queue.qsize() == count)
        return seconds
