"""mpire: a WorkerPool with shared objects, worker state, ids, init and exit functions, apply with callbacks."""

# requires: mpire
from mpire import WorkerPool


def plus(shared, x):
    return shared["base"] + x


def init(worker_state):
    worker_state["seen"] = 0


def count(worker_state, x):
    worker_state["seen"] += 1
    return x


def leave(worker_state):
    return worker_state["seen"]


def fail(x):
    raise ValueError("item %d" % x)


def main():
    for method in ("fork", "spawn"):
        with WorkerPool(n_jobs=2, shared_objects={"base": 100}, start_method=method) as pool:
            print(pool.map(plus, range(10), chunk_size=3))
            print(sorted(pool.imap_unordered(plus, range(5))))
        with WorkerPool(n_jobs=2, use_worker_state=True, start_method=method) as pool:
            print(pool.map(count, range(10), worker_init=init, worker_exit=leave))
            print(sum(pool.get_exit_results()))
    with WorkerPool(n_jobs=2, keep_alive=True) as pool:
        results = [pool.apply_async(abs, (-x,)) for x in range(5)]
        print([result.get(timeout=60) for result in results])
        try:
            pool.map(fail, range(4))
        except ValueError as error:
            print("ValueError", str(error).splitlines()[-1][:4])
    with WorkerPool(n_jobs=2, enable_insights=True) as pool:
        pool.map(abs, range(20))
        print(sum(pool.get_insights()["n_completed_tasks"]))


if __name__ == "__main__":
    main()
