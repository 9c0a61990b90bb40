"""What happens to the server happens to real ones: frozen, flushed, restarted, replaced, full, and refusing."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from fault_programs import (
    BLOCKED,
    BLOCKED_CALLS,
    ROUNDS,
    end_well,
    work_a_while,
)
from waiting import until

import cloudpool
from cloudpool import settings
from cloudpool.errors import ServerError
from cloudpool.host import membership
from cloudpool.host.session import Key, SessionInfo
from cloudpool.store import wire
from cloudpool.store.durable import Durable

ROOT = Path(__file__).parents[2]


# -- frozen ---------------------------------------------------------------------------------------------------------


def stand_still(pids, seconds):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)  # the time is the fault
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("kind", ["embedded", "own"])
def test_work_goes_on_after_the_server_was_frozen_for_less_and_for_more_than_a_lease(kind, launch, serve):
    server = serve() if kind == "own" else None
    program = launch(ROUNDS, lease_s="1", **({"redis_url": server.url} if server else {}))
    work_a_while(program)
    pid = server.process.pid if server else program.server()
    for seconds in (0.3, 2.5):
        stand_still([pid], seconds)
        work_a_while(program)
    end_well(program)


@pytest.mark.parametrize("kind", ["embedded", "own"])
def test_work_goes_on_after_everything_stood_still_as_on_a_suspended_laptop(kind, launch, serve):
    server = serve() if kind == "own" else None
    program = launch(ROUNDS, lease_s="1", **({"redis_url": server.url} if server else {}))
    work_a_while(program)
    everything = program.watch.processes() | ({server.process.pid} if server else {program.server()})
    stand_still(sorted(everything), 2.5)
    work_a_while(program)
    end_well(program)


def test_root_that_dies_while_the_server_is_frozen_leaves_nothing_here(launch):
    program = launch(ROUNDS, lease_s="1")
    work_a_while(program)
    folder = program.folder()
    program.watch.folder = folder
    os.kill(program.server(), signal.SIGSTOP)
    program.watch.hold()
    os.kill(program.pid, signal.SIGKILL)
    assert program.watch.await_ends() == set()
    until(lambda: not os.path.exists(folder))


def test_who_buries_a_session_does_not_wait_for_a_frozen_server(serve, tmp_path, monkeypatch):
    server = serve()
    info = SessionInfo("test", str(tmp_path), settings.ServerUrl(server.url), 1.0, False, Key())
    monkeypatch.setattr(membership, "BURY_S", 0.3)
    os.kill(server.process.pid, signal.SIGSTOP)
    burial = threading.Thread(target=membership.Session(info, False)._bury_in_server, daemon=True)
    burial.start()
    burial.join(20)
    assert not burial.is_alive()


def test_no_clock_that_can_be_stepped_decides_anything():
    """Leases and timeouts are this machine's monotonic clock; `time.time` may step, and appears only where a date is asked for."""
    # Ages of what is left, signatures of requests, certificates; and what invocations on other machines may have cost since
    # they last said: of clocks the machines share no other.
    dated = {"deploy", "signing.py", "certificates.py", "usage.py", "costs.py", "budget.py"}
    wall = re.compile(
        r"\btime\.time\(|\b(?:datetime|dt)\.now\(|\bCLOCK_REALTIME\b|redis\.call\('TIME'|EXPIREAT|\bEXAT\b|\bPXAT\b"
    )
    files = [*ROOT.glob("cloudpool/**/*.py"), *ROOT.glob("cloudpool/**/*.lua")]
    found = {
        str(path)
        for path in files
        if wall.search(path.read_text(encoding="utf-8")) and not dated & set(path.parts)
    }
    assert found == set()
    assert wall.search("deadline = time.time() + 3")


# -- lost -------------------------------------------------------------------------------------------------------------


def flush(server, program):
    server.ask("FLUSHALL")


def restart_empty(server, program):
    server.kill()
    server.start()


def leave(server, program):
    server.process.kill()


