"""Queues and pipes, between processes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from rows import check, joined, median_s, row, so_much, started, times, wire


def produce(queue: Any, first: int, count: int) -> None:
    for i in range(first, first + count):
        queue.put(i)


def produce_megabytes(queue: Any, count: int) -> None:
    for i in range(count):
        queue.put(i.to_bytes(4, "big") + bytes(999_996))


def send_megabytes(writer: Any, count: int) -> None:
    for i in range(count):
        writer.send(i.to_bytes(4, "big") + bytes(999_996))
    writer.close()


def produce_when_told(queue: Any, times: Any, go: Any, first: int, count: int) -> None:
    times.put(0.0)
    go.wait()
    began = time.monotonic()
    produce(queue, first, count)
    times.put(began)


def consume(queue: Any, results: Any) -> None:
    results.put(0.0)
    got, last = [], 0.0
    while (item := queue.get()) is not None:
        got.append(item)
        last = time.monotonic()
    results.put((last, got))


def echo(connection: Any) -> None:
    while (item := connection.recv()) is not None:
        connection.send(item)


def _drained(mp: Any, count: int) -> float:
    """Seconds an item, after the first: without the child's start."""
    queue = mp.Queue()
    producer = started(mp, produce, [(queue, 0, count)])
    got = [queue.get()]
    began = time.perf_counter()
    while len(got) < count:
        got.append(queue.get())
    taken = time.perf_counter() - began
    joined(producer)
    check(got == list(range(count)), "items lost, doubled or out of order")
    return taken / (count - 1)


@row(so_much(0.3))
def first_put_get(mp: Any) -> float:
    """The session's start, agent and server included."""
    began = time.perf_counter()
    queue = mp.Queue()
    queue.put(7)
    check(queue.get() == 7)
    return time.perf_counter() - began


@row(times(2.0))
def queue_1_to_1(mp: Any) -> float:
    _drained(mp, 500)
    return statistics.median([_drained(mp, 5000) for _ in range(3)])


@row(times(1.0))
def queue_4_to_4(mp: Any) -> float:
    queue, told, go, count = mp.Queue(), mp.Queue(), mp.Event(), 2000
    producers = started(mp, produce_when_told, [(queue, told, go, k * count, count) for k in range(4)])
    consumers = started(mp, consume, [(queue, told)] * 4)
    check([told.get() for _ in range(8)] == [0.0] * 8)
    go.set()
    began = min(told.get() for _ in range(4))
    joined(producers)
    for _ in consumers:
        queue.put(None)
    ends = [told.get() for _ in consumers]
    joined(consumers)
    check(sorted(item for _, got in ends for item in got) == list(range(4 * count)), "not exactly once")
    ended: float = max(last for last, _ in ends)
    return (ended - began) / (4 * count)


def _megabytes(count: int, get: Callable[[], bytes]) -> float:
    blocks = [get()]
    began = time.perf_counter()
    while len(blocks) < count:
        blocks.append(get())
    taken = time.perf_counter() - began
    check(all(len(b) == 1_000_000 and b[:4] == i.to_bytes(4, "big") for i, b in enumerate(blocks)))
    return taken / (count - 1)


@row(times(1.0))
def queue_1_mb(mp: Any) -> float:
    def once(count: int) -> float:
        queue = mp.Queue()
        producer = started(mp, produce_megabytes, [(queue, count)])
        taken = _megabytes(count, queue.get)
        joined(producer)
        return taken

    once(5)
    return statistics.median([once(100) for _ in range(3)])


@row(times(1.2))
def pipe_1_mb(mp: Any) -> float:
    def once(count: int) -> float:
        reader, writer = mp.Pipe(False)
        producer = started(mp, send_megabytes, [(writer, count)])
        writer.close()
        taken = _megabytes(count, reader.recv)
        joined(producer)
        return taken

    once(5)
    return statistics.median([once(100) for _ in range(3)])


@row(times(1.3, wire.echo_s))
def pipe_echo(mp: Any) -> float:
    ours, theirs = mp.Pipe()
    child = started(mp, echo, [(theirs,)])

    def once() -> int:
        ours.send(7)
        answer: int = ours.recv()
        return answer

    once()
    seconds = median_s(once, 2000, 7)
    ours.send(None)
    joined(child)
    return seconds
