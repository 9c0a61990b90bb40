"""multiprocess, the fork of multiprocessing that pickles with dill, is another package and stays itself; pathos and p_tqdm use it."""

# requires: multiprocess pathos
import multiprocessing

import multiprocess
from pathos.multiprocessing import ProcessingPool
from pathos.pools import ProcessPool


def main():
    with multiprocess.Pool(2) as theirs, multiprocessing.Pool(2) as ours:
        print(theirs.map(lambda x: x + 1, range(5)), ours.map(abs, range(-2, 3)))
    print(multiprocess.Pool.__func__.__module__, multiprocess.Queue().__class__.__module__)
    queue, ours = multiprocess.Queue(), multiprocessing.Queue()
    queue.put(lambda: 4)
    ours.put(5)
    print(queue.get()(), ours.get())
    pool = ProcessPool(nodes=2)
    print(pool.map(lambda x, y: x * y, range(4), range(4)), list(pool.imap(lambda x: -x, range(3))))
    print(pool.amap(pow, [1, 2, 3], [2, 2, 2]).get())
    print(sorted(ProcessingPool(nodes=2).uimap(abs, [-1, 2])))
    pool.close()
    pool.join()
    pool.clear()


if __name__ == "__main__":
    main()
