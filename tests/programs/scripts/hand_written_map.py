# parmap(f, xs) by hand: a process an item, a Semaphore so that no more than `limit` run at once. fork
import multiprocessing
from multiprocessing import Process, Pipe


def spawn(f):
    def fun(pipe, x, slots):
        try:
            pipe.send(f(x))
        finally:
            pipe.close()
            slots.release()

    return fun


def parmap(f, X, limit=3):
    slots = multiprocessing.Semaphore(limit)
    pipe = [Pipe() for x in X]
    proc = []
    for x, (p, c) in zip(X, pipe):
        slots.acquire()
        one = Process(target=spawn(f), args=(c, x, slots))
        one.start()
        proc.append(one)
    out = [p.recv() for (p, c) in pipe]
    [p.join() for p in proc]
    return out


def fun(f, q_in, q_out):
    while True:
        i, x = q_in.get()
        if i is None:
            break
        q_out.put((i, f(x)))


def parmap_queue(f, X, nprocs=3):
    q_in = multiprocessing.Queue(1)
    q_out = multiprocessing.Queue()
    proc = [Process(target=fun, args=(f, q_in, q_out)) for _ in range(nprocs)]
    for p in proc:
        p.daemon = True
        p.start()
    sent = [q_in.put((i, x)) for i, x in enumerate(X)]
    [q_in.put((None, None)) for _ in range(nprocs)]
    res = [q_out.get() for _ in range(len(sent))]
    [p.join() for p in proc]
    return [x for i, x in sorted(res)]


if __name__ == "__main__":
    print(parmap(lambda x: x**x, range(1, 9)))
    print(parmap_queue(lambda i: i * 2, [1, 2, 3, 4, 6, 7, 8]))
    print(parmap_queue(lambda s: s[::-1].upper(), ["ab" * n for n in range(5)]))
