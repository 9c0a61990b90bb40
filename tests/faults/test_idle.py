"""What a thread has sent without waiting, and what was cut, arrives though the thread does nothing more with cloudpool."""

import os
import socket
import threading
import time
import warnings

import pytest

import cloudpool
from cloudpool.host import session as sessions

ctx = cloudpool.get_context("fork")
NAME = "cloudpool-lookout"


def lookouts():
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def cut_next(proxy, direction, byte=10):
    channel = sessions.current().channel()
    channel.settle()
    proxy.arm(direction, byte if direction == "request" else 1, channel._connection._sock.getsockname()[1])


def elsewhere(call, *args):
    """What the call returns in another thread, while this one does nothing."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call(*args)))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("direction", ["request", "reply"])
@pytest.mark.parametrize("kind", [ctx.Queue, ctx.SimpleQueue], ids=["Queue", "SimpleQueue"])
def test_item_of_an_idle_thread_arrives_once(kind, direction, proxy):
    q = kind()
    q.put(0)
    assert q.get() == 0
    cut_next(proxy, direction)
    q.put(1)
    assert elsewhere(q.get) == 1
    assert elsewhere(q.empty)


def test_item_arrives_once_though_its_put_meets_the_lookout_that_sends_others_again(proxy, monkeypatch):
    q = ctx.SimpleQueue()
    q.put(0)
    channel = sessions.current().channel()

    def meet(*args):
        monkeypatch.undo()
        channel._connection._sock.shutdown(socket.SHUT_RDWR)
        elsewhere(channel.look_after)
        return channel.post_packed(*args)

    monkeypatch.setattr(channel, "post_packed", meet)
    q.put(1)
    q.put(2)
    assert [elsewhere(q.get) for _ in range(3)] == [0, 1, 2]
    assert q.empty()


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_room_is_given_though_the_getter_is_idle(direction, proxy):
    q = ctx.Queue(1)
    q.put(1)
    cut_next(proxy, direction, 300)  # behind the take: in what says that the item was got
    assert q.get() == 1
    assert elsewhere(q.put, 2) is None
    proxy.disarm()
    assert q.get() == 2


def test_result_of_a_pool_arrives_though_its_root_waits_for_nothing_else(proxy):
    with ctx.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        line = pool._taskqueue._submitter._line
        for byte in (0, 100):
            line.settle()
            proxy.arm("request", byte, line._connection._sock.getsockname()[1])
            assert pool.apply(abs, (-2,)) == 2
            assert proxy.counts()["armed"] == 0
        pool.close()
        pool.join()


def test_lookout_is_there_only_while_something_is_posted(proxy):
    q = ctx.Queue()
    q.put(1)
    assert len(lookouts()) == 1
    lookouts()[0].join(30)
    assert lookouts() == []
    q.put(2)
    assert len(lookouts()) == 1
    assert [q.get(), q.get()] == [1, 2]


def test_fork_meets_no_thread(proxy):
    q = ctx.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Python 3.12 and later warn of threads at a fork
        for n in range(20):
            q.put(n)
            child = ctx.Process(target=q.put, args=(-n,))
            child.start()
            child.join()
    assert sorted(q.get() for _ in range(40)) == sorted([*range(20), *range(0, -20, -1)])


def test_embedded_server_needs_no_lookout():
    sessions.leave()
    ctx.Queue().put(1)
    assert lookouts() == []
    sessions.leave()


def test_frozen_server_keeps_nobody_from_going_on(proxy):
    q = ctx.Queue()
    q.put(0)
    q.empty()
    proxy.freeze()
    began = time.monotonic()
    q.put(1)
    assert time.monotonic() - began < 5
    proxy.thaw()
    assert [q.get(), q.get()] == [0, 1]


def join_and_end(child, tell, proxy):
    child.join(0.2)
    assert child.is_alive()
    proxy.thaw()
    os.write(tell, b"x")
    child.join()
    assert child.exitcode == 0


@pytest.fixture
def child(proxy):
    """A process, and the descriptor that ends it."""
    told, tell = os.pipe()
    child = ctx.Process(target=os.read, args=(told, 1))
    child.start()
    yield child, tell
    os.close(told)
    os.close(tell)


@pytest.mark.timeout(60)  # should it wait for the server
def test_join_keeps_to_its_timeout_though_the_server_is_frozen(child, proxy):
    q = ctx.Queue()
    q.put(0)
    proxy.freeze()
    q.put(1)
    join_and_end(*child, proxy)
    assert [elsewhere(q.get) for _ in range(2)] == [0, 1]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("is_looked_after", [False, True])
def test_join_keeps_to_its_timeout_though_what_was_put_was_cut_and_the_server_is_frozen(
    is_looked_after, child, proxy, monkeypatch
):
    q, began = ctx.Queue(), threading.Event()
    cut_next(proxy, "request", 0)
    session = sessions.current()
    dial = session.dial
    monkeypatch.setattr(session, "dial", lambda killing=0: (began.set(), dial(killing))[1])
    session.lookout.stop()
    channel = session.channel()
    channel.post("PING")  # cut, and the lookout is not there to see it
    proxy.freeze()
    if is_looked_after:
        session.lookout.go_on()
        began.wait()  # it waits for the server, and has the line
    join_and_end(*child, proxy)
    if not is_looked_after:
        session.lookout.go_on()
    q.put(1)
    assert elsewhere(q.get) == 1
