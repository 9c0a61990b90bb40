"""A job server of a BaseManager subclass, with registered queues and a class of its own. fork spawn"""

import multiprocessing
from multiprocessing.managers import BaseManager
import queue
import sys


class Tally:
    def __init__(self, start=0):
        self._n = start

    def add(self, n):
        self._n += n
        return self._n

    def value(self):
        return self._n


class JobManager(BaseManager):
    pass


JobManager.register("Tally", Tally)
JobManager.register("Jobs", queue.Queue)


def runner(jobs, done, tally, lock):
    while True:
        try:
            n = jobs.get_nowait()
        except queue.Empty:
            return
        done.put((n, n**2))
        with lock:
            tally.add(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    manager = JobManager(authkey=b"secret")
    manager.start()
    jobs, done, tally = manager.Jobs(), manager.Jobs(), manager.Tally(100)
    for n in range(12):
        jobs.put(n)
    lock = multiprocessing.Lock()
    procs = [multiprocessing.Process(target=runner, args=(jobs, done, tally, lock)) for _ in range(3)]
    for p in procs:
        p.start()
    for p in procs:
        p.join()
    print(sorted(done.get() for _ in range(12)), tally.value())
    manager.shutdown()
