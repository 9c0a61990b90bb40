"""The rights that `python -m cloudpool acl` prints: all that cloudpool needs, and nothing else."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from needed import needed

import cloudpool
from cloudpool.store import rights

ROOT = Path(__file__).parents[2]
PASSWORD = "of-the-acl-user"

# Not in the code: sent by redis-py, which opens the connections.
OF_REDIS_PY = {"select"}  # where the URL names a database
OF_ALL = {"auth"}  # in the code (store/serving.py), and needs no right

# Everything once, by one who may do nothing else; deaths, cuts and interruptions are what the rest is needed for.
PROGRAM = """
import os, sys, threading, warnings
import cloudpool as multiprocessing

warnings.simplefilter("ignore", RuntimeWarning)  # of the lock whose holder has died
from cloudpool import shared_memory

def die(queue, lock, joinable, pipe, barrier, condition):
    lock.acquire()
    joinable.get()
    queue.get()
    os._exit(1)

def once(path):
    try:
        os.mkdir(path)
    except FileExistsError:
        return 1
    os._exit(1)

def work(lock, event, barrier, pipe, queue, condition):
    with lock:
        event.wait()
    barrier.wait()
    with condition:
        condition.notify_all()
    pipe.send(queue.get())

if __name__ == "__main__":
    ctx = multiprocessing.get_context("spawn")
    lock, rlock, event, barrier, condition = ctx.Lock(), ctx.RLock(), ctx.Event(), ctx.Barrier(2), ctx.Condition()
    ours, theirs = ctx.Pipe()
    queue, bounded, joinable, simple = ctx.Queue(), ctx.Queue(1), ctx.JoinableQueue(), ctx.SimpleQueue()
    child = ctx.Process(target=work, args=(lock, event, barrier, theirs, queue, condition))
    child.start()
    event.set()
    barrier.wait()
    queue.put("x" * 100_000)
    assert len(ours.recv()) == 100_000
    child.join()
    assert child.exitcode == 0
    with condition:
        condition.wait(0.01)
    try:
        barrier.wait(0.01)
    except threading.BrokenBarrierError:
        barrier.reset()
    bounded.put(1)
    threading.Timer(0.2, bounded.get).start()
    bounded.put(2)
    event.clear()
    assert not event.wait(0.01) and not event.is_set()
    signal = ctx.Semaphore(0)
    signal.release()
    large = ctx.Semaphore(5000)
    large.acquire()
    large.get_value()
    ctx.BoundedSemaphore(2).acquire()
    simple.put(1)
    simple.get()
    for value in range(3):
        joinable.put(value)
    queue.put(1)
    dying = ctx.Process(target=die, args=(queue, lock, joinable, theirs, barrier, condition))
    dying.start()
    dying.join()
    assert lock.acquire(timeout=30)
    for _ in range(3):
        joinable.get()
        joinable.task_done()
    joinable.join()
    assert multiprocessing.connection.wait([queue], 0.01) == []
    del theirs
    child = dying = None
    manager = ctx.Manager()
    mapping, listing = manager.dict({"a": 1, (1, 2): 3}), manager.list([3, 1, 2])
    mapping["a"] = 2
    mapping.pop("a"); mapping.popitem(); mapping.clear(); len(mapping), mapping.get(1), 1 in mapping
    listing.sort(); listing.insert(1, 5); listing.insert(99, 5); listing.pop(1); listing.pop(); listing[0] = 9; len(listing)
    listing[:1] = [4]
    space, value, array = manager.Namespace(a=1), manager.Value("i", 1), manager.Array("i", [1, 2])
    space.b = 1
    del space.b
    array[0] = 3; array[:] = array[::-1]; array[-1]; len(array); value.value = 2
    manager.Queue().put(1)
    multiprocessing.Value("i").value
    memory = shared_memory.SharedMemory(create=True, size=10)
    memory.close()
    memory.unlink()
    with ctx.Pool(2) as pool:
        assert pool.map(abs, range(-50, 0), 1) == list(range(50, 0, -1))
        assert pool.map(once, [sys.argv[1]]) == [1]
        assert pool.map(once, [sys.argv[1] + "2", sys.argv[1] + "2"], 2) == [1, 1]
    pool.join()
    manager.shutdown()
    print("done", flush=True)
