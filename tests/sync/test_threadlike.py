"""Lock .. Barrier and Queue of a manager: `threading`'s and `queue`'s interface."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def manager(ctx: Any) -> Iterator[Any]:
    with ctx.Manager() as manager:
        yield manager


def run(ctx: Any, target: Callable[..., None], *args: Any) -> int:
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join()
    return int(process.exitcode)


def _acquire(lock: Any) -> None:
    assert lock.acquire()


def test_a_lock_taken_by_a_process_is_released_by_another(ctx: Any, manager: Any) -> None:
    lock = manager.Lock()
    assert run(ctx, _acquire, lock) == 0
    assert not lock.acquire(False)
    assert not lock.acquire(timeout=0.01)
    lock.release()
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        lock.release()
    with lock:
        assert not lock.acquire(blocking=False)


def test_its_arguments_are_checked(manager: Any) -> None:
    with pytest.raises(ValueError, match="can't specify a timeout for a non-blocking call"):
        manager.Lock().acquire(False, 1)
    with pytest.raises(ValueError, match="can't specify timeout for non-blocking acquire"):
        manager.Semaphore().acquire(False, 1)
    with pytest.raises(ValueError, match="timeout value must be a non-negative number"):
        manager.Lock().acquire(True, -2)


def test_two_handles_of_an_rlock_are_held_as_one(manager: Any) -> None:
    d = manager.dict(lock=manager.RLock())
    first, second = d["lock"], d["lock"]
    with first, second:
        pass
    with pytest.raises(RuntimeError, match="cannot release un-acquired lock"):
        first.release()


def test_semaphores_count(manager: Any) -> None:
    semaphore = manager.BoundedSemaphore(2)
    assert [semaphore.acquire(False) for _ in range(3)] == [True, True, False]
    semaphore.release()
    semaphore.release()
    with pytest.raises(ValueError, match="Semaphore released too many times"):
        semaphore.release()


def _notify(condition: Any, event: Any) -> None:
    assert event.wait(30)
    with condition:
        condition.notify_all()


def test_a_condition_on_a_lock_of_the_manager(ctx: Any, manager: Any) -> None:
    lock = manager.Lock()
    condition, event = manager.Condition(lock), manager.Event()
    with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
        condition.wait()
    with pytest.raises(RuntimeError, match="cannot notify on un-acquired lock"):
        condition.notify()
    process = ctx.Process(target=_notify, args=(condition, event))
    process.start()
    with lock:
        event.set()
        assert condition.wait(30)
        assert not condition.wait(0.01)
        assert condition.wait_for(lambda: False, 0.01) is False
    process.join()
    assert process.exitcode == 0


def _pass(barrier: Any) -> None:
    barrier.wait(30)


def test_a_barrier_is_passed_and_broken(ctx: Any, manager: Any) -> None:
    barrier = manager.Barrier(2)
    process = ctx.Process(target=_pass, args=(barrier,))
    process.start()
    assert barrier.wait(30) in (0, 1)
    process.join()
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (2, 0, False)
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken


def _double(tasks: Any) -> None:
    for item in iter(tasks.get, None):
        assert item >= 0
        tasks.task_done()


@pytest.mark.parametrize("typeid", ["Queue", "JoinableQueue"])
def test_a_queue_is_joined_when_all_is_done(ctx: Any, manager: Any, typeid: str) -> None:
    tasks = getattr(manager, typeid)()
    process = ctx.Process(target=_double, args=(tasks,))
    process.start()
    for i in range(20):
        tasks.put(i)
    tasks.join()
    tasks.put(None)
    process.join()
    tasks.task_done()
    with pytest.raises(ValueError, match="task_done\\(\\) called too many times"):
        tasks.task_done()


def test_a_queue_is_full_and_empty(manager: Any) -> None:
    items = manager.Queue(2)
    items.put(1)
    items.put_nowait(2)
    assert (items.full(), items.empty(), items.qsize()) == (True, False, 2)
    with pytest.raises(queue.Full):
        items.put(3, timeout=0.01)
    with pytest.raises(queue.Full):
        items.put_nowait(3)
    assert [items.get(), items.get_nowait()] == [1, 2]
    with pytest.raises(queue.Empty):
        items.get(True, 0.01)
    with pytest.raises(queue.Empty):
        items.get_nowait()
    with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
        items.get(timeout=-1)


def test_what_does_not_pickle_is_refused_by_put(manager: Any) -> None:
    items = manager.Queue()
    with pytest.raises(TypeError, match="cannot pickle"):
        items.put(threading.Lock())
    assert items.empty()
