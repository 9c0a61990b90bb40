"""A line to the server of who may outlive its session: another host's agent, a fleet."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from cloudpool.errors import ServerError
from cloudpool.host import leftovers
from cloudpool.host.inbox import Inbox, Post, host_id
from cloudpool.host.line import FarLine, FleetLine, LostError
from cloudpool.settings import ServerUrl
from cloudpool.store.keys import Keys

KEYS = Keys("session")


@pytest.fixture
def store(tcp_server):
    """Of a server in which a session is."""
    with closing(tcp_server.connect()) as store:
        store.call("SET", KEYS.beat, 1)
        yield store


@pytest.fixture
def opened(tcp_server, tmp_path):
    """opened(FarLine): a line of that kind into the session."""
    lines = []
    never, stays_open = os.pipe()

    def opened(kind):
        lines.append(kind("session", str(tmp_path), ServerUrl(tcp_server.url), 5, False, never))
        return lines[-1]

    yield opened
    for line in lines:
        line.store.close()
    os.close(never)
    os.close(stays_open)


def test_host_whose_session_ends_at_its_claim_makes_no_key_anew(store, opened):
    line = opened(FarLine)
    store.call("DEL", KEYS.beat)
    with pytest.raises(ServerError, match="the session is over"):
        line._claim(1)
    assert store.call("KEYS", "*") == []


@pytest.mark.parametrize("kind", [FarLine, FleetLine])
def test_nobody_says_anything_to_a_session_that_has_ended_meanwhile(store, opened, kind):
    line = opened(kind)
    line.begin()
    leftovers.clear(store, KEYS)
    with pytest.raises(LostError):
        line.call("SET", KEYS.base(host_id(1)) + "used", 1)
    assert store.call("KEYS", "*") == []


@pytest.mark.parametrize("kind", [FarLine, FleetLine])
def test_nobody_comes_to_a_session_that_is_over(store, opened, kind):
    line = opened(kind)
    leftovers.clear(store, KEYS)
    with pytest.raises(LostError):
        opened(kind)
    with pytest.raises(LostError):
        Inbox("host.1", Post(KEYS, 0, None), line.open, KEYS.client("host.1"))
    assert store.call("KEYS", "*") == []
    assert leftovers.connections(store, {KEYS.client("line"), KEYS.client("host.1")}) == []


@pytest.mark.parametrize("is_over", [False, True])
def test_inbox_whose_line_is_cut_as_it_is_made(store, opened, is_over):
    line = opened(FarLine)
    connections = []

    def opens():
        connections.append(line.open())
        if len(connections) == 1:
            store.call("CLIENT", "KILL", "ID", connections[0].client_id)
            if is_over:
                leftovers.clear(store, KEYS)
        return connections[-1]

    if is_over:
        with pytest.raises(LostError):
            Inbox("host.1", Post(KEYS, 0, None), opens, KEYS.client("host.1"))
        assert store.call("KEYS", "*") == []
    else:
        Inbox("host.1", Post(KEYS, 0, None), opens, KEYS.client("host.1")).close()
        assert store.call("XLEN", KEYS.base("host.1") + "inbox") == 1
