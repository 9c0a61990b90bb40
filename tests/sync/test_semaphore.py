"""Lock, RLock, Semaphore, BoundedSemaphore between processes, and what becomes of them when a process dies."""

import multiprocessing
import multiprocessing.connection
import threading
import time

import pytest

KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore"]


@pytest.fixture(params=KINDS)
def lock(request, ctx):
    return getattr(ctx, request.param)()


def hold(lock, has_it, *end):
    lock.acquire()
    has_it.send(None)
    for connection in end:
        connection.recv()


def add(lock, value, times):
    for _ in range(times):
        with lock:
            value.value += 1


def take(lock, said, name):
    with lock:
        said.send(name)


def try_to_take(lock, said):
    said.send([lock.acquire(False), lock.acquire(timeout=0.05), lock.acquire(timeout=-1)])


def test_one_process_at_a_time_has_it(lock, ctx, start, finish):
    value = ctx.Value("i", lock=False)
    finish(*[start(add, lock, value, 100) for _ in range(3)])
    assert value.value == 300


def test_is_not_had_by_another_process_meanwhile(lock, ctx, start):
    said, say = ctx.Pipe(False)
    with lock:
        start(try_to_take, lock, say)
        assert said.recv() == [False, False, False]


def test_waiters_get_it_in_the_order_of_arrival(ctx, start, monitor):
    lock = ctx.Lock()
    said, say = ctx.Pipe(False)
    with lock:
        monitor.skip()
        for name in "abc":
            start(take, lock, say, name)
            monitor.until("BLMOVE", lock._semlock._id)
    assert [said.recv() for _ in "abc"] == ["a", "b", "c"]


def test_timeouts_are_kept(ctx):
    lock = ctx.Semaphore(0)
    began = time.monotonic()
    assert lock.acquire(timeout=0.1) is False
    assert time.monotonic() - began >= 0.1
    assert lock.acquire(True, 0) is False
    assert lock.acquire(block=False) is False


def test_what_is_not_held_is_refused_as_the_stdlib_does(ctx):
    for kind in ("Lock", "RLock", "BoundedSemaphore"):
        errors = []
        for module in (multiprocessing, ctx):
            with pytest.raises((ValueError, AssertionError)) as caught:
                getattr(module, kind)().release()
            errors.append((caught.type, str(caught.value)))
        assert errors[0] == errors[1]


def test_wrong_initial_values_are_refused_as_by_the_stdlib(ctx):
    for kind in ("Semaphore", "BoundedSemaphore"):
        with pytest.raises(OSError, match="Invalid argument") as theirs:
            getattr(multiprocessing.get_context(), kind)(-1)
        with pytest.raises(OSError, match="Invalid argument") as ours:
            getattr(ctx, kind)(-1)
        assert (type(ours.value), ours.value.args) == (type(theirs.value), theirs.value.args)


def test_semaphore_has_as_many_as_its_value_and_its_releases(ctx):
    semaphore = ctx.Semaphore(2)
    semaphore.release()
    assert [semaphore.acquire(False) for _ in range(4)] == [True, True, True, False]
    assert semaphore.get_value() == 0


def test_semaphore_of_a_large_value_counts_all_of_it(ctx):
    semaphore = ctx.Semaphore(2500)
    assert semaphore.get_value() == 2500
    for _ in range(1100):
        assert semaphore.acquire(False)
    assert semaphore.get_value() == 1400
    bounded = ctx.BoundedSemaphore(2500)
    with pytest.raises(ValueError, match="released too many times"):
        bounded.release()


def test_representations_are_the_stdlibs(ctx):
    for kind in KINDS:
        ours, theirs = (getattr(module, kind)() for module in (ctx, multiprocessing))
        assert repr(ours) == repr(theirs)
        with ours, theirs:
            assert repr(ours) == repr(theirs)


def test_rlock_is_taken_again_by_its_thread_only(ctx):
    lock, other = ctx.RLock(), []

    def elsewhere():
        other.append(lock.acquire(False))
        with pytest.raises(AssertionError, match="not owned by thread"):
            lock.release()

    with lock, lock:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert other == [False]
    with pytest.raises(AssertionError):
        lock.release()


def test_lock_is_released_by_another_thread(ctx):
    lock = ctx.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.acquire(False)


def release(lock):
    lock.release()


