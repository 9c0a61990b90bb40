"""concurrent.futures.ProcessPoolExecutor: contexts, initializer, map with chunks, exceptions, a worker that dies."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool

STATE = None


def initialize(value):
    global STATE
    STATE = value


def state(x):
    return STATE, x


def square(x):
    return x * x


def fail(x):
    raise KeyError(x)


def die():
    os._exit(3)


def bad_initializer():
    raise RuntimeError("no")


def nested(n):
    with ProcessPoolExecutor(2) as executor:
        return sum(executor.map(square, range(n)))


def main():
    with ProcessPoolExecutor() as executor:
        print(list(executor.map(square, range(10), chunksize=3)))
        print(executor.submit(nested, 4).result(60))
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(
            2, mp_context=context, initializer=initialize, initargs=(method,)
        ) as executor:
            futures = [executor.submit(state, x) for x in range(5)]
            print(sorted(future.result(60) for future in as_completed(futures)))
            failing = executor.submit(fail, "gone")
            wait([failing])
            print(repr(failing.exception()))
            dying = executor.submit(die)
            try:
                dying.result(60)
            except BrokenProcessPool as error:
                print("BrokenProcessPool", error)
            try:
                executor.submit(square, 2)
            except BrokenProcessPool as error:
                print("BrokenProcessPool", error)
    executor = ProcessPoolExecutor(1)
    futures = [executor.submit(square, x) for x in range(50)]
    executor.shutdown(wait=True, cancel_futures=True)
    print(all(future.cancelled() or future.result() == x * x for x, future in enumerate(futures)))
    executor = ProcessPoolExecutor(2)
    print(executor.submit(square, 12).result(60), "left running")  # the interpreter's end shuts it down


if __name__ == "__main__":
    main()
