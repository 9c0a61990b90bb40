"""Event between processes."""

import time


def answer(event, answered):
    assert event.wait(20) is True
    answered.set()


def test_set_wakes_everyone_who_waits(ctx, start, finish, monitor):
    event, answered = ctx.Event(), ctx.Event()
    monitor.skip()
    processes = [start(answer, event, answered) for _ in range(3)]
    for _ in processes:
        monitor.until("XREAD", event._id)
    assert not answered.is_set()
    event.set()
    finish(*processes)
    assert answered.is_set()


def test_is_set_until_cleared(ctx):
    event = ctx.Event()
    assert not event.is_set()
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait()
    event.clear()
    assert not event.is_set()
    assert "unset" in repr(event)


def test_wait_comes_back_after_its_timeout(ctx):
    event = ctx.Event()
    began = time.monotonic()
    assert event.wait(0.1) is False
    assert time.monotonic() - began >= 0.1
    assert event.wait(0) is False
    assert event.wait(-1) is False


def test_interrupted_wait_leaves_the_connection_in_order(ctx, interrupt):
    event = ctx.Event()
    interrupt(event.wait, "XREAD", event._id)
    assert event.is_set() is False
    event.set()
    assert event.is_set() is True


def test_wait_survives_a_cut_connection(ctx, start, finish, monitor, store):
    event, answered = ctx.Event(), ctx.Event()
    monitor.skip()
    process = start(answer, event, answered)
    for _ in range(3):
        monitor.until("XREAD", event._id)
        name = next(
            line for line in store.call("CLIENT", "LIST").decode().splitlines() if "cmd=xread" in line
        )
        store.call("CLIENT", "KILL", "ID", name.split()[0].removeprefix("id="))
    event.set()
    finish(process)
