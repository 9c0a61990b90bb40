"""Explicit heat equation on a rod: a slab a process, shared numpy arrays, a Barrier between steps. fork spawn"""

from multiprocessing import Array, Barrier, Process, RawArray, set_start_method
import sys

import numpy as np

N = 64
STEPS = 40


def as_numpy(shared):
    return np.frombuffer(shared.get_obj() if hasattr(shared, "get_obj") else shared, dtype=np.float64)


def slab(lo, hi, a, b, barrier, norms, rank):
    now, then = as_numpy(a), as_numpy(b)
    for _ in range(STEPS):
        then[lo:hi] = now[lo:hi] + 0.25 * (now[lo - 1 : hi - 1] - 2 * now[lo:hi] + now[lo + 1 : hi + 1])
        barrier.wait()
        now, then = then, now
        barrier.wait()
    norms[rank] = float(np.abs(now[lo:hi]).sum())


def serial():
    now = np.zeros(N)
    now[N // 2] = 100.0
    for _ in range(STEPS):
        then = now.copy()
        then[1:-1] = now[1:-1] + 0.25 * (now[:-2] - 2 * now[1:-1] + now[2:])
        now = then
    return now


def main():
    workers = 3
    a, b = Array("d", N), RawArray("d", N)
    norms = Array("d", workers, lock=False)
    as_numpy(a)[N // 2] = 100.0
    as_numpy(b)[N // 2] = 100.0
    barrier = Barrier(workers)
    edges = np.linspace(1, N - 1, workers + 1).astype(int)
    jobs = [
        Process(target=slab, args=(int(edges[i]), int(edges[i + 1]), a, b, barrier, norms, i))
        for i in range(workers)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    result = as_numpy(a if STEPS % 2 == 0 else b)
    print(np.array_equal(result, serial()))
    print(" ".join("%.4f" % x for x in result[N // 2 - 4 : N // 2 + 5]))
    print(" ".join("%.6f" % x for x in norms), "%.6f" % sum(norms[:]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        set_start_method(sys.argv[1])
    main()
