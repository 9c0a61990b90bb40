"""Pools: their generic calls, results and helpers."""

import multiprocessing as mp
import multiprocessing.pool
from collections.abc import Callable, Iterable
from multiprocessing.pool import (
    ApplyResult,
    AsyncResult,
    IMapIterator,
    MapResult,
    Pool as PoolType,
    ThreadPool,
)
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def each(pool: PoolType, function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    return pool.map(function, items, chunksize=4)


def length(text: str) -> int:
    return len(text)


def power(base: float, exponent: int) -> float:
    return base**exponent


class Runner:
    def __init__(self, processes: int | None = None) -> None:
        self.pool = mp.Pool(processes, initializer=print, initargs=("ready",), maxtasksperchild=100)
        self.pending: list[AsyncResult[int]] = []
        self.lengths: multiprocessing.pool.MapResult[int] | None = None

    def submit(self, text: str) -> None:
        self.pending.append(
            self.pool.apply_async(length, (text,), {}, callback=self.got, error_callback=self.lost)
        )

    def got(self, result: int) -> None:
        print("got", result + 1)

    def lost(self, error: BaseException) -> None:
        print("lost", error.args)

    def results(self) -> list[int]:
        return [result.get(timeout=1.0) for result in self.pending if result.ready() and result.successful()]

    def __enter__(self) -> "Runner":
        self.pool.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.close()
        self.pool.join()


def use(pool: PoolType) -> float:
    words = ["a", "bc", "def"]
    lengths: list[int] = pool.map(length, words)
    later: MapResult[int] = pool.map_async(length, words, 1, lambda found: print(sum(found)))
    powers: list[float] = pool.starmap(power, [(2.0, 3), (3.0, 2)])
    powers_later: AsyncResult[list[float]] = pool.starmap_async(power, zip([2.0], [3]))
    ordered: IMapIterator[int] = pool.imap(length, iter(words), chunksize=2)
    first: int = ordered.next(timeout=5)
    for found in pool.imap_unordered(length, words):
        first += found
    one: int = pool.apply(length, ("abc",))
    single: ApplyResult[float] = pool.apply_async(power, (2.0, 8))
    single.wait(1)
    return (
        sum(lengths) + sum(later.get()) + sum(powers) + sum(powers_later.get()) + first + one + single.get()
    )


def integrate(function: Callable[[float], float], steps: int, workers: int = 4) -> float:
    with ThreadPool(workers) as pool:
        return sum(pool.map(function, (step / steps for step in range(steps)))) / steps


def choose(threads: bool) -> multiprocessing.pool.Pool:
    return multiprocessing.pool.ThreadPool(2) if threads else multiprocessing.pool.Pool(2)


if __name__ == "__main__":
    with Runner(2) as runner:
        runner.submit("abc")
        print(runner.results(), each(runner.pool, length, ["a"]))
    with mp.get_context("spawn").Pool(2) as spawned, choose(threads=True) as chosen:
        print(use(spawned), use(chosen), integrate(lambda x: x * x, 100))
        spawned.terminate()
