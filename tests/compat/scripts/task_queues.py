"""huey's and dramatiq's primitives: a consumer with worker processes over SQLite; dramatiq's canteen in shared memory."""

# requires: huey dramatiq
import multiprocessing
import os
import tempfile

from dramatiq import canteen
from huey import SqliteHuey
from huey.consumer import Consumer


def fill(shared):
    with canteen.canteen_try_init(shared) as is_first:
        if is_first:
            canteen.canteen_add(shared, "app.tasks")
            canteen.canteen_add(shared, "app.more")


def main():
    shared = multiprocessing.Value(canteen.Canteen)
    processes = [multiprocessing.Process(target=fill, args=(shared,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(canteen.canteen_get(shared, timeout=10))

    with tempfile.TemporaryDirectory() as folder:
        huey = SqliteHuey("tasks", filename=os.path.join(folder, "queue.db"))

        @huey.task()
        def double(n):
            return 2 * n

        consumer = Consumer(
            huey, workers=2, worker_type="process", periodic=False, initial_delay=0.01, max_delay=0.05
        )
        consumer.start()
        results = [double(n) for n in range(6)]
        print([result.get(blocking=True, timeout=30) for result in results])
        consumer.stop(graceful=True)


if __name__ == "__main__":
    main()
