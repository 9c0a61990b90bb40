"""pebble: a ProcessPool with timeouts, cancellation and dying workers; the process and synchronized decorators."""

# requires: pebble
# kills: the pool ends idle workers by SIGTERM, with its lock or without
import multiprocessing
import os
import threading
from concurrent.futures import TimeoutError

from pebble import ProcessExpired, ProcessPool, concurrent


def square(x):
    return x * x


def fail(x):
    raise ValueError(x)


def hang():
    threading.Event().wait()


def die():
    os._exit(7)


@concurrent.process(timeout=30)
def decorated(x, y=1):
    return x + y


def main():
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with ProcessPool(max_workers=2, max_tasks=3, context=context) as pool:
            print(list(pool.map(square, range(8), timeout=60).result()))
            try:
                pool.schedule(fail, args=["no"]).result(60)
            except ValueError as error:
                print("ValueError", error)
            try:
                pool.schedule(die).result(60)
            except ProcessExpired as error:
                print("ProcessExpired", error.exitcode)
            try:
                pool.schedule(hang, timeout=0.2).result(60)
            except TimeoutError:
                print("TimeoutError")
            print(pool.schedule(square, args=[9]).result(60))
    print(decorated(1, y=2).result(60))


if __name__ == "__main__":
    main()
