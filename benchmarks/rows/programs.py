"""Whole programs as people write them, from the making of their pool or processes to its end, warm: the second time."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Any

from rows import check, joined, row, started, times

COMPUTES = times(1.03)
TALKS = times(1.5)


def _whole_s(act: Callable[[], Any]) -> tuple[Any, float]:
    act()  # what a session's start costs has a row of its own (first_put_get), and is the same for a long program
    began = time.perf_counter()
    answer = act()
    return answer, time.perf_counter() - began


def _pooled(mp: Any, size: int, function: Callable[..., Any], items: Any) -> Any:
    pool = mp.Pool(size)
    answers = list(pool.map(function, items))
    pool.close()
    pool.join()
    return answers


def hits(seed: int, count: int = 500_000) -> int:
    draw = random.Random(seed).random
    return sum(1 for _ in range(count) if draw() ** 2 + draw() ** 2 < 1)


@row(COMPUTES)
def pi(mp: Any) -> float:
    found, seconds = _whole_s(lambda: _pooled(mp, 10, hits, range(10)))
    check(abs(4 * sum(found) / 5_000_000 - 3.14159) < 0.005)
    return seconds


def forecast(seed: int, paths: int = 60, days: int = 1080) -> tuple[float, float]:
    """Geometric Brownian motion: the mean of the last prices, and the highest of all."""
    import numpy as np

    drift, volatility, step = 0.05, 0.2, 1 / 252
    shocks = np.random.default_rng(seed).standard_normal((paths, days))
    moves = (drift - volatility**2 / 2) * step + volatility * step**0.5 * shocks
    prices = 100 * np.exp(np.cumsum(moves, axis=1))
    return float(prices[:, -1].mean()), float(prices.max())


@row(COMPUTES)
def stock_forecast(mp: Any) -> float:
    expected = forecast(57)
    found, seconds = _whole_s(lambda: _pooled(mp, 2, forecast, range(400)))
    check(len(found) == 400 and tuple(found[57]) == expected)
    return seconds


def mandelbrot_row(y: int, size: int = 300, most: int = 60) -> list[int]:
    counts = []
    for x in range(size):
        c, z, n = complex(-2.2 + 3 * x / size, -1.5 + 3 * y / size), 0j, 0
        while n < most and z.real * z.real + z.imag * z.imag <= 4:
            z, n = z * z + c, n + 1
        counts.append(n)
    return counts


@row(COMPUTES)
def mandelbrot_rows(mp: Any) -> float:
    found, seconds = _whole_s(lambda: _pooled(mp, 2, mandelbrot_row, range(300)))
    check(all(list(found[y]) == mandelbrot_row(y) for y in (0, 90, 150, 299)))
    return seconds


def fitness(parameters: Any, seed: int) -> float:
    import numpy as np

    noise = np.random.default_rng(seed).standard_normal(parameters.size)
    return float(-((parameters + 0.1 * noise - 1) ** 2).mean())


@row(COMPUTES)
def evolution_strategy(mp: Any) -> float:
    import numpy as np

    def run() -> list[float]:
        parameters, pool, best = np.zeros(100_000), mp.Pool(2), []
        for generation in range(4):
            seeds = range(generation * 64, generation * 64 + 64)
            scores = np.array(pool.map(functools.partial(fitness, parameters), seeds))
            weights = (scores - scores.mean()) / scores.std()
            steps = (
                w * np.random.default_rng(s).standard_normal(parameters.size)
                for w, s in zip(weights, seeds, strict=True)
            )
            parameters = parameters + 0.05 / 64 * sum(steps)
            best.append(float(scores[9]))
        pool.close()
        pool.join()
        return best

    best, seconds = _whole_s(run)
    check(best[0] == fitness(np.zeros(100_000), 9) and len(best) == 4)
    return seconds


data: tuple[Any, Any]  # what a worker's initializer has loaded


def load(x: Any, y: Any) -> None:
    global data
    data = x, y


def ridge(choice: tuple[float, int]) -> float:
    """The error on one third of the data of a ridge regression fitted to the others."""
    import numpy as np

    (alpha, fold), (x, y) = choice, data
    third = len(x) // 3
    test = slice(fold * third, fold * third + third)
    seen, known = np.delete(x, test, 0), np.delete(y, test, 0)
    weights = np.linalg.solve(seen.T @ seen + alpha * np.eye(x.shape[1]), seen.T @ known)
    return float(((x[test] @ weights - y[test]) ** 2).mean())


@row(COMPUTES)
def grid_search(mp: Any) -> float:
    import numpy as np

    draw = np.random.default_rng(5)
    x = draw.standard_normal((30_000, 100))
    y = x @ draw.standard_normal(100) + draw.standard_normal(30_000)
    choices = [(10.0 ** (k - 8), fold) for k in range(16) for fold in range(3)]

    def run() -> list[float]:
        pool = mp.Pool(2, load, (x, y))
        errors = list(pool.map(ridge, choices))
        pool.close()
        pool.join()
        return errors

    errors, seconds = _whole_s(run)
    load(x, y)
    check(all(abs(errors[k] - ridge(choices[k])) < 1e-9 for k in (0, 47)))
    return seconds


def _square(mp: Any) -> tuple[list[Any], list[Any]]:
    """Pipes between four: each one's end to its neighbour in the lowest bit of its number, and in the highest."""
    low, (a, c), (b, d) = [*mp.Pipe(), *mp.Pipe()], mp.Pipe(), mp.Pipe()
    return low, [a, b, c, d]


