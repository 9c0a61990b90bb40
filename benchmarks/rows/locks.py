"""Synchronization that nobody contends for: beside the bare round trips that it must at least make."""

from __future__ import annotations

from typing import Any

from rows import check, each_s, row, times, wire


def _pair_s(lock: Any) -> float:
    def once(_: int) -> None:
        lock.acquire()
        lock.release()

    return each_s(once)


@row(times(1.3, wire.pair_s))
def lock_pair(mp: Any) -> float:
    lock = mp.Lock()
    seconds = _pair_s(lock)
    check(lock.acquire(False) and not lock.acquire(False))
    lock.release()
    return seconds


@row(times(1.3, wire.pair_s))
def semaphore_pair(mp: Any) -> float:
    semaphore = mp.Semaphore(1)
    seconds = _pair_s(semaphore)
    check(semaphore.acquire(False) and not semaphore.acquire(False), "the count is lost")
    semaphore.release()
    return seconds


@row(times(1.3, wire.trip_s))
def event_set(mp: Any) -> float:
    event = mp.Event()
    seconds = each_s(lambda _: event.set())
    check(event.is_set())
    return seconds


@row(times(1.3, wire.pair_s))
def value_increment(mp: Any) -> float:
    value, done = mp.Value("i", 0), 0

    def once(_: int) -> None:
        nonlocal done
        with value.get_lock():
            value.value += 1
        done += 1

    seconds = each_s(once)
    check(value.value == done)
    return seconds


@row(times(1.3, wire.pair_s))
def locked_element(mp: Any) -> float:
    array = mp.Array("i", 1000)

    def once(i: int) -> None:
        array[i % 1000] = i

    seconds = each_s(once)
    array[7] = 8
    check(array[7] == 8)
    return seconds


@row(times(1.3, wire.pair_s))
def locked_slice(mp: Any) -> float:
    array, numbers = mp.Array("i", 1000), list(range(1000))

    def once(_: int) -> None:
        array[:] = numbers

    seconds = each_s(once)
    check(array[:] == numbers)
    return seconds
