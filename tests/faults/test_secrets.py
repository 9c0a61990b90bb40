"""Where the session's key and the server's password are not; and who cannot come near the embedded server."""

from __future__ import annotations

import base64
import logging
import os
import pickle
import pwd
import re
import stat
import subprocess
import sys
import traceback
import uuid
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

import cloudpool
from cloudpool import settings
from cloudpool.errors import ServerError
from cloudpool.host import folder as folders, mail, session as sessions
from cloudpool.host.session import Key, SessionInfo
from cloudpool.sealing import Sealer
from cloudpool.settings import ServerUrl
from cloudpool.store import wire

ROOT = str(Path(__file__).parents[2])
PASSWORD = "s3cr3t-w0rd-of-mine"
KEY = Key(b"k3y-of-the-session!".ljust(32, b"#"))

# Works, tells its key, waits, and then ends.
PROGRAM = """
import logging, sys
import cloudpool as multiprocessing
from cloudpool.host import session as sessions

def work(queue, lock, end):
    with lock:
        queue.put("working")
    end.wait()

def fail(x):
    raise ValueError(x)

if __name__ == "__main__":
    logging.basicConfig(level=0)
    multiprocessing.log_to_stderr(1)
    ends, children = multiprocessing.Event(), []
    queue, lock = multiprocessing.Queue(), multiprocessing.Lock()
    for method in ("fork", "spawn", "forkserver"):
        children.append(multiprocessing.get_context(method).Process(target=work, args=(queue, lock, ends)))
        children[-1].start()
        queue.get()
    pool = multiprocessing.get_context("spawn").Pool(1)
    try:
        pool.apply(fail, (sessions.current(),))
    except Exception as error:
        print(repr(error), file=sys.stderr)
    print(sessions.current().info.key.hex(), flush=True)
    sys.stdin.readline()
    ends.set()
    pool.close()
    pool.join()
"""


def traces(secret: bytes) -> set[bytes]:
    """What the secret may look like."""
    return {secret, secret.hex().encode(), base64.b64encode(secret), repr(secret)[2:-1].encode()}


