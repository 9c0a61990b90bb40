"""Condition: waiters are woken in order, and a wake-up is never lost to one that is gone."""

import os
import signal
import threading
import time

import pytest


def wait(condition, said, name, timeout=None):
    with condition:
        said.send((name, condition.wait(timeout)))


@pytest.fixture
def waiting(ctx, start, monitor):
    """waiting(condition, name): a process that waits there, and where all of them say that they have been woken."""
    said, say = ctx.Pipe(False)

    def waiting(condition, name):
        monitor.skip()
        process = start(wait, condition, say, name)
        monitor.until("BLMOVE", condition._id, "wake:")
        return process

    return waiting, said


def test_notify_wakes_as_many_as_asked_in_the_order_of_arrival(ctx, waiting):
    begin, said = waiting
    condition = ctx.Condition()
    for name in "abc":
        begin(condition, name)
    with condition:
        condition.notify()
    assert said.recv() == ("a", True)
    with condition:
        condition.notify(2)
    assert {said.recv(), said.recv()} == {("b", True), ("c", True)}


def test_notify_all_wakes_everyone(ctx, waiting):
    begin, said = waiting
    condition = ctx.Condition(ctx.Lock())
    for name in "abc":
        begin(condition, name)
    with condition:
        condition.notify_all()
    assert sorted(said.recv() for _ in "abc") == [("a", True), ("b", True), ("c", True)]


def test_wait_gives_back_the_lock_however_often_it_was_taken(ctx):
    condition = ctx.Condition()

    def notify():
        with condition:
            condition.notify()

    thread = threading.Thread(target=notify)
    with condition, condition:
        thread.start()
        assert condition.wait(20)
        thread.join()
    assert not condition._lock._semlock._is_mine()
    assert condition.acquire(False)


def test_notify_before_wait_wakes_no_one(ctx):
    condition = ctx.Condition()
    with condition:
        condition.notify_all()
        began = time.monotonic()
        assert condition.wait(0.05) is False
        assert time.monotonic() - began >= 0.05


def test_wait_for_returns_what_the_predicate_does(ctx):
    condition = ctx.Condition()
    with condition:
        assert condition.wait_for(lambda: 3) == 3
        assert condition.wait_for(lambda: 0, timeout=0.05) == 0


def test_whoever_has_not_the_lock_is_refused(ctx):
    condition = ctx.Condition()
    for call in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(AssertionError):
            call()


def test_waiter_that_gave_up_takes_no_wake_up(ctx, waiting):
    begin, said = waiting
    condition = ctx.Condition()
    with condition:
        assert not condition.wait(0.01)
    begin(condition, "a")
    with condition:
        condition.notify()
    assert said.recv() == ("a", True)


def test_dead_waiter_is_passed_over(ctx, waiting, settle):
    begin, said = waiting
    condition = ctx.Condition()
    dead = begin(condition, "a")
    begin(condition, "b")
    dead.kill()
    dead.join()
    settle()
    with condition:
        condition.notify()
    assert said.recv() == ("b", True)


def test_wake_up_of_a_waiter_that_dies_before_it_hears_it_goes_to_the_next(ctx, waiting):
    begin, said = waiting
    condition = ctx.Condition()
    dead = begin(condition, "a")
    begin(condition, "b")
    os.kill(dead.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, dead.pid, os.WSTOPPED)
    with condition:
        condition.notify()
    dead.kill()
    assert said.recv() == ("b", True)


@pytest.mark.parametrize("where", ["BLMOVE", "LMOVE"], ids=["as it waits", "as it releases the lock"])
def test_interrupted_wait_has_the_lock_and_leaves_the_line(where, ctx, interrupt, waiting):
    begin, said = waiting
    condition, event = ctx.Condition(), ctx.Event()
    with condition:
        of = (condition._id, "wake:") if where == "BLMOVE" else (condition._lock._semlock._id, "avail")
        interrupt(condition.wait, f'"{where}"', *of)
        assert condition._lock._semlock._is_mine()
        assert not event.is_set()
    begin(condition, "a")
    with condition:
        condition.notify()
    assert said.recv() == ("a", True)
