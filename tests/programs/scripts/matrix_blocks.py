"""Blocks of a matrix product into one SharedMemory; and a global array that forked workers of a Pool write to. fork"""

import ctypes
import multiprocessing
from multiprocessing import shared_memory

import numpy as np

SHAPE = (24, 24)
base = multiprocessing.Array(ctypes.c_double, SHAPE[0] * SHAPE[1])
grid = np.ctypeslib.as_array(base.get_obj()).reshape(SHAPE)


def fill(i, def_param=base):
    grid[i, :] = i
    return i


def multiply(job):
    name_a, name_c, lo, hi = job
    a_mem = shared_memory.SharedMemory(name=name_a)
    c_mem = shared_memory.SharedMemory(name=name_c)
    a = np.ndarray(SHAPE, dtype=np.float64, buffer=a_mem.buf)
    c = np.ndarray(SHAPE, dtype=np.float64, buffer=c_mem.buf)
    c[lo:hi] = a[lo:hi] @ a
    trace = float(np.trace(c[lo:hi, lo:hi]))
    del a, c
    a_mem.close()
    c_mem.close()
    return lo, round(trace, 6)


if __name__ == "__main__":
    rng = np.random.RandomState(3)
    source = rng.rand(*SHAPE)
    a_mem = shared_memory.SharedMemory(create=True, size=source.nbytes)
    c_mem = shared_memory.SharedMemory(create=True, size=source.nbytes)
    a = np.ndarray(SHAPE, dtype=np.float64, buffer=a_mem.buf)
    a[:] = source
    pool = multiprocessing.Pool(processes=4)
    print(pool.map(fill, range(SHAPE[0])) == list(range(SHAPE[0])))
    print(grid[:, 0].tolist())
    jobs = [(a_mem.name, c_mem.name, lo, lo + 6) for lo in range(0, 24, 6)]
    for lo, trace in pool.imap(multiply, jobs):
        print(lo, trace)
    c = np.ndarray(SHAPE, dtype=np.float64, buffer=c_mem.buf)
    print(np.allclose(c, source @ source))
    del a, c
    pool.close()
    pool.join()
    names = shared_memory.ShareableList(["alpha", 1, 2.5, None, True])
    names[0] = "beta"
    print(list(names), names.count(1))
    names.shm.close()
    names.shm.unlink()
    for mem in (a_mem, c_mem):
        mem.close()
        mem.unlink()
    try:
        shared_memory.SharedMemory(name=a_mem.name)
    except FileNotFoundError:
        print("unlinked")
