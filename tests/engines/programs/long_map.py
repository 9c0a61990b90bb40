"""A map of 5,000, or as many as it is told, that takes half a minute; says when its workers are there."""

import sys
import time

import cloudpool as multiprocessing


def work(i):
    time.sleep(0.03)
    return i * i


if __name__ == "__main__":
    with multiprocessing.Pool() as pool:
        pool.map(work, range(10))
        print("ready", flush=True)
        count = int(sys.argv[1]) if sys.argv[1:] else 5000
        results = pool.map(work, range(count), chunksize=5)
    print(results == [i * i for i in range(count)])
