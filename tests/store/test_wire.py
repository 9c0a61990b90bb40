"""A connection: replies meet their commands, whatever posted commands and cuts do in between."""

import os
import socket

import pytest

from cloudpool.errors import ServerError
from cloudpool.store.embedded import Server
from cloudpool.store.wire import Connection, ReplyError, open_url


@pytest.fixture
def connection(store):
    store.call("DEL", "test:a", "test:b")
    yield store
    store.call("DEL", "test:a", "test:b")


def test_replies_of_posted_commands_come_before_that_of_the_next_call(connection):
    heard = []
    for n in range(5):
        connection.post("RPUSH", "test:a", n, on_reply=heard.append)
    assert connection.call("LLEN", "test:a") == 5
    assert heard == [1, 2, 3, 4, 5]


def test_error_of_a_posted_command_goes_to_its_callback_and_shifts_no_reply(connection):
    heard = []
    connection.call("SET", "test:a", "x")
    connection.post("INCR", "test:a", on_reply=heard.append)
    connection.post("SET", "test:b", "y")
    assert connection.call("GET", "test:a") == b"x"
    assert connection.call("GET", "test:b") == b"y"
    assert isinstance(heard[0], ReplyError)
    assert heard[0].code == "ERR"


def test_errors_of_many_stand_in_the_list(connection):
    replies = connection.call_many([("SET", "test:a", "x"), ("INCR", "test:a"), ("GET", "test:a")])
    assert replies[0] == b"OK"
    assert isinstance(replies[1], ReplyError)
    assert replies[2] == b"x"


def test_more_posts_than_may_be_under_way_are_read_meanwhile(connection):
    for n in range(3 * Connection.MOST_PENDING):
        connection.post("RPUSH", "test:a", n)
    assert len(connection._pending) <= Connection.MOST_PENDING
    connection.settle()
    assert connection.call("LLEN", "test:a") == 3 * Connection.MOST_PENDING


def test_end_of_the_connection_is_an_oserror(connection, store):
    ours, theirs = socket.socketpair()
    cut = Connection(ours)
    theirs.close()
    with pytest.raises(OSError):
        cut.call("PING")
    cut.close()


def test_abandoned_connection_gives_the_callbacks_whose_replies_never_came():
    ours, theirs = socket.socketpair()
    cut = Connection(ours)
    heard = []
    cut.post("PING", on_reply=heard.append)
    cut.post("PING")
    cut.abandon("cut")
    assert heard == ["cut"]
    theirs.close()


def test_url_with_a_wrong_password_is_told_without_it(tcp_server):
    with pytest.raises(ServerError) as caught:
        open_url(tcp_server.url.replace(tcp_server.password, "wrong-word"))
    assert "wrong-word" not in str(caught.value)
    assert str(tcp_server.port) in str(caught.value)


def test_server_that_cannot_start_tells_its_last_words(tmp_path):
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\necho first\necho last words\nexit 3\n")
    script.chmod(0o755)
    server = Server.start(str(script), str(tmp_path), str(tmp_path / "s"))
    with pytest.raises(ServerError, match="ended with status 3: last words"):
        server.await_ready()
    os.close(server.log)


def test_server_that_is_no_program_says_so(tmp_path):
    with pytest.raises(ServerError, match="cannot start the server"):
        Server.start(str(tmp_path / "missing"), str(tmp_path), str(tmp_path / "s"))
