# Dies of an exception that a worker raised: the traceback goes to stderr, the status is 1. fork spawn
import multiprocessing
import sys


def f(x):
    return 10 // x


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    q = multiprocessing.Queue()
    q.put("before")
    print(q.get())
    sys.stdout.flush()
    pool = multiprocessing.Pool(2)
    print(pool.map(f, [5, 2, 0]))
