"""Large payloads on their way to another host: put into the server once, and gone from it once they are read."""

from __future__ import annotations

import itertools
import os
import resource
import socket
import sys
from contextlib import closing

from test_far_blocks import connect
from waiting import until

from cloudpool.host import parcels, session as sessions
from cloudpool.host.inbox import Post, host_id

PAYLOAD = b"x" * 200_000


def asked(store, session, *letter):
    """Once the agent of this host has read the letter, and one after it."""
    post = Post(session.keys, session.ttl_ms, session.sealer)
    here = host_id(int(session.process.split(".")[0]))
    store.call(*post.command(here, letter))
    probe = session.blobs.new_name()
    store.call(*post.command(here, ("wanted", probe)))
    until(lambda: store.call("EXISTS", session.keys.base(probe) + "ready"))


def test_a_blob_is_put_into_the_server_once_and_goes_when_it_is_not_wanted(far):
    process = far.Process(target=abs, args=(1,))
    process.start()
    process.join()
    session = sessions.current()
    name = session.blobs.put([PAYLOAD])
    key, ready = parcels.content(session.keys, name), session.keys.base(name) + "ready"
    with closing(connect(session)) as store:
        asked(store, session, "wanted", name)
        assert store.call("HGET", key, "count") == b"1"
        store.call("HSET", key, "count", "mark")
        asked(store, session, "wanted", name)
        assert store.call("HGET", key, "count") == b"mark"
        asked(store, session, "unwanted", name)
        assert store.call("EXISTS", key, ready) == 0
        assert not store.call("HEXISTS", session.keys.objects, name)


def test_who_finds_the_count_of_a_blobs_pieces_finds_them_all(far, monkeypatch):
    """A second reader of the same payload looks for it while it is on its way."""
    process = far.Process(target=abs, args=(1,))
    process.start()
    process.join()
    session = sessions.current()
    monkeypatch.setattr(parcels, "PIECE", 100_000)
    name = session.blobs.new_name()
    key = parcels.content(session.keys, name)
    with closing(connect(session)) as store:
        counts = []

        def line(commands):
            replies = session.channel().call_many(commands)
            counts.append((store.call("HLEN", key), store.call("HEXISTS", key, "count")))
            return replies

        session.carrier.send(line, name, PAYLOAD + b"y")
        assert counts == [(1, 0), (2, 0), (4, 1)]
        assert b"".join(session.fetch(name)) == PAYLOAD + b"y"
        asked(store, session, "unwanted", name)


def test_blob_that_an_agent_has_no_descriptor_for_comes_when_it_has(session, capfd):
    far = session(start_method="subprocess")
    queue, go, told = far.Queue(), far.Event(), far.Queue()
    process = far.Process(target=read_late, args=(queue, go, told))
    process.start()
    queue.put(PAYLOAD)
    assert told.get() == "there"
    mine = sessions.current()
    mine._ask("settle")
    agent = int.from_bytes(mine._agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
    taken = {int(fd) for fd in os.listdir(f"/proc/{agent}/fd")}
    before = resource.prlimit(agent, resource.RLIMIT_NOFILE)
    lowest = next(number for number in itertools.count() if number not in taken)
    resource.prlimit(agent, resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        go.set()
        said = ""

        def complains():
            nonlocal said
            said += capfd.readouterr().err
            return "cannot be read for another host, trying again" in said

        until(complains)
    finally:
        resource.prlimit(agent, resource.RLIMIT_NOFILE, before)
    assert told.get() == len(PAYLOAD)
    process.join()


def read_late(queue, go, told):
    told.put("there")
    go.wait()
    told.put(len(queue.get()))
