"""A queue's only reader is killed, or joined by another, at any moment: what it had ahead goes on, once and in order."""

import itertools
import os
import queue as stdlib_queue
import random
import signal
from contextlib import contextmanager, suppress

import pytest
from waiting import until

import cloudpool

pytestmark = pytest.mark.parametrize("server", ["embedded"], indirect=True)


@pytest.fixture
def ctx(server):
    """What `start` starts by."""
    return cloudpool.get_context("fork")


def get_for_ever(queue, said):
    while True:
        os.write(said, queue.get().to_bytes(4, "little"))


def heard(hear, count):
    got = b""
    while len(got) < 4 * count:
        got += os.read(hear, 4 * count - len(got))
    return [int.from_bytes(got[i : i + 4], "little") for i in range(0, len(got), 4)]


def available(hear):
    os.set_blocking(hear, False)
    got = b""
    try:
        while data := os.read(hear, 65536):
            got += data
    except BlockingIOError:
        pass
    os.set_blocking(hear, True)
    return [int.from_bytes(got[i : i + 4], "little") for i in range(0, len(got), 4)]


def drained(queue):
    got = []
    with suppress(stdlib_queue.Empty):
        while True:
            got.append(queue.get_nowait())
    return got


@contextmanager
def filled(ctx, count):
    """A queue of so many numbers, and a pipe by which its readers say what they get."""
    queue, (hear, said) = ctx.Queue(), os.pipe()
    for item in range(count):
        queue.put(item)
    try:
        yield queue, hear, said
    finally:
        os.close(hear)
        os.close(said)


def test_readers_that_are_killed_one_after_the_other_double_nothing(ctx, start, seed):
    """Each is the only one in its time; it is killed anywhere."""
    chance = random.Random(seed)
    total, got, deaths = 4000, [], 0
    with filled(ctx, total) as (queue, hear, said):
        while len(got) < total - deaths - 1:
            reader = start(get_for_ever, queue, said)
            deaths += 1
            got += heard(hear, 1)
            if chance.random() < 0.3:
                signal.sigtimedwait([], 0.002 * chance.random())
            reader.kill()
            reader.join()
            got += available(hear)
        got += drained(queue)
    assert len(got) == len(set(got)) >= total - deaths
    # What one had in hand when it was killed comes back behind what the next one has got by then.
    late = sum(a > b for a, b in itertools.pairwise(got))
    assert late <= deaths


def test_a_reader_that_comes_at_any_moment_finds_the_order(ctx, start, seed):
    """The second one comes while the first is reading: what each gets rises, and what both get is everything, once."""
    chance = random.Random(seed)
    for _ in range(15):
        with filled(ctx, 600) as (queue, hear, said):
            first = start(get_for_ever, queue, said)
            theirs = heard(hear, 1 + chance.randrange(200))
            last_seen = theirs[-1]
            mine = drained(queue)
            until(lambda: len(theirs) + len(mine) == 600 or theirs.extend(available(hear)))  # noqa: B023
            first.kill()
            first.join()
        assert theirs == sorted(set(theirs))
        assert mine == sorted(set(mine))
        assert sorted(theirs + mine) == list(range(600))
        assert not mine or mine[0] > last_seen


def test_nobody_waits_for_a_reader_that_is_stopped_at_any_moment(ctx, start, seed):
    chance = random.Random(seed)
    for _ in range(20):
        with filled(ctx, 600) as (queue, hear, said):
            reader = start(get_for_ever, queue, said)
            theirs = heard(hear, 1 + chance.randrange(100))
            signal.sigtimedwait([], 0.0005 * chance.random())
            os.kill(reader.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, reader.pid, os.WSTOPPED)
            theirs += available(hear)
            mine = []
            if len(theirs) < 599:  # it may have the last one in its hands
                mine = [queue.get(timeout=60), queue.get(timeout=60)]
                assert theirs[-1] < mine[0] <= theirs[-1] + 2
            os.kill(reader.pid, signal.SIGCONT)
            until(lambda: len(theirs) + len(mine) == 600 or theirs.extend(available(hear)))  # noqa: B023
            reader.kill()
            reader.join()
        assert sorted(theirs + mine) == list(range(600))
