"""What the server refuses of what was posted is said once, at a command that has not been sent; and takes nothing with it."""

import socket

import pytest

import cloudpool
from cloudpool.errors import ServerError
from cloudpool.host import session as sessions
from cloudpool.store.wire import Connection, ReplyError


@pytest.fixture
def channel(store):
    store.call("SET", "test:word", "word")
    channel = sessions.current().channel()
    yield channel
    store.call("DEL", "test:word", "test:list")


def post_nonsense(channel):
    channel.post("INCR", "test:word")


def cut(channel):
    channel._connection._sock.shutdown(socket.SHUT_RDWR)


def test_what_was_taken_meanwhile_is_kept_and_then_it_is_said(channel):
    lock, q = cloudpool.Lock(), cloudpool.Queue()
    q.put("item")
    post_nonsense(channel)
    assert lock.acquire(block=False)
    with pytest.raises(ReplyError, match="not an integer"):
        q.get()
    assert q.get() == "item"
    lock.release()
    assert lock.acquire(block=False)
    lock.release()


def test_command_that_says_it_was_not_sent(channel, store):
    post_nonsense(channel)
    assert channel.call("RPUSH", "test:list", 1) == 1
    for many in (False, True):
        with pytest.raises(ReplyError, match="not an integer"):
            channel.call_many([("RPUSH", "test:list", 2)]) if many else channel.call("RPUSH", "test:list", 2)
        assert store.call("LRANGE", "test:list", 0, -1) == [b"1"]
        post_nonsense(channel)
        channel.call("PING")
    with pytest.raises(ReplyError, match="not an integer"):
        channel.settle()


def test_what_is_posted_behind_it_is_sent_however_much_is_under_way(channel, store):
    post_nonsense(channel)
    for n in range(2 * Connection.MOST_PENDING):
        channel.post("RPUSH", "test:list", n)
    with pytest.raises(ReplyError, match="not an integer"):
        channel.settle()
    assert store.call("LLEN", "test:list") == 2 * Connection.MOST_PENDING


def test_it_is_said_once_though_the_connection_was_cut_before_it_was_known(channel, store):
    channel.settle()
    channel.later(lambda: channel.call("INCR", "test:word"))  # as what a cut has left
    channel.later(lambda: channel.call("RPUSH", "test:list", 1))
    with pytest.raises(ReplyError, match="not an integer"):
        channel.call("PING")
    assert store.call("LLEN", "test:list") == 1
    assert channel.call("PING") == b"PONG"


def test_what_has_not_reached_the_server_is_left_for_later(channel, store, monkeypatch):
    channel.settle()
    channel.later(lambda: channel.call("RPUSH", "test:list", 1))
    cut(channel)

    def refuse(killing=0):
        raise ServerError("the server takes no more connections")

    with monkeypatch.context() as patch:
        patch.setattr(channel._dialer, "dial", refuse)
        with pytest.raises(ServerError, match="no more connections"):
            channel.call("PING")
    assert channel.call("LLEN", "test:list") == 1


def test_look_at_what_a_cut_command_did_is_not_kept_from_it(channel, store):
    """What was posted before is sent again first; its error is not that of the command whose fate is looked for."""
    lock = cloudpool.Lock()
    sessions.current().join(lock._semlock._id)
    channel.settle()
    channel.post("INCR", "test:word")
    cut(channel)
    assert lock.acquire(block=False)
    with pytest.raises(ReplyError, match="not an integer"):
        channel.call("PING")
    lock.release()
    assert lock.acquire(block=False)
    lock.release()
