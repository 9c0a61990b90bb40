"""dask: bags and delayed values on the multiprocessing scheduler, and on a Pool or executor that is given."""

# requires: dask cloudpickle
import multiprocessing
import operator
from concurrent.futures import ProcessPoolExecutor

import dask
import dask.bag
from dask import delayed


def main():
    bag = dask.bag.from_sequence(range(40), npartitions=4)
    even = bag.filter(lambda x: x % 2 == 0).map(lambda x: x * x)
    print(even.sum().compute(scheduler="processes", num_workers=2))
    print(bag.frequencies().topk(2, key=operator.itemgetter(0)).compute())
    with dask.config.set(scheduler="processes", num_workers=2):
        words = delayed(sorted)([delayed(len)("a" * n) for n in (3, 1, 2)])
        print(words.compute())
    with multiprocessing.Pool(2) as pool, dask.config.set(pool=pool):
        print(even.sum().compute(scheduler="processes"))
    with ProcessPoolExecutor(2) as executor:
        print(even.sum().compute(scheduler="processes", pool=executor))


if __name__ == "__main__":
    main()
