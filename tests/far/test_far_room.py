"""What an agent has no room for, or is refused by the server, is told to who asked; the agent, and all else, goes on."""

from __future__ import annotations

import os
import resource
from contextlib import closing

from waiting import ended_well

from cloudpool.host import folder as folders, session as sessions
from cloudpool.store.wire import open_unix

SIZE = 2**20


def look_at(array):
    assert array[SIZE - 1] == 7


def test_block_that_a_host_has_no_room_for(session, hosts, capfd):
    far = session(TEST_HOSTS=1)
    first = far.Process(target=abs, args=(-1,))
    first.start()
    ended_well(first)
    array = far.RawArray("B", SIZE)
    array[SIZE - 1] = 7
    [agent] = hosts.agents()
    before = resource.prlimit(agent, resource.RLIMIT_FSIZE)
    resource.prlimit(agent, resource.RLIMIT_FSIZE, (SIZE // 2, before[1]))
    refused = far.Process(target=look_at, args=(array,))
    refused.start()
    refused.join(60)
    resource.prlimit(agent, resource.RLIMIT_FSIZE, before)
    assert refused.exitcode == 1
    assert "No room for the shared memory of another host" in capfd.readouterr().err
    again = far.Process(target=look_at, args=(array,))
    again.start()
    ended_well(again)
    assert hosts.agents() == [agent]


def test_block_that_the_server_refuses_to_tell_of_is_asked_for_again(session):
    far = session(TEST_HOSTS=1)
    array = far.RawArray("B", SIZE)
    array[SIZE - 1] = 7
    mine = sessions.current()
    socket = os.path.join(mine.info.folder, folders.SERVER_SOCKET)
    with closing(open_unix(socket)) as store, closing(open_unix(socket)) as monitor:
        store.call("SET", mine.keys.readers, "what is no hash")
        monitor.call("MONITOR")
        process = far.Process(target=look_at, args=(array,))
        process.start()
        while not (b'"HSET"' in (said := monitor.receive()) and mine.keys.readers.encode() in said):
            pass
        store.call("DEL", mine.keys.readers)
    ended_well(process)
