"""connection.wait over everything that can be waited for, at once."""

import multiprocessing.connection
import os
import selectors
import socket
import time

import pytest

from cloudpool.connection import wait


def send_when_told(told, end):
    told.recv()
    end.send("word")


def take_and_put(told, source, done):
    told.recv()
    done.send(source.get())


@pytest.fixture
def things(ctx):
    """One of each kind, none of them ready, and what makes each ready."""
    reader, writer = ctx.Pipe(False)
    queue, simple = ctx.Queue(), ctx.SimpleQueue()
    ours, theirs = socket.socketpair()
    stdlib_reader, stdlib_writer = multiprocessing.Pipe(False)
    yield [
        (reader, lambda: writer.send(1)),
        (queue, lambda: queue.put(1)),
        (simple, lambda: simple.put(1)),
        (ours, lambda: theirs.send(b"1")),
        (stdlib_reader, lambda: stdlib_writer.send(1)),
    ]
    for end in (ours, theirs, stdlib_reader, stdlib_writer):
        end.close()


def test_each_kind_is_ready_when_it_has_something_and_only_then(things):
    objects = [thing for thing, _ in things]
    assert wait(objects, 0) == []
    ready = []
    for thing, make_ready in things:
        make_ready()
        ready.append(thing)
        while len(found := wait(objects)) < len(ready):  # what was put is on its way
            pass
        assert set(map(id, found)) == set(map(id, ready))


def test_waiting_takes_nothing_away(ctx):
    queue, (reader, writer) = ctx.Queue(), ctx.Pipe(False)
    queue.put(1)
    writer.send(2)
    for _ in range(3):
        assert len(wait([queue, reader], 5)) >= 1
    assert (queue.get(), reader.recv()) == (1, 2)
    assert wait([queue, reader], 0) == []


def test_sentinel_of_a_process_that_ends_wakes_the_waiter(ctx, start):
    told, tell = ctx.Pipe(False)
    end, _other = ctx.Pipe()
    process = start(send_when_told, told, _other)
    reader, _writer = ctx.Pipe(False)
    assert wait([reader, process.sentinel], 0) == []
    tell.send(None)
    assert wait([reader, process.sentinel], 20) == [process.sentinel]
    assert wait([end], 5) == [end]


def test_timeout_is_kept(ctx):
    reader, _writer = ctx.Pipe(False)
    began = time.monotonic()
    assert wait([reader, ctx.Queue()], 0.1) == []
    assert time.monotonic() - began >= 0.1


def test_end_of_a_pipe_is_ready(ctx):
    reader, writer = ctx.Pipe(False)
    writer.close()
    assert wait([reader], 10) == [reader]


def test_what_another_process_was_faster_to_take_is_waited_for_again(ctx, start, finish):
    queue, (told, tell), (done, say) = ctx.Queue(), ctx.Pipe(False), ctx.Pipe(False)
    process = start(take_and_put, told, queue, say)
    assert wait([queue], 0) == []
    queue.put("for the other")
    tell.send(None)
    assert done.recv() == "for the other"
    finish(process)
    assert wait([queue], 0.05) == []
    queue.put("for us")
    assert wait([queue], 10) == [queue]
    assert queue.get() == "for us"


def test_selectors_take_an_end(ctx):
    reader, writer = ctx.Pipe(False)
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        assert selector.select(0) == []
        writer.send(1)
        assert [key.fileobj for key, _ in selector.select(10)] == [reader]
    assert reader.recv() == 1


def test_waiting_goes_on_when_connections_are_cut(ctx, store):
    queue, (reader, writer) = ctx.Queue(), ctx.Pipe(False)
    for n in range(5):
        assert wait([queue, reader], 0) == []
        store.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert wait([queue, reader], 0.02) == []
        queue.put(n)
        assert wait([queue, reader], 10) == [queue]
        assert queue.get() == n
        writer.send(n)
        assert wait([queue, reader], 10) == [reader]
        assert reader.recv() == n


def test_a_forked_process_waits_by_itself(ctx, start, finish):
    reader, writer = ctx.Pipe(False)
    (told, tell) = ctx.Pipe(False)
    assert wait([reader], 0) == []  # a look of ours is under way when it is started
    process = start(wait_and_tell, reader, tell)
    writer.send(os.getpid())
    assert told.recv() == os.getpid()
    finish(process)


def wait_and_tell(reader, tell):
    assert wait([reader], 20) == [reader]
    tell.send(reader.recv())


def produce(put, count, told):
    for n in range(count):
        put(n)
    told.wait()


def pass_some(selector, put, get):
    for n in range(3):
        put(n)
    for n in range(3):
        assert selector.select(20)
        assert get() == n
    assert not selector.select(0.05)


@pytest.mark.parametrize("kind", ["Pipe", "Queue"])
@pytest.mark.parametrize("make_selector", [selectors.EpollSelector, selectors.PollSelector])
def test_a_descriptor_that_was_registered_once_is_ready_whenever_something_is_there(
    ctx, store, kind, make_selector
):
    if kind == "Pipe":
        source, writer = ctx.Pipe(False)
        get, put = source.recv, writer.send
    else:
        queue = ctx.Queue()
        source, get, put = queue._reader, queue.get, queue.put
    read = ctx.Event()
    with make_selector() as selector:
        selector.register(source.fileno(), selectors.EVENT_READ)
        assert not selector.select(0.05)
        pass_some(selector, put, get)
        producer = ctx.Process(target=produce, args=(put, 200, read))
        producer.start()
        for n in range(200):
            assert selector.select(20)
            assert get() == n
        read.set()
        producer.join()
        put("not waited for")
        assert get() == "not waited for"
        assert not selector.select(0.05)
        looking = (source._queue if kind == "Queue" else source)._readiness._connection
        store.call("CLIENT", "KILL", "ID", looking.client_id)
        pass_some(selector, put, get)