@pytest.mark.parametrize("place", ["file", "environment"])
def test_no_process_list_log_or_key_in_the_server_has_a_secret(tcp_server, tmp_path, place):
    program, mark = tmp_path / "program.py", str(uuid.uuid4())
    program.write_text(PROGRAM)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDPOOL_")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": ROOT, "OF_TEST": mark}
    if place == "file":
        config = tmp_path / ".config/cloudpool/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'redis_url = "{tcp_server.url}"\n')
    else:
        environment["CLOUDPOOL_REDIS_URL"] = tcp_server.url
    with subprocess.Popen(
        [sys.executable, program], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        key = bytes.fromhex(running.stdout.readline())
        assert len(key) == 32
        listed = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                if mark.encode() in environ:
                    listed[pid] = Path(f"/proc/{pid}/cmdline").read_bytes(), environ
            except OSError:  # another's, or gone meanwhile
                continue
        store = tcp_server.connect()
        dump = repr([store.call("DUMP", k) for k in store.call("KEYS", "*")] + store.call("KEYS", "*"))
        clients = store.call("CLIENT", "LIST")
        store.close()
        said = running.communicate("\n", timeout=60)[1]
    assert running.returncode == 0
    assert len(listed) >= 5  # root, agent, three children and more
    for command_line, environ in listed.values():
        for trace in traces(key) | traces(tcp_server.password.encode()):
            assert trace not in command_line
            if place == "file":
                assert trace not in environ
        assert not any(trace in environ for trace in traces(key))
    for trace in traces(key) | traces(tcp_server.password.encode()):
        assert trace.decode(errors="replace") not in said
        assert trace not in clients
        assert trace.decode(errors="replace") not in dump


@pytest.mark.parametrize(
    "thing",
    [
        KEY,
        ServerUrl(f"redis://me:{PASSWORD}@localhost/0"),
        SessionInfo("id", "/folder", ServerUrl(f"redis://:{PASSWORD}@localhost/0"), 1.0, False, KEY),
        tuple(SessionInfo("id", "/folder", ServerUrl(f"redis://:{PASSWORD}@localhost/0"), 1.0, False, KEY)),
        Sealer(KEY),
        vars(Sealer(KEY))["_mine"],
        vars(Sealer(KEY))["_key"],
        settings.read({"redis_url": f"redis://:{PASSWORD}@localhost/0"}, {}, "/"),
        vars(settings.read({"redis_url": f"redis://:{PASSWORD}@localhost/0"}, {}, "/")),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_no_repr_has_a_secret(thing):
    said = repr(thing) + repr([thing]) + (str(thing) + f"{thing}" if not isinstance(thing, str) else "")
    assert PASSWORD not in said
    assert not any(trace.decode(errors="replace") in said for trace in traces(bytes(KEY)))


def test_a_secret_survives_its_pickle():
    info = SessionInfo("id", "/folder", ServerUrl("redis://:p@localhost/0"), 1.0, False, KEY)
    again = pickle.loads(pickle.dumps(info))
    assert again == info
    assert [type(part) for part in again] == [type(part) for part in info]


def with_locals(error: BaseException) -> str:
    """The most that a crash report shows: all variables of all frames, of what it came from too."""
    said = ""
    seen: BaseException | None = error
    while seen is not None:
        said += "".join(traceback.TracebackException.from_exception(seen, capture_locals=True).format())
        seen = seen.__context__
    return said


def test_no_crash_report_of_a_refused_connection_has_the_password(tcp_server):
    url = ServerUrl(f"redis://me:{PASSWORD}@127.0.0.1:{tcp_server.port}/0")
    with pytest.raises(ServerError) as caught:
        wire.open_url(url)
    # As it is printed: what it came from is suppressed, and with it the frames of redis-py, which has its own.
    said = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "127.0.0.1" in said
    assert PASSWORD not in said


@pytest.mark.parametrize("server", ["tcp"], indirect=True)
def test_no_crash_report_of_a_session_has_a_secret(server, caplog):
    caplog.set_level(logging.DEBUG)
    session, queue = sessions.current(), cloudpool.Queue()
    secrets = [bytes(session.info.key), session.info.redis_url.split(":")[2].partition("@")[0].encode()]
    queue.put("x")
    assert queue.qsize() == 1
    key = queue._items._base + "items"
    session.channel().call("LSET", key, 0, b"p" + b"x" * 100)
    reports = []
    for call in (queue.get, lambda: sessions.join(session.info._replace(id="other")), lambda: session._lost("x"),
                 lambda: session.sealer.open(b"x" * 100, b"here"), lambda: session.channel().call("NONSENSE")):  # fmt: skip
        with pytest.raises(Exception) as caught:
            call()
        assert caught.value.__traceback__ is not None
        caught.value.__traceback__ = caught.value.__traceback__.tb_next  # without this test's own variables
        reports.append(with_locals(caught.value))
    session._over = None
    for report in [*reports, caplog.text]:
        for secret in secrets:
            assert not any(trace.decode(errors="replace") in report for trace in traces(secret))


# -- who is let in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
class TestEmbeddedServer:
    def test_it_listens_in_its_folder_only(self, server, store):
        folder = Path(sessions.current().info.folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert store.call("CONFIG", "GET", "port")[1] == b"0"
        assert store.call("CONFIG", "GET", "unixsocket")[1].decode() == str(folder / folders.SERVER_SOCKET)
        assert stat.S_IMODE((folder / folders.SERVER_SOCKET).stat().st_mode) == 0o700
        for path in folder.iterdir():
            if path.is_file():
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.name == folders.SERVER_PID

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
    @pytest.mark.parametrize("name", [folders.SERVER_SOCKET, mail.SOCKET])
    def test_another_user_cannot_connect(self, server, name):
        path = os.path.join(sessions.current().info.folder, name)
        code = (
            "import socket, sys\n"
            "kind = getattr(socket, sys.argv[2])\n"
            "try: socket.socket(socket.AF_UNIX, kind).connect(sys.argv[1])\n"
            "except OSError as error: print(error.strerror)\n"
            "else: print('connected')\n"
        )
        nobody = pwd.getpwnam("nobody")
        kind = "SOCK_SEQPACKET" if name == mail.SOCKET else "SOCK_STREAM"
        for user, answer in ((None, "connected\n"), (nobody.pw_uid, "Permission denied\n")):
            done = subprocess.run(
                ["/usr/bin/env", "python3", "-I", "-c", code, path, kind], text=True, capture_output=True, cwd="/",
                user=user, extra_groups=[] if user else None, timeout=30, env={"PATH": os.defpath},
            )  # fmt: skip
            if "No such file" in done.stderr:
                pytest.skip("no system Python that another user may run")
            assert done.stdout == answer, done.stderr


def run(code: str, **environment: str) -> str:
    """What it says, within a few seconds."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLOUDPOOL_")}
    program = (
        f"import sys, cloudpool\ntry:\n    {code}\nexcept cloudpool.errors.CloudpoolError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**kept, "PYTHONPATH": ROOT, **environment},
        text=True, capture_output=True, timeout=30,
    )  # fmt: skip
    assert PASSWORD not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "rediss://cache.example.org:6379/0",
        f"rediss://:{PASSWORD}@cache.example.org:6379/0",
        "rediss://me@cache.example.org:6379/0",
        f"rediss://cache.example.org:6379/0?password={PASSWORD}",
    ],
)
def test_a_server_elsewhere_needs_a_user_with_a_password(url):
    said = run("cloudpool.Lock()", CLOUDPOOL_REDIS_URL=url)
    assert "python -m cloudpool acl" in said
    assert "beyond this machine" in said
    assert 1 <= len(said.strip().splitlines()) <= 3


def test_a_server_elsewhere_needs_tls_unless_the_network_is_ones_own(tcp_server):
    url = f"redis://default:{tcp_server.password}@0.0.0.0:{tcp_server.port}/0"  # this machine, by no name of its own
    said = run("cloudpool.Lock()", CLOUDPOOL_REDIS_URL=url)
    assert "in the clear" in said
    assert "CLOUDPOOL_ALLOW_PLAIN_TCP" in said
    assert (
        run("print(cloudpool.Lock().acquire())", CLOUDPOOL_REDIS_URL=url, CLOUDPOOL_ALLOW_PLAIN_TCP="1")
        == "True\n"
    )


def test_without_cryptography_there_is_one_error_with_the_line_that_installs_it(tcp_server):
    code = "sys.modules['cryptography'] = None; cloudpool.Lock()"
    said = run(code, CLOUDPOOL_REDIS_URL=tcp_server.url)
    assert re.search(r"pip install .*\[redis\]'", said)
    assert len(said.strip().splitlines()) == 1
    assert run("sys.modules['cryptography'] = None; print(cloudpool.Lock().acquire())") == "True\n"