def test_lock_is_released_by_another_process(ctx, start, finish):
    lock = ctx.Lock()
    lock.acquire()
    finish(start(release, lock))
    assert lock.acquire(timeout=5)
    lock.release()
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()


# -- deaths -----------------------------------------------------------------------------------------------------------


def test_lock_of_a_killed_holder_goes_to_the_next_waiter(lock, ctx, start, monitor):
    (has_it, say), (forever, _keep) = ctx.Pipe(False), ctx.Pipe(False)
    holder = start(hold, lock, say, forever)
    has_it.recv()
    monitor.skip()

    def kill():
        monitor.until("BLMOVE", lock._semlock._id)
        holder.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.warns(RuntimeWarning, match=rf"Process {holder.pid} died while it held this") as warned:
        assert lock.acquire(timeout=20)
    killer.join()
    assert warned[0].filename == __file__
    lock.release()
    with lock:  # and the next one is not warned again
        pass


def test_lock_of_a_holder_that_ended_in_order_stays_taken_as_with_the_stdlib(
    lock, ctx, start, finish, settle
):
    _has_it, say = ctx.Pipe(False)
    finish(start(hold, lock, say))
    settle()
    assert not lock.acquire(False)


def test_semaphore_used_as_a_signal_is_left_alone_when_its_taker_dies(ctx, start, settle):
    signalled, (has_it, say), (forever, _keep) = ctx.Semaphore(0), ctx.Pipe(False), ctx.Pipe(False)
    signalled.release()  # by one that does not hold it: no lock
    taker = start(hold, signalled, say, forever)
    has_it.recv()
    taker.kill()
    taker.join()
    settle()
    assert signalled.get_value() == 0


def test_waiter_that_dies_takes_nothing_with_it(ctx, start, monitor, settle):
    lock, (_has_it, say) = ctx.Lock(), ctx.Pipe(False)
    lock.acquire()
    monitor.skip()
    waiter = start(hold, lock, say)
    monitor.until("BLMOVE", lock._semlock._id)
    waiter.kill()
    waiter.join()
    settle()
    lock.release()
    assert lock.acquire(False)


# -- interruptions and cuts ---------------------------------------------------------------------------------------------


def test_interrupted_acquire_has_taken_nothing_and_the_next_answers_are_right(lock, interrupt, ctx):
    semaphore, event = ctx.Semaphore(0), ctx.Event()
    interrupt(semaphore.acquire, "BLMOVE", semaphore._semlock._id)
    assert (semaphore.get_value(), event.is_set()) == (0, False)
    semaphore.release()
    assert [semaphore.acquire(False), semaphore.acquire(False)] == [True, False]
    assert lock.acquire(timeout=1)


def cut_until_they_end(processes, store):
    sentinels = {process.sentinel for process in processes}
    while sentinels:  # not faster than they connect, or nobody would get on
        sentinels -= set(multiprocessing.connection.wait(sentinels, 0.03))
        store.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_increments_under_a_lock_are_exact_while_connections_are_cut(ctx, start, finish, store):
    lock, value = ctx.Lock(), ctx.Value("i", lock=False)
    processes = [start(add, lock, value, 150) for _ in range(4)]
    cut_until_they_end(processes, store)
    finish(*processes)
    assert value.value == 600
    assert lock._semlock._get_value() == 1


def signal_often(semaphore, times):
    for _ in range(times):
        semaphore.release()


def test_signals_are_counted_exactly_while_connections_are_cut(ctx, start, finish, store):
    semaphore = ctx.Semaphore(0)
    processes = [start(signal_often, semaphore, 200) for _ in range(4)]
    cut_until_they_end(processes, store)
    finish(*processes)
    assert semaphore.get_value() == 800


def test_rlock_that_one_thread_is_just_taking_is_not_its_last_owners(ctx, monkeypatch):
    lock = ctx.RLock()
    lock.acquire()
    lock.release()
    mine, get_ident = threading.get_ident(), threading.get_ident
    seen = []

    def as_seen_by_the_last_owner():
        with monkeypatch.context() as patch:
            patch.setattr(threading, "get_ident", lambda: mine)
            seen.append(lock._semlock._is_mine())
        return get_ident()

    def take():
        with monkeypatch.context() as patch:
            patch.setattr(threading, "get_ident", as_seen_by_the_last_owner)
            lock.acquire()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert seen
    assert not any(seen)
