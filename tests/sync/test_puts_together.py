"""Puts that come one upon the other go several in a command; and none later than its thread's next operation."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from waiting import until

from cloudpool.store.channel import Channel
from cloudpool.sync import queue as queues

MANY = 1000


def put(queue, items):
    for item in items:
        queue.put(item)


def get(queue, count):
    return [queue.get(timeout=60) for _ in range(count)]


def test_many_puts_take_few_commands(ctx, monitor, monkeypatch):
    queue = ctx.Queue()
    monkeypatch.setattr(queues, "BURST_S", 60.0)
    queue.put(0)
    assert queue.get() == 0
    monitor.skip()
    put(queue, range(MANY))
    assert queue.qsize() == MANY
    assert len([line for line in monitor.skip() if "EVALSHA" in line and " lua]" not in line]) < MANY / 8
    assert get(queue, MANY) == list(range(MANY))


def put_and_idle(queue, count, end):
    put(queue, range(count))
    os.read(end, 1)  # what is no operation of cloudpool's


@pytest.mark.parametrize("count", [2, 3, 31, 32, 33, 100])
def test_puts_of_a_thread_that_does_nothing_more_arrive(ctx, monkeypatch, count):
    queue, (end, ending) = ctx.Queue(), os.pipe()
    monkeypatch.setattr(queues, "BURST_S", 60.0)
    thread = threading.Thread(target=put_and_idle, args=(queue, count, end))
    thread.start()
    assert get(queue, count) == list(range(count))
    os.write(ending, b".")
    thread.join()
    for fd in (end, ending):
        os.close(fd)


def put_by_turns(first, second, count):
    for n in range(count):
        first.put(n)
        second.put(n)


def test_what_is_put_into_one_queue_is_there_before_what_is_put_into_another_then(ctx, start, finish):
    first, second = ctx.Queue(), ctx.Queue()
    process = start(put_by_turns, first, second, MANY)
    for n in range(MANY):
        assert second.get(timeout=60) == n
        assert first.get_nowait() == n
    finish(process)


def test_what_was_put_is_there_when_the_next_operation_takes_effect(ctx, start, finish):
    queue, event = ctx.Queue(), ctx.Event()
    process = start(put_and_set, queue, event)
    assert event.wait(60)
    assert queue.qsize() == 10
    finish(process)


def put_and_set(queue, event):
    put(queue, range(10))
    event.set()


def test_a_child_that_is_started_after_puts_is_not_sent_them(ctx, start, finish):
    queue, done = ctx.Queue(), ctx.Queue()
    for _ in range(10):
        put(queue, range(5))
        process = start(put, done, range(5))
        put(queue, range(5, 10))
        finish(process)
        assert get(queue, 10) == list(range(10))
        assert get(done, 5) == list(range(5))
        assert queue.empty()
        assert done.empty()


@pytest.mark.parametrize("daemon", [False, True])
def test_what_a_thread_has_put_when_its_process_ends_arrives(ctx, start, finish, daemon):
    queue = ctx.Queue()
    finish(start(put_in_a_thread, queue, daemon))
    assert get(queue, 5) == list(range(5))


def put_in_a_thread(queue, daemon):
    is_put, never = threading.Event(), threading.Event()

    def run():
        put(queue, range(5))
        is_put.set()
        if daemon:
            never.wait()

    threading.Thread(target=run, daemon=daemon).start()
    is_put.wait()


def test_what_a_program_has_put_before_its_end_is_with_its_children(server, tmp_path):
    """The root ends its queue's last handle and itself at once."""
    program = """
import cloudpool as multiprocessing
def take(queue):
    print([queue.get() for _ in range(50)] == list(range(50)))
if __name__ == "__main__":
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=take, args=(queue,))
    process.start()
    for item in range(50):
        queue.put(item)
"""
    (tmp_path / "program.py").write_text(program)
    said = subprocess.run(
        [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60
    )
    assert (said.stdout, said.stderr) == ("True\n", "")


class Interrupt(BaseException):
    pass


def test_an_interrupted_put_takes_none_of_the_others_with_it(ctx, monkeypatch):
    """Those before it had returned."""
    queue, post, left = ctx.Queue(), Channel.post_script, [None]
    monkeypatch.setattr(queues, "BURST_S", 60.0)

    def interrupted(channel, name, *arguments):
        if name == "queue_put" and len(arguments[1]) > 10 and left:
            left.pop()
            raise Interrupt
        post(channel, name, *arguments)

    queue.put("first")
    assert queue.get() == "first"
    monkeypatch.setattr(Channel, "post_script", interrupted)
    put_items = []
    for n in range(100):
        with suppress(Interrupt):
            queue.put(n)
            put_items.append(n)
    assert not left
    got = get(queue, queue.qsize())
    assert got == sorted(set(got))
    assert set(put_items) <= set(got)


def test_interrupted_puts_harm_no_other(ctx):
    queue, armed, main = ctx.Queue(), [], threading.main_thread().ident
    stop, done = threading.Event(), []

    def handler(*_):
        if armed:
            armed.clear()
            raise Interrupt

    def send():
        while not stop.wait(0.0005):
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=send)
    sender.start()
    n = 0
    try:
        for _ in range(100):
            with suppress(Interrupt):
                armed.append(None)
                while True:
                    n += 1
                    queue.put(n)
                    done.append(n)
    finally:
        stop.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    got = get(queue, queue.qsize())
    assert got == sorted(set(got))
    assert set(done) <= set(got)
    assert queue.empty()


def test_the_thread_that_sends_goes_when_there_is_nothing_to_send(ctx, monkeypatch):
    queue = ctx.Queue()
    monkeypatch.setattr(queues, "BURST_S", 60.0)
    put(queue, range(100))
    assert get(queue, 100) == list(range(100))
    assert "cloudpool-sender" in {thread.name for thread in threading.enumerate()}
    until(lambda: "cloudpool-sender" not in {thread.name for thread in threading.enumerate()})
