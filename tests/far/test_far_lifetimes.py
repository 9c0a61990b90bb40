"""What far processes need is gone with them: keys, connections, descriptors, memory and files are as before, however many there were."""

from __future__ import annotations

import gc
import os
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from far_hosts import once
from waiting import ended_well, until

import cloudpool
from cloudpool.host import folder as folders, session as sessions
from cloudpool.store.wire import open_unix

PROCESSES, POOLS = 80, 8
PLUGIN = str(Path(__file__).parent / "plugin")


def square(x):
    return x * x


def use(queue, lock, event, data, payload):
    with lock:
        data[0] += 1
    queue.put(payload)
    event.set()


@pytest.fixture
def far(session):
    return session()


def state(hosts):
    """What there is of each kind: keys by kind, connections, descriptors of agents, files."""
    mine = sessions.current()
    with closing(open_unix(os.path.join(mine.info.folder, folders.SERVER_SOCKET))) as store:
        keys = Counter(kind(key.decode()) for key in store.call("KEYS", "*"))
        registered = Counter(i.decode().partition(".")[0] for i in store.call("HKEYS", mine.keys.objects))
        letters = {key: store.call("XLEN", key) for key in store.call("KEYS", "*inbox")}
        connections = len(store.call("CLIENT", "LIST").splitlines())
        live = store.call("SCARD", mine.keys.live)
    agents = [hosts.home_agent(), hosts.fleet(), *hosts.agents()]
    assert max(letters.values()) < 1000
    return {
        "keys": keys, "registered": registered, "connections": connections, "live": live,
        "descriptors": [len(os.listdir(f"/proc/{pid}/fd")) for pid in agents],
        "mine": len(os.listdir("/proc/self/fd")),
        "processes": len(hosts.all()),
        "files": sorted(len(os.listdir(folder)) for folder in hosts.folders if os.path.isdir(folder)),
    }  # fmt: skip


def kind(key):
    return key.partition("{")[2].partition("}")[0].partition(".")[0] + key.rpartition(":")[2]


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def some_processes(far, count):
    payload = b"x" * 200_000  # a blob
    for _ in range(count // 4):
        queue, lock, event, data = far.Queue(), far.Lock(), far.Event(), far.RawArray("i", 2000)
        four = [far.Process(target=use, args=(queue, lock, event, data, payload)) for _ in range(4)]
        for process in four:
            process.start()
        for _ in four:
            assert queue.get(timeout=30) == payload
        for process in four:
            process.join(30)
            assert process.exitcode == 0


def some_pools(far, count):
    for _ in range(count):
        with far.Pool(4) as pool:
            assert pool.map(square, range(10)) == [x * x for x in range(10)]
            pool.close()
            pool.join()


def test_everything_is_as_before(far, hosts):
    hosts.folders.clear()
    some_processes(far, 16)
    some_pools(far, 2)
    settle()
    before = state(hosts)
    agents = [hosts.home_agent(), *hosts.agents()]
    memory = [resident(pid) for pid in agents]
    some_processes(far, PROCESSES)
    some_pools(far, POOLS)
    settle()
    until(lambda: state(hosts) == before)
    grown = [resident(pid) - was for pid, was in zip(agents, memory, strict=True)]
    assert max(grown) < 8 * 2**20


def settle():
    gc.collect()
    sessions.current()._ask("settle")


def make_and_send(queue):
    inner = cloudpool.Queue()
    inner.put("kept")
    queue.put(inner)


def use_later(inner, ready, go, results):
    ready.set()
    go.wait()
    results.put(inner.get(timeout=60))


def test_object_that_comes_back_to_its_makers_host_is_held_there(session):
    far = session(TEST_HOSTS=1)
    queue, ready, go, results = far.Queue(), far.Event(), far.Event(), far.Queue()
    maker = far.Process(target=make_and_send, args=(queue,))
    maker.start()
    inner = queue.get(timeout=90)
    mine = sessions.current()
    key, here = mine.keys.base(inner._items._id) + "holders", mine.process.partition(".")[0].encode()
    with closing(open_unix(os.path.join(mine.info.folder, folders.SERVER_SOCKET))) as store:
        until(lambda: store.call("SMEMBERS", key) == [here])  # nobody there has it
        user = far.Process(target=use_later, args=(inner, ready, go, results))
        user.start()
        assert ready.wait(90)
        del inner
        settle()
        until(lambda: here not in store.call("SMEMBERS", key))
    go.set()
    assert results.get(timeout=90) == "kept"
    ended_well(maker, user)


IDLE = """
import cloudpool as multiprocessing, os, time
from cloudpool.host import session as sessions

def look(array, queue, go):
    queue.put((os.getpid(), array[0]))
    go.wait()

if __name__ == "__main__":
    array, queue, go = multiprocessing.RawArray("i", 2**16), multiprocessing.Queue(), multiprocessing.Event()
    array[0] = 5
    pids = set()
    processes = [multiprocessing.Process(target=look, args=(array, queue, go)) for _ in range(2)]
    for process in processes:
        process.start()
        pid, found = queue.get()
        pids.add(pid)
        assert found == 5
        call = sessions.current().channel().call
        assert all(call("PTTL", key) > 0 for key in call("KEYS", "*"))
        time.sleep(7)  # more than two expiries
    go.set()
    for process in processes:
        process.join()
    print(len(pids), [process.exitcode for process in processes])
"""


@once
def test_idle_hosts_outlive_their_keys_expiry(script, tcp_server, tmp_path):
    """The expiry is a constant: the program runs a copy of the package in which it is short."""
    package = tmp_path / "copy"
    shutil.copytree(Path(cloudpool.__file__).parent, package / "cloudpool")
    keys = package / "cloudpool/store/keys.py"
    text = keys.read_text()
    assert "SHARED_TTL_MS = 600_000" in text
    keys.write_text(text.replace("SHARED_TTL_MS = 600_000", "SHARED_TTL_MS = 3_000"))
    path = os.pathsep.join((str(package), PLUGIN))
    program = script(IDLE, CLOUDPOOL_REDIS_URL=tcp_server.url, PYTHONPATH=path)
    assert program.end() == (0, "2 [0, 0]\n", "")
    with closing(tcp_server.connect()) as store:
        assert store.call("DBSIZE") == 0
