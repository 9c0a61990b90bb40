"""A task that uses more memory than its pod has."""

import cloudpool as multiprocessing
import cloudpool.errors


def greedy(_):
    return len(bytearray(1 << 30))


if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        try:
            pool.apply(greedy, (1,))
        except cloudpool.errors.WorkerLostError as error:
            print(type(error).__name__, error)
        print(pool.apply(abs, (-3,)))
