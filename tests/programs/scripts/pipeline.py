# Stages connected by bounded queues, Conditions and Events between them; ends by sentinel. fork spawn
import multiprocessing
import queue
import sys


def producer(out, n, started):
    started.wait()
    for i in range(n):
        out.put(i)
    out.put(None)
    out.close()
    out.join_thread()


def square(inp, out):
    for i in iter(inp.get, None):
        out.put(i * i)
    inp.put(None)  # for the sibling
    out.put(None)


def stage(cond, turn, me, order):
    with cond:
        cond.wait_for(lambda: turn.value == me)
        order.put(me)
        turn.value += 1
        cond.notify_all()


def meet(barrier, q):
    q.put(barrier.wait() < 3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    first, second = multiprocessing.Queue(maxsize=3), multiprocessing.Queue(maxsize=3)
    started = multiprocessing.Event()
    procs = [
        multiprocessing.Process(target=producer, args=(first, 30, started)),
        multiprocessing.Process(target=square, args=(first, second)),
        multiprocessing.Process(target=square, args=(first, second)),
    ]
    for p in procs:
        p.start()
    started.set()
    got, ends = [], 0
    while ends < 2:
        item = second.get()
        if item is None:
            ends += 1
        else:
            got.append(item)
    print(sorted(got) == [i * i for i in range(30)])
    print(first.get())  # the pill that is left over
    for p in procs:
        p.join()
    try:
        second.get(timeout=0.05)
    except queue.Empty:
        print("empty")
    full = multiprocessing.Queue(1)
    full.put(1)
    try:
        full.put_nowait(2)
    except queue.Full:
        print("full", full.get())

    cond, turn, order = (
        multiprocessing.Condition(),
        multiprocessing.Value("i", 0),
        multiprocessing.SimpleQueue(),
    )
    procs = [multiprocessing.Process(target=stage, args=(cond, turn, i, order)) for i in (2, 0, 1)]
    for p in procs:
        p.start()
    for p in procs:
        p.join()
    print([order.get() for _ in procs])
    barrier, met = multiprocessing.Barrier(3), multiprocessing.Queue()
    procs = [multiprocessing.Process(target=meet, args=(barrier, met)) for _ in range(2)]
    for p in procs:
        p.start()
    meet(barrier, met)
    for p in procs:
        p.join()
    print([met.get() for _ in range(3)], barrier.broken)
    lock = multiprocessing.RLock()
    with lock, lock:
        print(lock.acquire(timeout=1))
        lock.release()
    bounded = multiprocessing.BoundedSemaphore(2)
    try:
        bounded.release()
    except ValueError as error:
        print(error)
