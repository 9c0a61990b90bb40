"""Barrier: passes when all are there, breaks when one of those who wait is gone."""

import threading

import pytest


def pass_through(barrier, said, times):
    try:
        for _ in range(times):
            said.send(barrier.wait(20))
    except threading.BrokenBarrierError:
        said.send("broken")


def act():
    ACTED.append(1)


ACTED = []


def fail():
    raise ValueError("the action's own")


@pytest.fixture
def party(ctx, start, monitor):
    """party(barrier, times): a process that is waiting there, and where all of them say what became of it."""
    said, say = ctx.Pipe(False)

    def party(barrier, times=1):
        monitor.skip()
        process = start(pass_through, barrier, say, times)
        monitor.until("XREAD", barrier._id)
        return process

    return party, said


def test_everyone_passes_with_an_index_of_its_own_again_and_again(ctx, start, finish):
    barrier, (said, say) = ctx.Barrier(3), ctx.Pipe(False)
    processes = [start(pass_through, barrier, say, 20) for _ in range(3)]
    indices = [said.recv() for _ in range(60)]
    finish(*processes)
    assert sorted(indices) == sorted([0, 1, 2] * 20)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_last_one_runs_the_action_before_anyone_passes(ctx, party):
    begin, said = party
    ACTED.clear()
    barrier = ctx.Barrier(2, action=act)
    begin(barrier)
    assert barrier.n_waiting == 1
    assert barrier.wait() == 1
    assert said.recv() == 0
    assert ACTED == [1]


def test_action_that_fails_breaks_it_for_the_others(ctx, party):
    begin, said = party
    barrier = ctx.Barrier(2, action=fail)
    begin(barrier)
    with pytest.raises(ValueError, match="own"):
        barrier.wait()
    assert said.recv() == "broken"
    assert barrier.broken


def test_timeout_breaks_it(ctx):
    barrier = ctx.Barrier(2, timeout=0.05)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)


def test_abort_breaks_it_until_reset(ctx, party):
    begin, said = party
    barrier = ctx.Barrier(2)
    begin(barrier)
    barrier.abort()
    assert said.recv() == "broken"
    assert "broken" in repr(barrier)
    barrier.reset()
    begin(barrier)
    assert barrier.wait() == 1
    assert said.recv() == 0


def test_reset_sends_those_who_wait_away_and_leaves_it_whole(ctx, party):
    begin, said = party
    barrier = ctx.Barrier(2)
    begin(barrier)
    barrier.reset()
    assert said.recv() == "broken"
    assert not barrier.broken
    assert barrier.n_waiting == 0


def test_dead_party_breaks_it(ctx, party):
    begin, said = party
    barrier = ctx.Barrier(3)
    dead = begin(barrier)
    begin(barrier)
    dead.kill()
    assert said.recv() == "broken"
    assert barrier.broken


def test_interrupted_wait_takes_back_the_arrival(ctx, interrupt, party):
    begin, said = party
    barrier = ctx.Barrier(2)
    interrupt(barrier.wait, "XREAD", barrier._id)
    assert barrier.n_waiting == 0
    begin(barrier)
    assert barrier.wait() == 1
    assert said.recv() == 0


def test_parties_must_be_positive(ctx):
    with pytest.raises(ValueError, match="parties must be > 0"):
        ctx.Barrier(0)


def test_repr_names_the_class_with_its_module(ctx):
    barrier = ctx.Barrier(2)
    assert repr(barrier) == f"<{type(barrier).__module__}.Barrier at {id(barrier):#x}: waiters=0/2>"
