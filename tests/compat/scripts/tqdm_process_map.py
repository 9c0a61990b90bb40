"""tqdm.contrib.concurrent.process_map, and a bar whose lock is shared with the workers of a Pool."""

# requires: tqdm
import io
from multiprocessing import Pool, RLock, freeze_support

from tqdm import tqdm
from tqdm.contrib.concurrent import process_map


def cube(x):
    return x**3


def with_bar(n):
    with tqdm(range(5), desc=str(n), position=n, file=io.StringIO()) as bar:
        return sum(i * n for i in bar)


if __name__ == "__main__":
    freeze_support()
    quiet = io.StringIO()
    print(process_map(cube, range(12), max_workers=2, chunksize=4, file=quiet))
    tqdm.set_lock(RLock())
    with Pool(2, initializer=tqdm.set_lock, initargs=(tqdm.get_lock(),)) as pool:
        print(pool.map(with_bar, range(4)))
        print(sum(tqdm(pool.imap_unordered(cube, range(9)), total=9, file=quiet)))