def end_embedded(server, program):
    os.kill(program.server(), signal.SIGKILL)


def flush_embedded(server, program):
    subprocess.run(
        [sys.executable, "-c", "import sys; from cloudpool.store.wire import open_unix; open_unix(sys.argv[1]).call('FLUSHDB')",
         os.path.join(program.folder(), "server.sock")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip


LOSSES = {
    "flushed": (flush, "emptied"),
    "restarted empty": (restart_empty, "without"),
    "gone": (leave, "gone for 2 s"),
    "embedded, ended": (end_embedded, "server has ended"),
    "embedded, flushed": (flush_embedded, "emptied"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_blocked_call_is_told_when_the_state_is_lost(loss, launch, serve):
    lose, why = LOSSES[loss]
    server = None if "embedded" in loss else serve()
    program = launch(BLOCKED, lease_s="2", **({"redis_url": server.url} if server else {}))
    program.lines(BLOCKED_CALLS)
    lose(server, program)
    told = program.lines(BLOCKED_CALLS, 2 + 5 + 10)
    wrong = [line for line in told if "SessionLostError" not in line or why not in line]
    assert [line for line in wrong if not line.startswith("Executor Broken")] == []
    assert program.line() == "all"
    folder = program.folder()
    program.watch.hold()
    program.end()
    assert program.watch.await_ends() == set()
    assert not os.path.exists(folder)


def test_keys_that_expired_early_are_noticed(launch, serve):
    """As when the server's clock has jumped ahead: the session's beat is the first to go."""
    server = serve()
    program = launch(ROUNDS, lease_s="1", redis_url=server.url)
    work_a_while(program)
    [beat] = server.ask("KEYS", "cp:*:beat")
    others = [server.ask("PTTL", key) for key in server.ask("KEYS", "cp:*") if key != beat]
    lasting = [ttl for ttl in others if ttl > 0]  # -1: its expiry is under way, -2: gone
    assert server.ask("PTTL", beat) < min(lasting)
    server.ask("PEXPIRE", beat, 1)
    while (line := program.line()).startswith("round"):
        pass
    assert line.startswith("SessionLostError")


def test_work_goes_on_when_the_server_is_restarted_with_its_append_only_file(launch, serve):
    server = serve("--appendonly", "yes", "--appendfsync", "always")
    program = launch(ROUNDS, lease_s="5", redis_url=server.url)
    for _ in range(2):
        work_a_while(program)
        restart_empty(server, program)
    work_a_while(program)
    end_well(program)


# -- replaced ---------------------------------------------------------------------------------------------------------


class Forwarder:
    """A port in front of a server; where it leads can be changed, which cuts what was open."""

    def __init__(self, port):
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._open = set()
        self._changing = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client):
        target = self.target
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", target)) as server:
            with self._changing:
                if target != self.target:  # changed meanwhile
                    return
                self._open |= {client, server}
            other = {client: server, server: client}
            # Else the second piece of a reply waits 40 ms for the first one's acknowledgement.
            for end in other:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                for source in select.select(list(other), [], [], 30)[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    other[source].sendall(data)

    def lead_to(self, port):
        with self._changing:
            self.target, ends = port, list(self._open)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.lead_to(0)


@pytest.fixture
def pair(serve):
    """A server, its replica, in step, and the way to the first."""
    first, second = serve("--repl-diskless-sync-delay", "0"), serve()
    second.ask("REPLICAOF", "127.0.0.1", first.port)
    until(lambda: b"master_link_status:up" in second.ask("INFO", "replication"))
    way = Forwarder(first.port)
    yield first, second, way
    way.close()


def fail_over(first, second, way):
    second.ask("REPLICAOF", "NO", "ONE")
    first.kill()
    way.lead_to(second.port)
    first.start()  # for the fixture: nobody is led to it


def test_replica_that_lacks_what_was_written_is_not_gone_on_with(launch, pair):
    first, second, way = pair
    program = launch(ROUNDS, lease_s="5", redis_url=way.url)
    work_a_while(program)
    second.ask("REPLICAOF", "127.0.0.1", 1)  # the replica hears no more
    work_a_while(program)
    fail_over(first, second, way)
    while (line := program.line()).startswith("round"):
        pass
    assert line.startswith("SessionLostError"), line
    assert "replica" in line


def test_durable_work_goes_on_with_the_replica(launch, pair):
    first, second, way = pair
    program = launch(ROUNDS, lease_s="5", redis_url=way.url, durable="1")
    work_a_while(program)
    fail_over(first, second, way)
    second.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    third = first
    third.ask("REPLICAOF", "127.0.0.1", second.port)  # durable wants one again
    work_a_while(program)
    end_well(program)


def test_durable_write_that_no_replica_confirms_says_so(launch, pair):
    _, second, way = pair
    program = launch(ROUNDS, lease_s="1", redis_url=way.url, durable="1")
    work_a_while(program)
    second.ask("REPLICAOF", "NO", "ONE")
    while (line := program.line()).startswith("round"):
        pass
    assert line.startswith("ServerError no replica has confirmed"), line


def test_what_is_posted_durably_is_confirmed_however_it_was_packed(serve):
    server, heard = serve(), []
    with closing(Durable.instead_of(server.connect(), 0.1)) as durable:
        for post in (
            durable.post,
            lambda *words, on_reply: durable.post_packed(wire.packed(words), on_reply),
        ):
            with pytest.raises(ServerError, match="no replica has confirmed"):
                post("SET", "word", 1, on_reply=heard.append)
        assert not durable.has_unread
    assert heard == []


@pytest.mark.parametrize("waits", [False, True])
def test_durable_move_is_confirmed_also_when_it_had_to_wait_for_its_element(pair, waits):
    first, second, _ = pair
    with closing(Durable.instead_of(first.connect(), 0.5)) as durable, ThreadPoolExecutor(1) as thread:
        durable.call("SET", "before", 1)
        if not waits:
            first.ask("RPUSH", "items", "x")
        second.process.send_signal(signal.SIGSTOP)
        moved = thread.submit(durable.call, "BLMOVE", "items", "taken", "LEFT", "RIGHT", 10)
        if waits:
            until(lambda: b" flags=b" in first.ask("CLIENT", "LIST"))
            first.ask("RPUSH", "items", "x")
        with pytest.raises(ServerError, match="no replica has confirmed"):
            moved.result()
        second.process.send_signal(signal.SIGCONT)
        assert first.ask("LRANGE", "taken", 0, -1) == [b"x"]
        assert durable.call("BLMOVE", "items", "taken", "LEFT", "RIGHT", 0.01) is None


# -- in the middle of work ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "kind"),
    [("SCRIPT FLUSH", "own"), ("CLIENT KILL TYPE normal", "own"), ("CLIENT KILL TYPE normal", "embedded")],
)
def test_work_goes_on_through(command, kind, launch, serve):
    server = serve() if kind == "own" else None
    program = launch(ROUNDS, **({"redis_url": server.url} if server else {}))
    work_a_while(program, 1)
    store = server.connect() if server else wire.open_unix(os.path.join(program.folder(), "server.sock"))
    with closing(store):
        for _ in range(3):  # as they get on: cut faster than they connect, and nobody would
            assert program.line().startswith("round")
            store.call(*command.split(), *(["SKIPME", "yes"] if "KILL" in command else []))
    end_well(program)


def test_work_waits_while_a_script_of_someone_else_keeps_the_server_busy(launch, serve):
    server = serve("--busy-reply-threshold", "100")
    program = launch(ROUNDS, lease_s="1", redis_url=server.url)
    work_a_while(program)
    with closing(server.connect()) as other:
        other.send("EVAL", "local n = 0 while true do n = n + 1 end", "0")
        time.sleep(2.0)  # the time is the fault
        server.ask("SCRIPT", "KILL")
        work_a_while(program)
    end_well(program)


# -- out of memory ------------------------------------------------------------------------------------------------------

FULL = """
import os, sys, threading
import cloudpool as multiprocessing
from cloudpool.errors import ServerOutOfMemory

def say(*words):
    os.write(1, " ".join(map(str, words)).replace("\\n", " ").encode() + b"\\n")

def refused(call):
    try:
        call()
    except ServerOutOfMemory:
        return True
    return False

def child(lock, queue, event, got, condition):
    with lock:
        got.value = queue.get()
    event.set()
    with condition:
        condition.notify()

def main():
    context = multiprocessing.get_context("fork")
    manager = multiprocessing.Manager()
    lock, semaphore, queue, bounded, joinable = context.Lock(), context.Semaphore(2), context.Queue(), context.Queue(100), context.JoinableQueue()
    event, condition, barrier, (ours, theirs) = context.Event(), context.Condition(), context.Barrier(2), context.Pipe(False)
    shared, listed, pool = manager.dict(a=1), manager.list([1, 2]), context.Pool(2)
    assert pool.map(abs, [-1]) == [1]
    queue.put(1); queue.put(2); got = context.Value("i"); bounded.put(1); joinable.put("job"); theirs.send("message")
    queue.qsize()
    say("ready")
    sys.stdin.readline()
    # what lets others go on, goes on
    for thing in (lock, semaphore):
        thing.acquire()
        thing.release()
    assert lock.acquire(timeout=0.05) and not lock.acquire(timeout=0.05)
    lock.release()
    assert ours.recv() == "message"
    assert joinable.get() == "job"
    joinable.task_done()
    joinable.join()
    # what takes memory is refused, whole
    assert refused(lambda: [bounded.put("x" * 1000) for _ in range(3)])
    assert refused(lambda: [queue.put("x" * 1000) or queue.qsize() for _ in range(3)])
    assert refused(lambda: shared.update(b="x" * 1000, c="x" * 1000))
    assert refused(lambda: listed.append("x" * 1000))
    assert refused(lambda: theirs.send("x" * 1000))
    assert refused(lambda: pool.map(abs, [-1, -2]))
    assert refused(context.Queue)
    assert dict(shared) == {"a": 1} and list(listed) == [1, 2] and bounded.qsize() == 1 and queue.qsize() == 2
    # a new process joins, and everyone reads
    process = context.Process(target=child, args=(lock, queue, event, got, condition))
    with condition:
        process.start()
        assert condition.wait(20)
    process.join()
    assert process.exitcode == 0 and event.is_set()
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    barrier.wait()
    thread.join()
    assert got.value == 1 and queue.get() == 2 and bounded.get() == 1
    assert listed.pop(0) == 1 and shared.pop("a") == 1
    say("full")
    sys.stdin.readline()
    queue.put("x" * 1000)
    assert queue.get() == "x" * 1000
    bounded.put(2)
    assert bounded.get() == 2
    assert pool.map(abs, [-1, -2]) == [1, 2]
    pool.close()
    pool.join()
    say("well")

if __name__ == "__main__":
    main()
"""


def test_server_out_of_memory_refuses_what_takes_some_and_nothing_else(launch, serve):
    server = serve()
    program = launch(FULL, lease_s="1", redis_url=server.url)
    assert program.line() == "ready"
    server.ask("CONFIG", "SET", "maxmemory", "1")
    program.tell()
    assert program.line() == "full"
    server.ask("CONFIG", "SET", "maxmemory", "0")
    program.tell()
    assert program.line() == "well"
    status, said = program.end()
    assert (status, said) == (0, "")
    assert server.ask("KEYS", "cp:*") == []


def test_command_beyond_the_servers_limit_is_refused_and_harms_nothing(server, monkeypatch):
    shared = cloudpool.Manager().dict()
    monkeypatch.setattr(wire, "MOST_BYTES", 10_000)  # half a gigabyte is much for a test
    with pytest.raises(ServerError, match="too many for one command: the server takes 10000"):
        shared["k" * 20_000] = 1
    shared["a"] = 1
    assert dict(shared) == {"a": 1}


# -- refused at the start, or later --------------------------------------------------------------------------------------

ONE_LOCK = """
import cloudpool, sys, warnings
warnings.simplefilter("always")
try:
    with cloudpool.Lock():
        print("has it")
except cloudpool.errors.CloudpoolError as error:
    print(type(error).__name__, error)
"""


def said_at_the_start(url, **settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDPOOL_")}
    environment.update({f"CLOUDPOOL_{k.upper()}": v for k, v in settings.items()})
    done = subprocess.run(
        [sys.executable, "-c", ONE_LOCK], env={**environment, "CLOUDPOOL_REDIS_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    assert 1 <= len(done.stdout.strip().splitlines()) <= 3
    return done.stdout.strip(), done.stderr


def test_node_of_a_cluster_is_refused(serve):
    said, _ = said_at_the_start(serve("--cluster-enabled", "yes").url)
    assert said.startswith("ServerError the server is a node of a Cluster")


def test_replica_is_refused(pair):
    _, second, _ = pair
    said, _ = said_at_the_start(second.url)
    assert said.startswith("ServerError the server is a replica")
    assert "CLOUDPOOL_REDIS_URL" in said


def test_full_server_is_refused(serve):
    said, _ = said_at_the_start(serve("--maxmemory", "1").url)
    assert said.startswith("ServerError The Redis or Valkey server has no memory left")


def test_server_that_takes_no_more_connections_is_refused(serve):
    server = serve("--maxclients", "1")
    with closing(server.connect()):
        said, _ = said_at_the_start(server.url)
    assert said.startswith("ServerError")
    assert "max number of clients" in said
    assert "maxclients" in said


def test_server_that_cannot_save_is_refused(serve):
    server = serve()
    server.ask("CONFIG", "SET", "save", "1 1")
    server.ask("SET", "some", "thing")
    os.chmod(server.folder, 0o500)
    try:
        if os.geteuid() == 0:  # to whom no folder is closed: it is in the way of the file
            os.mkdir(server.folder / "dump.rdb")
        with suppress(Exception):
            server.ask("BGSAVE")
        until(lambda: b"rdb_last_bgsave_status:err" in server.ask("INFO", "persistence"))
        said, _ = said_at_the_start(server.url)
    finally:
        os.chmod(server.folder, 0o700)
    assert said.startswith("ServerError the server takes no writes, since it cannot save")
    assert "stop-writes-on-bgsave-error" in said


def test_durable_without_a_replica_is_refused(serve):
    said, _ = said_at_the_start(serve().url, durable="1", lease_s="1")
    assert said.startswith("ServerError CLOUDPOOL_DURABLE is set, and the server has no replica")


def test_server_that_evicts_is_warned_of(serve):
    said, warned = said_at_the_start(serve("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru").url)
    assert said == "has it"
    assert warned.count("RuntimeWarning") == 1
    assert "allkeys-lru" in warned
    assert "noeviction" in warned


def test_a_pool_goes_on_after_a_death_that_met_a_server_without_room_for_connections(launch, serve):
    server = serve()
    program = launch(
        """
import os, signal
import cloudpool
ctx = cloudpool.get_context("fork")
both = ctx.Barrier(2)
pool = ctx.Pool(2)
print(sorted(pool.map(lambda x: both.wait(30), range(2), 1)), flush=True)  # each worker has its connection
os.read(0, 100)  # a worker that is forked meanwhile closes sys.stdin
workers = list(pool._pool)
os.kill(workers[0].pid, signal.SIGKILL)
workers[0].join()
os.read(0, 100)
print(pool.map_async(abs, range(50), 1).get(60) == list(range(50)), flush=True)
os.kill(workers[1].pid, signal.SIGKILL)
print(pool.map_async(abs, range(50), 1).get(60) == list(range(50)), flush=True)
pool.close()
pool.join()
print("well", flush=True)
""",
        redis_url=server.url, lease_s="0.5",
    )  # fmt: skip
    assert program.line() == "[0, 1]"
    with closing(wire.open_url(server.url)) as admin:
        admin.call("CONFIG", "SET", "maxclients", "2")
        program.tell()
        time.sleep(6)  # the time is the fault: workers come, get no connection, and end
        admin.call("CONFIG", "SET", "maxclients", "1000")
    program.tell()
    assert [program.line() for _ in range(3)] == ["True", "True", "well"]


def test_tasks_that_wait_behind_a_long_one_go_on_though_nobody_else_gets_a_connection(launch, serve):
    """The thread that gives them back has none of its own yet. Later it does what it is for."""
    server = serve()
    program = launch(
        """
import sys, time
import cloudpool
def rest(seconds):
    if seconds:
        time.sleep(seconds)
pool = cloudpool.get_context("fork").Pool(1)
seen = cloudpool.Event()
list(pool.imap(rest, [0] * 500))
print("ready", flush=True)
sys.stdin.readline()
began = time.monotonic()
for result in [pool.apply_async(rest, (s,)) for s in [0] * 64 + [0.5] + [0] * 64]:
    result.get(60)
print(time.monotonic() - began < 5, flush=True)  # a connection is tried for 10 s
sys.stdin.readline()
for _ in range(3):
    list(pool.imap(rest, [0] * 200))
    seen.clear()
    for _ in range(64):
        pool.apply_async(rest, (0,))
    pool.apply_async(abs, (1,), callback=lambda _: seen.set())
    print(pool.apply_async(seen.wait, (30,)).get(60), flush=True)  # the result before it is sent meanwhile
""",
        redis_url=server.url, lease_s="7",
    )  # fmt: skip
    assert program.line() == "ready"
    with closing(wire.open_url(server.url)) as admin:
        clients = len(admin.call("CLIENT", "LIST").splitlines())
        admin.call("CONFIG", "SET", "maxclients", clients)
        program.tell()
        assert program.line() == "True"
        admin.call("CONFIG", "SET", "maxclients", "1000")
    program.tell()
    assert [program.line() for _ in range(3)] == ["True"] * 3


def test_a_refused_submission_is_told_without_a_lock_that_a_submitting_thread_waits_for(launch, serve):
    server = serve("--maxmemory-policy", "noeviction")
    program = launch(
        """
import sys, threading, time
import cloudpool
class Slow:
    def __reduce__(self):
        time.sleep(4)  # the collector looks meanwhile at what was sent before, and hears of the refusal
        return int, ()
executor = cloudpool.Executor(2, cloudpool.get_context("fork"))
print(executor.submit(abs, -1).result(60), flush=True)
sys.stdin.readline()
first = executor.submit(len, bytes(1000))
second = executor.submit(abs, Slow())
for future in (first, second):
    print(type(future.exception(60)).__name__, flush=True)
""",
        redis_url=server.url,
    )  # fmt: skip
    assert program.line() == "1"
    server.ask("CONFIG", "SET", "maxmemory", "1")
    program.tell()
    assert [program.line() for _ in range(2)] == ["ServerOutOfMemory"] * 2


def test_process_that_gets_no_connection_says_so(launch, serve):
    server = serve()
    program = launch(
        """
import threading, sys
import cloudpool
lock = cloudpool.Lock()
print("ready", flush=True)
sys.stdin.readline()
def more():
    try:
        lock.acquire()
    except cloudpool.errors.CloudpoolError as error:
        print(type(error).__name__, str(error).replace("\\n", " "), flush=True)
thread = threading.Thread(target=more)
thread.start()
thread.join()
lock.acquire()  # whoever is connected goes on
lock.release()
print("well", flush=True)
""",
        redis_url=server.url, lease_s="0.5",
    )  # fmt: skip
    assert program.line() == "ready"
    server.ask("CONFIG", "SET", "maxclients", "2")
    program.tell()
    said = program.line()
    assert said.startswith("ServerError")
    assert "max number of clients" in said
    assert program.line() == "well"
