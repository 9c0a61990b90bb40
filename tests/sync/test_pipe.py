"""Pipe: its ends are closed when nobody has them, as descriptors are; nothing sent is lost."""

import multiprocessing
import os
import queue
import signal
import threading

import numpy as np
import pytest


def echo(connection):
    while not isinstance(item := connection.recv(), Stop):
        connection.send(item)


class Stop:
    """Ends an echo."""


def hold(connection, *end):
    connection.send(os.getpid())
    for other in end:
        other.recv()


def test_objects_go_both_ways(ctx, start, finish):
    ours, theirs = ctx.Pipe()
    process = start(echo, theirs)
    theirs.close()
    for item in (1, None, "x" * 100_000, {"a": [b"1"]}, b"\0" * (1 << 20)):
        ours.send(item)
        assert ours.recv() == item
    ours.send(Stop())
    finish(process)


def test_one_way_pipe_refuses_the_other_way_with_the_stdlibs_words(ctx):
    said = []
    for module in (multiprocessing, ctx):
        reader, writer = module.Pipe(duplex=False)
        for call in (lambda r=reader: r.send(1), writer.recv):
            with pytest.raises(OSError) as caught:
                call()
            said.append(str(caught.value))
        assert (reader.readable, reader.writable, writer.readable, writer.writable) == (
            True,
            False,
            False,
            True,
        )
        reader.close()
        writer.close()
    assert said[:2] == said[2:]


def test_bytes_go_whole_or_in_part(ctx):
    reader, writer = ctx.Pipe(False)
    data = bytes(range(100))
    writer.send_bytes(data)
    writer.send_bytes(data, 90)
    writer.send_bytes(data, 10, 5)
    writer.send_bytes(b"")
    assert [reader.recv_bytes() for _ in range(4)] == [data, data[90:], data[10:15], b""]
    for wrong in ((-1,), (101,), (90, 11), (0, -1)):
        with pytest.raises(ValueError):
            writer.send_bytes(data, *wrong)


@pytest.mark.parametrize("size", [100, 100_000])
def test_bytes_are_received_into_a_buffer_that_has_room(ctx, size):
    reader, writer = ctx.Pipe(False)
    data = os.urandom(size)
    buffer = bytearray(size + 10)
    writer.send_bytes(data)
    assert reader.recv_bytes_into(buffer, 10) == size
    assert buffer[10:] == data
    writer.send_bytes(data)
    with pytest.raises(multiprocessing.BufferTooShort) as caught:
        reader.recv_bytes_into(bytearray(size - 1))
    assert caught.value.args[0] == data
    writer.send_bytes(data)
    with pytest.raises(OSError, match="bad message length"):
        reader.recv_bytes(size - 1)


def test_arrays_arrive_writable(ctx, start, finish):
    ours, theirs = ctx.Pipe()
    process = start(echo, theirs)
    theirs.close()
    ours.send(np.arange(300_000))
    answer = ours.recv()
    answer += 1
    assert (answer == np.arange(300_000) + 1).all()
    ours.send(Stop())
    finish(process)


def test_poll_tells_whether_there_is_something(ctx):
    reader, writer = ctx.Pipe(False)
    assert reader.poll() is False
    assert reader.poll(0.05) is False
    writer.send(1)
    assert reader.poll() is True
    assert reader.poll(None) is True
    assert reader.recv() == 1
    writer.close()
    assert reader.poll(0) is True
    with pytest.raises(EOFError):
        reader.recv()


def test_what_was_sent_before_the_end_is_received_and_then_the_end_again_and_again(ctx):
    reader, writer = ctx.Pipe(False)
    with writer:
        writer.send(1)
        writer.send(2)
    assert [reader.recv(), reader.recv()] == [1, 2]
    for _ in range(2):
        with pytest.raises(EOFError):
            reader.recv()


def test_sending_to_a_closed_end_is_a_broken_pipe(ctx):
    reader, writer = ctx.Pipe(False)
    reader.close()
    with pytest.raises(BrokenPipeError):
        writer.send(1)


