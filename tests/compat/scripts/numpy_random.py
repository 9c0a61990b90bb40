"""numpy: generators spawned from one seed sequence, arrays as arguments and results, a memmap, structured arrays."""

# requires: numpy
# one host: a file of this machine is opened by its path
import multiprocessing
import os
import tempfile

import numpy as np


def draw(seed):
    return np.random.default_rng(seed).normal(size=3).round(8).tolist()


def legacy(seed):
    np.random.seed(seed)
    return np.random.rand()


def column(array):
    return array.mean(axis=0)


def read(path, i):
    return int(np.load(path, mmap_mode="r")[i])


if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(draw, np.random.SeedSequence(12).spawn(4)))
        print([round(x, 8) for x in pool.imap(legacy, range(4))])
        big = np.arange(400_000, dtype=np.float32).reshape(4, 1000, 100)
        print(np.concatenate(pool.map(column, big)).sum(), np.array_equal(pool.apply(np.copy, (big,)), big))
        table = np.array([("a", 1), ("b", 2)], dtype=[("name", "U4"), ("n", "i4")])
        print(pool.apply(np.sort, (table,), {"order": "n"}).tolist(), pool.map(np.int64, [1, 2]))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "data.npy")
            np.save(path, np.arange(10))
            print(pool.starmap(read, [(path, i) for i in range(10)]))
