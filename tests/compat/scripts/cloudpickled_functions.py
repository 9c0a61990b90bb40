"""cloudpickle: functions without a name, and classes of a function's, as bytes to a Pool, executor and queue."""

# requires: cloudpickle
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import cloudpickle


def call(text, *args):
    return cloudpickle.loads(text)(*args)


def main():
    factor = 3

    class Point:
        def __init__(self, x):
            self.x = x

        def scaled(self):
            return self.x * factor

    scaled = cloudpickle.dumps(lambda x: Point(x).scaled())
    with multiprocessing.Pool(2) as pool:
        print(pool.starmap(call, [(scaled, n) for n in range(5)]))
    with ProcessPoolExecutor(2) as executor:
        print(executor.submit(call, scaled, 7).result(60))
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=queue.put, args=(cloudpickle.dumps(lambda: factor),))
    process.start()
    print(cloudpickle.loads(queue.get())())
    process.join()


if __name__ == "__main__":
    main()
