"""joblib's backend "cloudpool", which a program asks for."""

import pytest
from running import python

PROGRAM = """
import sys
import numpy as np
import cloudpool
import cloudpool.joblib
from joblib import Parallel, delayed, parallel_config

def total(array, lo, hi):
    return float(array[lo:hi].sum())

def write(out, i):
    out[i] = i + 1

def nested(n):
    return sum(Parallel(n_jobs=2)(delayed(abs)(x) for x in range(n)))

if __name__ == "__main__":
    cloudpool.set_start_method(sys.argv[1])
    with parallel_config("cloudpool", n_jobs=2):
        array = np.arange(300_000, dtype=float)
        print(Parallel()(delayed(total)(array, lo, lo + 100_000) for lo in range(0, 300_000, 100_000)))
        print(Parallel()(delayed(nested)(n) for n in range(4)))
        out = np.memmap("out", dtype=float, shape=5, mode="w+")
        Parallel()(delayed(write)(out[1:], i) for i in range(4))
        print(out.tolist())
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_arrays_nested_calls_and_an_array_that_workers_write_to(method, tmp_path):
    pytest.importorskip("joblib")
    pytest.importorskip("numpy")
    (tmp_path / "program.py").write_text(PROGRAM)
    done = python(["program.py", method], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[4999950000.0, 14999950000.0, 24999950000.0]",
        "[0, 0, 1, 3]",
        "[0.0, 1.0, 2.0, 3.0, 4.0]",
    ]
