"""On a server that others use too: every key of a session expires, whatever becomes of the session; TLS is spoken."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from needed import needed

PROGRAM = """
import cloudpool as multiprocessing

def work(lock, queue, connection, event, barrier, value):
    with lock:
        value.value += 1
    event.wait()
    barrier.wait()
    queue.put(value.value)
    connection.send("done")
    connection.recv()

if __name__ == "__main__":
    lock, queue, event = multiprocessing.RLock(), multiprocessing.JoinableQueue(2), multiprocessing.Event()
    barrier, value, condition = multiprocessing.Barrier(2), multiprocessing.Value("i"), multiprocessing.Condition()
    semaphore, (ours, theirs) = multiprocessing.BoundedSemaphore(2), multiprocessing.Pipe()
    child = multiprocessing.Process(target=work, args=(lock, queue, theirs, event, barrier, value))
    child.start()
    event.set()
    barrier.wait()
    ours.recv()
    queue.get()
    queue.put("left")
    semaphore.acquire()
    with condition:
        condition.wait(0.01)
    ended, end = multiprocessing.Pipe(False)
    end.close()
    try:
        ended.recv()
    except EOFError:
        pass
    manager = multiprocessing.Manager()
    shared, listed, names = manager.dict(a=1), manager.list([1, 2]), manager.Namespace(x=1)
    shared["b"] = listed
    listed.append(3)
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, range(-10, 10)) == [abs(x) for x in range(-10, 10)]
        pool.map_async(abs, range(100)).wait()
        print("ready", flush=True)
        input()
    ours.send("end")
    child.join()
"""


def run(url: str, env: dict[str, str]) -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env={**env, "CLOUDPOOL_REDIS_URL": url}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


@pytest.fixture
def env() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_every_key_expires_on_a_shared_server(tcp_server, env):
    program = run(tcp_server.url, env)
    store = tcp_server.connect()
    keys = store.call("KEYS", "cp:*")
    assert len(keys) > 20
    assert [key for key in keys if not 0 < store.call("PTTL", key) <= 600_000] == []
    program.communicate("\n", timeout=20)
    assert program.returncode == 0
    assert store.call("KEYS", "cp:*") == []
    store.close()


@pytest.fixture
def tls_proxy(tcp_server, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A TLS endpoint in front of the server: the embedded build has no TLS of its own."""
    trustme = needed("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # either side may go first
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def relay(plain: socket.socket) -> None:
        with (
            plain,
            socket.create_connection(("127.0.0.1", tcp_server.port)) as server,
            suppress(ssl.SSLError),
            context.wrap_socket(plain, server_side=True) as client,
        ):
            back = threading.Thread(target=copy, args=(server, client))
            back.start()
            copy(client, server)
            back.join()

    relays: list[threading.Thread] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                relays.append(threading.Thread(target=relay, args=(listener.accept()[0],)))
                relays[-1].start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], tmp_path / "ca.pem"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for thread in relays:
        thread.join()


def test_a_rediss_url_speaks_tls(tcp_server, tls_proxy, env):
    port, authority = tls_proxy
    program = run(f"rediss://:{tcp_server.password}@localhost:{port}/0?ssl_ca_certs={authority}", env)
    program.communicate("\n", timeout=30)
    assert program.returncode == 0


def test_an_untrusted_certificate_is_refused_in_one_message(tcp_server, tls_proxy, env):
    port, _ = tls_proxy
    url = f"rediss://:{tcp_server.password}@localhost:{port}/0"
    code = "import cloudpool\ntry: cloudpool.Lock()\nexcept cloudpool.errors.ServerError as e: print(e)"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "CLOUDPOOL_REDIS_URL": url},
        text=True,
        capture_output=True,
        timeout=20,
    )
    assert "certificate" in said.stdout.lower()
    assert 1 <= len(said.stdout.strip().splitlines()) <= 3
    assert tcp_server.password not in said.stdout + said.stderr