def test_closed_end_refuses_with_the_stdlibs_words(ctx):
    said = []
    for module in (multiprocessing, ctx):
        reader, writer = module.Pipe(False)
        reader.close()
        with pytest.raises(OSError) as caught:
            reader.recv()
        said.append(str(caught.value))
        assert (reader.closed, writer.closed) == (True, False)
        writer.close()
    assert said[0] == said[1]


def test_end_comes_when_the_last_process_that_had_the_other_end_is_killed(ctx, start):
    ours, theirs = ctx.Pipe()
    forever, _keep = ctx.Pipe(False)
    processes = [start(hold, theirs, forever) for _ in range(2)]
    theirs.close()
    assert {ours.recv(), ours.recv()} == {process.pid for process in processes}
    processes[0].kill()
    processes[0].join()
    assert ours.poll(0) is False
    processes[1].kill()
    with pytest.raises(EOFError):
        ours.recv()
    with pytest.raises(BrokenPipeError):
        ours.send(1)


def test_end_waits_for_an_end_that_is_under_way_in_a_message(ctx, start, settle):
    ours, theirs = ctx.Pipe()
    queue = ctx.Queue()
    queue.put(theirs)
    theirs.close()
    del theirs
    settle()
    assert ours.poll(0) is False
    queue.get().send("still open")
    assert ours.recv() == "still open"
    settle()
    with pytest.raises(EOFError):
        ours.recv()


def test_ends_travel_through_ends(ctx, start, finish):
    ours, theirs = ctx.Pipe()
    process = start(answer_through_what_comes, theirs)
    theirs.close()
    inner, outer = ctx.Pipe()
    ours.send([outer, "hello"])
    outer.close()
    assert inner.recv() == "hello"
    finish(process)
    with pytest.raises(EOFError):
        inner.recv()


def answer_through_what_comes(connection):
    end, word = connection.recv()
    end.send(word)


def receive(connection):
    connection.recv()


def test_message_for_a_receiver_that_was_killed_while_it_waited_goes_to_another(ctx, start, monitor):
    reader, writer = ctx.Pipe(False)
    monitor.skip()
    dead = start(receive, reader)
    monitor.until("BLMOVE", reader._pipe)
    os.kill(dead.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, dead.pid, os.WSTOPPED)
    writer.send("wanted")
    dead.kill()
    assert reader.recv() == "wanted"


@pytest.mark.parametrize("both", [False, True], ids=["other end", "both ends"])
def test_thread_that_waits_for_room_hears_of_the_end_though_another_closes_its_own(ctx, monitor, both):
    reader, writer = ctx.Pipe(False)
    raised = queue.Queue()

    def send():
        try:
            writer.send_bytes(b"x" * (32 << 20))
        except OSError as error:
            raised.put(type(error))

    monitor.skip()
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    monitor.until("BLMOVE", "room-")
    if both:
        writer.close()
    reader.close()
    assert raised.get(timeout=30) is BrokenPipeError
    thread.join()


def test_thread_that_waits_for_a_message_hears_of_the_end_though_another_closes_its_own(ctx, monitor):
    reader, writer = ctx.Pipe(False)
    raised = queue.Queue()

    def receive():
        try:
            reader.recv()
        except (OSError, EOFError) as error:
            raised.put(type(error))

    monitor.skip()
    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    monitor.until("BLMOVE", reader._pipe)
    reader.close()
    writer.close()
    assert raised.get(timeout=30) is EOFError
    thread.join()


def test_interrupted_recv_has_taken_nothing_and_the_next_answers_are_right(ctx, interrupt):
    reader, writer = ctx.Pipe(False)
    interrupt(reader.recv, "BLMOVE", reader._pipe)
    assert reader.poll(0) is False
    writer.send(1)
    writer.send(2)
    assert [reader.recv(), reader.recv()] == [1, 2]


def test_messages_arrive_once_and_in_order_while_connections_are_cut(ctx, start, finish, store):
    ours, theirs = ctx.Pipe()
    process = start(echo, theirs)
    theirs.close()
    for n in range(60):
        ours.send(n)
        ours.send_bytes(b"\x80\x04K\x01.")  # a pickled 1
        store.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert [ours.recv(), ours.recv()] == [n, 1]
    ours.send(Stop())
    finish(process)