"""


def in_the_code(commands: set[str]) -> set[str]:
    """Which of the server's commands are spelled in cloudpool's scripts and modules."""
    found = set()
    for path in (ROOT / "cloudpool/store/lua").glob("*.lua"):
        found |= {name.lower() for name in re.findall(r"redis\.call\('(\w+)'", path.read_text())}
    for path in (ROOT / "cloudpool").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            elements = (
                node.elts if isinstance(node, ast.Tuple) else node.args if isinstance(node, ast.Call) else []
            )
            words = [e.value if isinstance(e, ast.Constant) else None for e in elements]
            for word, following in zip(words, [*words[1:], None], strict=False):
                if isinstance(word, str) and word.isupper() and word.lower() in commands:
                    sub = f"{word}|{following}".lower()
                    found.add(sub if sub in commands else word.lower())
    return found


def test_they_are_what_the_code_sends_each_command_and_no_other(tcp_server):
    store = tcp_server.connect()
    commands = {name.decode() for name in store.call("COMMAND", "LIST")}
    for parent in ("client", "script"):
        commands |= {i[0].decode() for i in store.call("COMMAND", "INFO", parent)[0][9]}
    store.close()
    assert set(rights.COMMANDS) == (in_the_code(commands) - OF_ALL) | OF_REDIS_PY
    assert len(set(rights.COMMANDS)) == len(rights.COMMANDS)


@pytest.fixture
def user_url(tcp_server):
    """The URL of a user who was made by the command that is printed."""
    needed("cryptography")
    printed = subprocess.run(
        [sys.executable, "-m", "cloudpool", "acl", "--user", "limited"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, timeout=30,
    )  # fmt: skip
    assert printed.returncode == 0, printed.stderr
    store = tcp_server.connect()
    assert store.call(*printed.stdout.replace(">PASSWORD", f">{PASSWORD}").split()) == b"OK"
    store.close()
    return f"redis://limited:{PASSWORD}@127.0.0.1:{tcp_server.port}/1"


def test_all_primitives_work_for_a_user_who_has_them_and_nothing_else(tcp_server, user_url, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program, tmp_path / "once"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CLOUDPOOL_REDIS_URL": user_url},
        text=True, capture_output=True, timeout=90,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr
    assert done.stderr == ""
    store = tcp_server.connect()
    denied = {bytes(entry[7]) for entry in store.call("ACL", "LOG")}
    assert denied <= {b"client|setinfo"}  # redis-py's own introduction, which it does without
    ran = {line.split(b":")[0] for line in store.call("INFO", "commandstats").splitlines() if b":" in line}
    assert len([c for c in rights.COMMANDS if f"cmdstat_{c}".encode() in ran]) > 0.85 * len(rights.COMMANDS)
    store.close()


def test_the_user_may_do_nothing_else(tcp_server, user_url):
    from cloudpool.store.wire import ReplyError, open_url

    store = open_url(user_url)
    for command in (("GET", "other"), ("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("MONITOR",), ("ACL", "LIST"),
                    ("PUBLISH", "x", "y"), ("SET", "cpx", "1")):  # fmt: skip
        with pytest.raises(ReplyError, match="NOPERM"):
            store.call(*command)
    assert store.call("GET", "cp:x") is None
    store.close()


@pytest.mark.parametrize("name", ["", "two words", "a\nb"])
def test_a_name_that_no_user_can_have_is_refused(name):
    said = subprocess.run(
        [sys.executable, "-m", "cloudpool", "acl", "--user", name],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, timeout=30,
    )  # fmt: skip
    assert (said.returncode, said.stdout) == (2, "")
    assert "spaces" in said.stderr


def test_the_documentation_shows_the_command():
    assert "python -m cloudpool acl" in (ROOT / "docs/security.md").read_text()
    assert cloudpool.__version__
