"""joblib: its multiprocessing backend with memmapped arrays, callbacks and nested calls; loky, which is joblib's own."""

# requires: joblib numpy
import joblib
import numpy as np
from joblib import Parallel, delayed, parallel_backend, parallel_config


def scale(x, factor=1):
    return x * factor


def total(array, lo, hi):
    return float(array[lo:hi].sum())


def fail(x):
    if x == 1:  # of several failures, which one is seen first varies
        raise ValueError("item %d" % x)


def nested(n):
    return sum(Parallel(n_jobs=2)(delayed(scale)(x) for x in range(n)))


def main():
    with parallel_backend("multiprocessing", n_jobs=2):
        print(Parallel()(delayed(scale)(x, factor=2) for x in range(20)))
        print(Parallel(batch_size=3, pre_dispatch="2*n_jobs")(delayed(scale)(x) for x in range(10)))
        print(Parallel()(delayed(nested)(n) for n in range(4)))
    with parallel_config(backend="multiprocessing", n_jobs=2):
        array = np.arange(300_000, dtype=float)  # above max_nbytes: workers see it as a memmap
        print(Parallel()(delayed(total)(array, lo, lo + 100_000) for lo in range(0, 300_000, 100_000)))
        try:
            Parallel()(delayed(fail)(x) for x in range(3))
        except ValueError as error:
            print(error)
        with Parallel() as parallel:
            print([sum(parallel(delayed(scale)(x) for x in range(n))) for n in range(4)])
    print(Parallel(n_jobs=2, backend="threading")(delayed(scale)(x) for x in range(4)))
    print(Parallel(n_jobs=2, backend="loky")(delayed(abs)(x) for x in range(-3, 3)))
    print(joblib.cpu_count() >= 1)


if __name__ == "__main__":
    main()
