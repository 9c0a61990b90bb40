"""Names with an underscore that programs read, in the ways in which they do."""

import multiprocessing
import os
import time
from multiprocessing import process, queues, spawn, util


def begin(gate_, begun_):
    global gate, begun
    gate, begun = gate_, begun_


def wait_at_gate(number):
    begun.release()
    gate.wait()
    return number


class Counter:
    """A counter of one's own, as people have who want a qsize everywhere."""

    def __init__(self):
        self.count = multiprocessing.Value("i", 0)

    def increment(self, by=1):
        with self.count.get_lock():
            self.count.value += by


class CountingQueue(queues.Queue):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, ctx=multiprocessing.get_context(), **kwargs)
        self.size = Counter()

    def __getstate__(self):
        return {"parent": super().__getstate__(), "size": self.size}

    def __setstate__(self, state):
        super().__setstate__(state["parent"])
        self.size = state["size"]

    def put(self, *args, **kwargs):
        self.size.increment()
        super().put(*args, **kwargs)


class PatientQueue(queues.JoinableQueue):
    """join with a timeout, by the recipe that goes around."""

    def join(self, timeout=None):
        with self._cond:
            if not self._unfinished_tasks._semlock._is_zero():
                self._cond.wait(timeout=timeout)
        return self._unfinished_tasks._semlock._is_zero()


def produce(queue):
    for number in range(5):
        queue.put(number)
    while len(queue._buffer):  # until the feeder thread has sent all
        time.sleep(0.01)


def queueing(context):
    queue = CountingQueue(10)
    child = context.Process(target=produce, args=(queue,))
    child.start()
    child.join()
    print("put", queue.size.count.value, queue._maxsize - queue._sem._semlock._get_value())
    print("there", queue._reader.poll(5), sorted(queue.get() for _ in range(5)), queue._reader.poll())
    print("unbounded", multiprocessing.Queue()._maxsize > 10**6, multiprocessing.Queue()._thread)
    patient = PatientQueue(ctx=context)
    patient.put(1)
    print("joined", patient.join(0.05))
    patient.get()
    patient.task_done()
    print("joined", patient.join(10), patient._unfinished_tasks.get_value())


def locks():
    lock = multiprocessing.RLock()
    inner = lock._semlock
    print("free", inner._is_mine(), inner._count(), inner._get_value(), inner._is_zero(), inner.maxvalue, inner.kind)
    with lock, lock:
        print("taken", inner._is_mine(), inner._count(), inner._get_value(), inner._is_zero())
    print("inner", bool(inner.handle), inner.acquire(timeout=1), inner.release())
    condition = multiprocessing.Condition()
    with condition:
        print("condition", condition._lock._semlock._count())


def pools(context):
    gate, begun = context.Event(), context.Semaphore(0)
    pool = context.Pool(1, begin, (gate, begun))
    results = [pool.apply_async(wait_at_gate, (number,)) for number in range(3000)]
    begun.acquire()
    print("waiting", pool._taskqueue.qsize() > 100, pool._taskqueue.empty(), len(pool._cache), pool._processes)
    pool._processes = 3
    pool._repopulate_pool()
    begun.acquire()
    begun.acquire()
    print("grown", len(pool._pool), [worker.is_alive() for worker in pool._pool])
    print("handlers", pool._worker_handler.is_alive(), pool._task_handler.is_alive(), pool._result_handler.is_alive())
    gate.set()
    print("results", sum(result.get() for result in results))
    while pool._cache:
        time.sleep(0.01)
    while pool._taskqueue.qsize():
        time.sleep(0.01)
    pool.close()
    pool._worker_handler.join(60)
    pool._task_handler.join(60)
    pool._result_handler.join(60)
    for worker in pool._pool:
        worker.join()
    print("ended", pool._state, pool._ctx.get_start_method(), pool._initializer is begin)


def processes(context):
    child = context.Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    print("child", child._popen.poll(), child._popen.pid == child.pid, child._parent_pid == os.getpid())
    print("child", child._identity == (child._identity[0],), child._config["daemon"], child in process._children)
    child.terminate()
    print("child", child._popen.wait(timeout=60), child._popen.returncode)
    child.join()
    me = multiprocessing.current_process()
    print("me", me._config.get("daemon"), me._identity, spawn.get_preparation_data("x")["name"])
    print("flags", util._args_from_interpreter_flags())


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queueing(context)
    locks()
    pools(context)
    processes(context)
