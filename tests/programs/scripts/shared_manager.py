"""One Manager for two Pools and some processes: who did what is written into shared containers. fork spawn"""

from multiprocessing import Manager, Pool, Process, set_start_method
import sys
from functools import partial


def count(shared, lock, word):
    with lock:
        shared[word] = shared.get(word, 0) + 1
    return len(word)


def collect(ns, names, item):
    names.append(item)
    return ns.factor * item


def finish(ns, shared, queue):
    ns.total = sum(shared.values())
    queue.put(("total", ns.total))


def main():
    text = "the quick brown fox jumps over the lazy dog the end".split()
    manager = Manager()
    shared = manager.dict()
    lock = manager.Lock()
    names = manager.list()
    ns = manager.Namespace(factor=10)
    queue = manager.Queue()

    with Pool(2) as first, Pool(2) as second:
        lengths = first.map_async(partial(count, shared, lock), text)
        scaled = second.map_async(partial(collect, ns, names), range(6))
        print(lengths.get(60), scaled.get(60))
    p = Process(target=finish, args=(ns, shared, queue))
    p.start()
    p.join()
    print(queue.get(), ns.total)
    print(sorted(shared.items()))
    print(sorted(names), len(names), 3 in names)
    nested = manager.dict(a=manager.list([1, 2]))
    nested["a"].append(3)
    print(list(nested["a"]), nested.keys(), ns)
    manager.shutdown()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        set_start_method(sys.argv[1])
    main()
