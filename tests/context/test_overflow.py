"""Tasks that are too much for a pool's hosts go to another pool: what becomes of that one, and of outcomes that get lost.

Hosts with limits are in tests/far; here a worker is said to have met one, and ends.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest

import cloudpool
from cloudpool.context.overflow import Overflow
from cloudpool.errors import ServerOutOfMemory, WorkerLostError

WAIT_S = 60


@pytest.fixture
def fork(server):
    return cloudpool.get_context("fork")


def overflowing(fork, make):
    """A pool of one worker, with that one's pid, whose tasks go to what `make` makes once they have killed it."""
    pool = fork.Pool(1)
    pool._taskqueue.overflow = Overflow(make)
    [worker] = pool._pool
    worker._popen.met_limit = True
    return pool, worker.pid


def die_in(pid):
    if os.getpid() == pid:
        os.kill(pid, signal.SIGKILL)
    return os.getpid()


class TooMuch:
    """Unpickled in that process, it ends it."""

    def __init__(self, pid):
        self.pid = pid

    def __reduce__(self):
        return die_in, (self.pid,)


def test_a_task_goes_to_the_next_pool_which_ends_with_the_first(fork):
    made = []
    pool, pid = overflowing(fork, lambda: made.append(fork.Pool(1)) or made[0])
    with pool:
        workers = list(pool._pool)
        assert pool.apply_async(die_in, (pid,)).get(WAIT_S) == made[0]._pool[0].pid
        workers += made[0]._pool
    pool.join()
    assert not [worker for worker in workers if worker.is_alive()]


def test_an_outcome_that_the_server_refuses_is_its_calls_error(fork, monkeypatch):
    pool, pid = overflowing(fork, lambda: fork.Pool(1))
    with pool:

        def refuse(_ids, _to):
            raise ServerOutOfMemory

        monkeypatch.setattr(pool._taskqueue._tasks, "keep", refuse)
        with pytest.raises(ServerOutOfMemory):
            pool.apply_async(die_in, (pid,)).get(WAIT_S)
        assert pool.apply_async(abs, (-1,)).get(WAIT_S) == 1
    pool.join()


def test_a_pool_that_is_being_made_when_the_first_is_terminated_ends_too(fork):
    began, go_on, made = threading.Event(), threading.Event(), []

    def make():
        began.set()
        assert go_on.wait(WAIT_S)
        made.append(fork.Pool(1))
        return made[0]

    pool, pid = overflowing(fork, make)
    pool.apply_async(die_in, (pid,))
    assert began.wait(WAIT_S)
    ending = threading.Thread(target=pool.terminate)
    ending.start()
    pool._worker_handler.join(WAIT_S)  # it has ended what it knew of
    assert not pool._worker_handler.is_alive()
    go_on.set()
    ending.join(WAIT_S)
    assert not ending.is_alive()
    assert made[0]._state == "TERMINATE"
    assert not [worker for worker in made[0]._pool if worker.is_alive()]
    pool.join()


def test_an_argument_that_kills_who_unpickles_it_is_not_unpickled_by_the_root(fork):
    made = []
    pool, _ = overflowing(fork, lambda: made.append(1))
    with pool:
        pool._taskqueue._losses._tasks.retries = 0
        with pytest.raises(WorkerLostError):
            pool.apply_async(id, (TooMuch(pool._pool[0].pid),)).get(WAIT_S)
    pool.join()
    assert made == []
