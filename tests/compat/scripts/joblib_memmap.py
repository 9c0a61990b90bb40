"""joblib: its multiprocessing backend, whose workers write into one array, the documented way."""

# requires: joblib numpy
# one host: workers write to a file of this machine
import os
import tempfile

import numpy as np
from joblib import Parallel, delayed


def write(out, i):
    out[i] = i + 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        out = np.memmap(os.path.join(folder, "out"), dtype=float, shape=5, mode="w+")
        Parallel(n_jobs=2, backend="multiprocessing")(delayed(write)(out, i) for i in range(5))
        print(out.tolist())
        half = out[1:4]
        Parallel(n_jobs=2, backend="multiprocessing")(delayed(write)(half, i) for i in range(3))
        print(out.tolist())
