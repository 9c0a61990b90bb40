"""Every name of `multiprocessing.__all__`, as programs use it."""

import multiprocessing
import queue
import time
from collections.abc import Iterator


class Counter(multiprocessing.Process):
    def __init__(
        self, jobs: "multiprocessing.Queue[int]", results: "multiprocessing.Queue[tuple[str, int]]"
    ) -> None:
        super().__init__(name="counter", daemon=True)
        self.jobs = jobs
        self.results = results
        self.stopped = multiprocessing.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                job: int = self.jobs.get(timeout=0.1)
            except queue.Empty:
                continue
            self.results.put((self.name, job * job))


class Tally:
    """A count that several processes share."""

    def __init__(self) -> None:
        self.value = multiprocessing.Value("i", 0)
        self.history = multiprocessing.Array("d", 10, lock=True)
        self.lock = multiprocessing.Lock()
        self.nested = multiprocessing.RLock()
        self.changed = multiprocessing.Condition(self.nested)
        self.slots = multiprocessing.Semaphore(3)
        self.bounded = multiprocessing.BoundedSemaphore(value=2)
        self.start = multiprocessing.Barrier(2, action=print, timeout=5.0)

    def add(self, amount: int) -> int:
        with self.lock, self.slots, self.bounded:
            with self.value.get_lock():
                self.value.value += amount
            self.history[0] = float(amount)
        with self.changed:
            self.changed.notify_all()
            there: bool = self.changed.wait_for(lambda: self.value.value > 0, timeout=1)
        place: int = self.start.wait()
        return place if there else int(self.value.value)


def consume(todo: "multiprocessing.JoinableQueue[str]", done: "multiprocessing.SimpleQueue[str]") -> None:
    for line in iter(todo.get, ""):
        done.put(line.upper())
        todo.task_done()


def squares(count: int) -> Iterator[tuple[str, int]]:
    jobs: multiprocessing.Queue[int] = multiprocessing.Queue(maxsize=count)
    results: multiprocessing.Queue[tuple[str, int]] = multiprocessing.Queue()
    workers = [Counter(jobs, results) for _ in range(multiprocessing.cpu_count())]
    for worker in workers:
        worker.start()
    for number in range(count):
        jobs.put(number, block=True, timeout=None)
    for _ in range(count):
        yield results.get()
    for worker in workers:
        worker.stopped.set()
        worker.join(timeout=10)
        if worker.is_alive():
            worker.terminate()
        code: int | None = worker.exitcode
        print(worker.name, worker.pid, worker.sentinel, code)
    jobs.close()
    jobs.join_thread()


def talk() -> str:
    ours, theirs = multiprocessing.Pipe(duplex=True)
    child = multiprocessing.Process(target=time.sleep, args=(1,), kwargs={}, daemon=False)
    child.start()
    ours.send({"a": 1})
    answer: str = theirs.recv() if theirs.poll(1.0) else ""
    ours.close()
    child.join()
    child.close()
    return answer


def around() -> None:
    me = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    names: list[str] = [child.name for child in multiprocessing.active_children()]
    print(me.authkey, parent.pid if parent is not None else None, names)
    multiprocessing.log_to_stderr().setLevel("INFO")
    multiprocessing.get_logger().info("methods: %s", multiprocessing.get_all_start_methods())
    multiprocessing.set_executable("/usr/bin/python3")
    multiprocessing.set_forkserver_preload(["json"])
    multiprocessing.allow_connection_pickling()
    raw = multiprocessing.RawValue("i", 3)
    cells = multiprocessing.RawArray("d", [1.0, 2.0])
    print(raw.value, cells[0], multiprocessing.reducer)


def fail(kind: int) -> None:
    if kind == 0:
        raise multiprocessing.TimeoutError("too late")
    if kind == 1:
        raise multiprocessing.AuthenticationError
    if kind == 2:
        raise multiprocessing.BufferTooShort(b"abc")
    raise multiprocessing.ProcessError


if __name__ == "__main__":
    multiprocessing.freeze_support()
    if multiprocessing.get_start_method() != "spawn":
        multiprocessing.set_start_method("spawn", force=True)
    print(dict(squares(10)), Tally().add(1), talk())
    with multiprocessing.Manager() as manager:
        shared = manager.dict({"a": 1})
        print(shared["a"], multiprocessing.get_context("fork").get_start_method())
    todo: multiprocessing.JoinableQueue[str] = multiprocessing.JoinableQueue()
    with multiprocessing.Pool() as pool:
        print(pool.map(len, ["a", "bc"]))