def sort_part(rank: int, numbers: list[int], low: Any, high: Any, results: Any) -> None:
    def swapped(link: Any, numbers: list[int], pivot: int, is_upper: bool) -> list[int]:
        link.send([x for x in numbers if (x < pivot) == is_upper])
        return [x for x in numbers if (x < pivot) != is_upper] + link.recv()

    numbers = swapped(high, numbers, 500_000, rank >= 2)
    numbers = swapped(low, numbers, 750_000 if rank >= 2 else 250_000, rank % 2 == 1)
    results.put((rank, sorted(numbers)))


@row(TALKS)
def quicksort_over_pipes(mp: Any) -> float:
    draw = random.Random(3)
    numbers = [draw.randrange(1_000_000) for _ in range(100_000)]

    def run() -> list[int]:
        results, (low, high) = mp.Queue(), _square(mp)
        calls = [(rank, numbers[rank::4], low[rank], high[rank], results) for rank in range(4)]
        processes = started(mp, sort_part, calls)
        parts: dict[int, list[int]] = dict(results.get() for _ in processes)
        joined(processes)
        return [x for rank in range(4) for x in parts[rank]]

    found, seconds = _whole_s(run)
    check(found == sorted(numbers))
    return seconds


def pass_on(rank: int, left: Any, right: Any, results: Any) -> None:
    import numpy as np

    array = np.zeros(1_250_000)
    for _ in range(3):
        if rank == 0:
            right.send(array)
        array = left.recv() + 1
        if rank:
            right.send(array)
    if rank == 0:
        results.put((float(array.min()), float(array.max())))


@row(TALKS)
def ring(mp: Any) -> float:
    def run() -> Any:
        results, pipes = mp.Queue(), [mp.Pipe(False) for _ in range(4)]
        calls = [(k, pipes[k - 1][0], pipes[k][1], results) for k in range(4)]
        processes = started(mp, pass_on, calls)
        found = results.get()
        joined(processes)
        return found

    found, seconds = _whole_s(run)
    check(tuple(found) == (12.0, 12.0))
    return seconds


def add_up(rank: int, low: Any, high: Any, results: Any) -> None:
    import numpy as np

    sums = []
    for step in range(5):
        array = np.full(500_000, float(rank + step))
        for link, is_first in ((low, rank % 2 == 0), (high, rank < 2)):
            if is_first:
                link.send(array)
                other = link.recv()
            else:
                other = link.recv()
                link.send(array)
            array = array + other
        sums.append((float(array.min()), float(array.max())))
    results.put((rank, sums))


@row(TALKS)
def allreduce(mp: Any) -> float:
    def run() -> list[Any]:
        results, (low, high) = mp.Queue(), _square(mp)
        processes = started(mp, add_up, [(rank, low[rank], high[rank], results) for rank in range(4)])
        found = [results.get() for _ in processes]
        joined(processes)
        return found

    found, seconds = _whole_s(run)
    check(sorted(rank for rank, _ in found) == [0, 1, 2, 3])
    check(all(list(map(tuple, sums)) == [(6.0 + 4 * step,) * 2 for step in range(5)] for _, sums in found))
    return seconds
