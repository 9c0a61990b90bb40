"""A timeout that is no number is refused as the stdlib refuses it."""

import math

import pytest

from cloudpool.connection import wait


def taken(lock):
    lock.acquire()
    return lock


def full(queue):
    queue.put(1)
    return queue


def wait_in(condition):
    with condition:
        condition.wait(math.nan)


READS = {
    "Queue.get": lambda ctx: ctx.Queue().get(timeout=math.nan),
    "JoinableQueue.get": lambda ctx: ctx.JoinableQueue().get(timeout=math.nan),
    "Connection.poll": lambda ctx: ctx.Pipe()[0].poll(math.nan),
    "wait": lambda ctx: wait([ctx.Queue()], math.nan),
}
SEMAPHORES = {
    "Lock.acquire": lambda ctx: taken(ctx.Lock()).acquire(timeout=math.nan),
    "Semaphore.acquire": lambda ctx: ctx.Semaphore(0).acquire(timeout=math.nan),
    "Event.wait": lambda ctx: ctx.Event().wait(math.nan),
    "Condition.wait": lambda ctx: wait_in(ctx.Condition()),
    "Barrier.wait": lambda ctx: ctx.Barrier(2).wait(math.nan),
    "Queue.put": lambda ctx: full(ctx.Queue(1)).put(2, timeout=math.nan),
}


@pytest.mark.parametrize("call", READS)
def test_a_read_refuses_nan(ctx, call):
    with pytest.raises(ValueError, match="cannot convert float NaN to integer"):
        READS[call](ctx)


@pytest.mark.parametrize("call", SEMAPHORES)
def test_a_wait_for_a_semaphore_refuses_nan(ctx, call):
    with pytest.raises(OSError, match="Invalid argument"):
        SEMAPHORES[call](ctx)


def test_nan_is_not_looked_at_where_nothing_is_to_be_waited_for(ctx):
    event = ctx.Event()
    event.set()
    assert event.wait(math.nan)
    assert ctx.Lock().acquire(timeout=math.nan)
    ctx.Queue(1).put(1, timeout=math.nan)
