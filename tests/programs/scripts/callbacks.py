# apply_async with callbacks and error callbacks, imap_unordered in chunks, maxtasksperchild, exceptions. fork spawn
import itertools
import multiprocessing
import os
import sys
import traceback

results = []
errors = []


def work(x):
    if x % 5 == 4:
        raise ValueError("cannot do %d" % x)
    return x, x * 10


def pid_of(_):
    return os.getpid()


def slow_sum(a, b, c=0):
    return a + b + c


def collect(result):
    results.append(result)


def main():
    pool = multiprocessing.Pool(3)
    jobs = [pool.apply_async(work, (x,), callback=collect, error_callback=errors.append) for x in range(10)]
    pool.close()
    pool.join()
    print(sorted(results))
    print(sorted(str(e) for e in errors), [j.successful() for j in jobs])

    with multiprocessing.Pool(2, maxtasksperchild=2) as pool:
        print(sorted(pool.imap_unordered(abs, range(-50, 50), chunksize=7)))
        pids = pool.map(pid_of, range(12), chunksize=1)
        most = max(pids.count(pid) for pid in set(pids))
        print("tasks a child:", most, "children:", len(set(pids)) >= 6)
        print(pool.starmap(slow_sum, [(1, 2), (3, 4, 5)]), pool.apply(slow_sum, (1, 2), {"c": 3}))
        it = pool.imap(work, itertools.count())
        print(next(it), it.next(timeout=60), next(it))
    try:
        with multiprocessing.Pool(2) as pool:
            pool.map(work, range(5))
    except ValueError as error:
        print(type(error).__name__, error)
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        print("RemoteTraceback" in text, 'raise ValueError("cannot do %d" % x)' in text)
    with multiprocessing.Pool(1) as pool:
        try:
            pool.apply_async(sys.stdin.__class__.__init__, ()).get(60)
        except TypeError:
            print("TypeError")
        try:
            pool.apply(open_file, ())
        except multiprocessing.pool.MaybeEncodingError as error:
            print("cannot send", "TextIOWrapper" in str(error))
        result = pool.apply_async(pid_of, (0,))
        result.wait()
        print(result.ready(), result.successful(), len(pool._pool))
    try:
        pool.map(abs, [1])
    except ValueError as error:
        print(error)


def open_file():
    return open(os.devnull)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
