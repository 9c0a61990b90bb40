"""Partitions of objects on a real S3 server, well and in trouble.

TEST_S3 (or AWS_ENDPOINT_URL) names one; keys as AWS's tools find them, or MinIO's own. Skipped without, unless
TEST_REQUIRE_S3 says that it must be there.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import random
import ssl
import subprocess
import sys
import threading
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import pytest
from needed import needed

import cloudpool
from cloudpool.chunking import map_reduce, partition, stream
from cloudpool.chunking.stores import http as connections, retries
from cloudpool.chunking.stores.s3 import S3Store
from cloudpool.errors import ObjectChangedError

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = os.environ.get("TEST_S3") or os.environ.get("AWS_ENDPOINT_URL")
SMALL = 10_000
BIG_BYTES = 2 << 30
PIECE = bytes(random.Random(1).randrange(256) for _ in range(1 << 16)) * 16  # 1 MiB

if not ENDPOINT and os.environ.get("TEST_REQUIRE_S3"):
    pytest.fail("TEST_S3 names no S3 server, and there must be one")
pytestmark = pytest.mark.skipif(not ENDPOINT, reason="TEST_S3 names no S3 server")


class Bucket:
    """A bucket of this run's own."""

    def __init__(self, endpoint: str) -> None:
        self.name = f"cloudpool-{uuid.uuid4().hex[:12]}"
        self.place = {"endpoint_url": endpoint}
        self.store = S3Store.of(self.name, endpoint, False, {})
        self.store._whole("PUT", "", {}, "")

    def put(self, key: str, data: bytes) -> str:
        writer = self.store.writer(key)
        writer.write(data)
        writer.close()
        return self.store.url(key)

    def partition(self, key: str, **how):
        return partition(f"s3://{self.name}/{key}", **{**self.place, **how})

    def remove(self) -> None:
        keys = [escape(entry.key) for entry in self.store.list("") if entry.key.isprintable()]
        for n in range(0, len(keys), 1000):
            objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys[n : n + 1000])
            body = f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
            digest = base64.b64encode(hashlib.md5(body).digest()).decode()
            self.store._whole("POST", "", {"delete": ""}, "", body, {"Content-MD5": digest})
        for entry in self.store.list(""):  # those that XML has no way to say
            self.store._whole("DELETE", entry.key, {}, "")
        self.store._whole("DELETE", "", {}, "")


@pytest.fixture(scope="module")
def bucket():
    patch = pytest.MonkeyPatch()
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        patch.setenv("AWS_ACCESS_KEY_ID", "minioadmin")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "minioadmin")
    made = Bucket(ENDPOINT)
    yield made
    made.remove()
    connections.close_idle()
    patch.undo()


# -- many, large, odd -------------------------------------------------------------------------------------------------


def total(part):
    return sum(int(line) for line in part), 1


def added(pairs):
    return tuple(map(sum, zip(*pairs, strict=True)))


def test_ten_thousand_objects_cost_ten_lists_and_each_is_read_once(bucket, monkeypatch):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: bucket.put(f"many/{n:05}.txt", b"%d\n" % n), range(SMALL)))
    asked = []
    ask = S3Store._ask
    monkeypatch.setattr(S3Store, "_ask", lambda self, *a, **k: asked.append(a) or ask(self, *a, **k))
    parts = bucket.partition("many/", pack=True, chunk_size="10 kB")
    assert len(asked) <= SMALL / 1000 + 1  # MinIO finds out by an empty page that there is no more
    with cloudpool.Pool(2) as pool:
        assert map_reduce(pool, total, parts, added) == (SMALL * (SMALL - 1) // 2, len(parts))
    pool.join()
    assert [part.url for part in bucket.partition("many/", include="*99.txt")] == [
        f"s3://{bucket.name}/many/{n:05}.txt" for n in range(99, SMALL, 100)
    ]


def check_sum(part):
    """What is in the piece: how much, and a check sum of all its bytes."""
    found = count = 0
    for buffer in part:
        found = zlib.crc32(buffer, found)
        count += len(buffer)
    return part.start, count, found


def test_a_large_object_comes_in_pieces_to_the_last_byte(bucket):
    writer = bucket.store.writer("large.bin")
    sums = []
    for n in range(BIG_BYTES >> 20):
        block = n.to_bytes(8, "little") + PIECE[8:]
        if n % 64 == 0:
            sums.append(0)
        sums[-1] = zlib.crc32(block, sums[-1])
        writer.write(block)
    writer.close()
    parts = bucket.partition("large.bin", chunk_size="64 MiB")
    with cloudpool.Pool(2) as pool:
        found = pool.map(check_sum, parts)
    pool.join()
    assert found == [(number << 26, 1 << 26, said) for number, said in enumerate(sums)]


ODD = [
    "a b", "a%20b", "ü/é", "q?x=1&y", "h#a", "plus+plus", "st*ar", "new\nline", "trailing/", "\x01control", "\x7f", "~t",
    "'q'", '"dq"', "back\\slash", "emoji😀", "[br]{cu}", "a<b>&amp;", "!@$^()_-=;:,.|`", "x" * 200,
]  # fmt: skip


def test_keys_may_have_any_character(bucket):
    for key in ODD:
        bucket.put(f"odd/{key}", f"of {key}".encode())
    parts = bucket.partition("odd/", format="bytes")
    assert {part.url: part.read().decode() for part in parts} == {
        f"s3://{bucket.name}/odd/{key}": f"of {key}" for key in ODD
    }
    for key in ODD:
        if not key.endswith("/"):
            (part,) = bucket.partition(f"odd/{key}", format="bytes")
            assert part.read() == f"of {key}".encode()


def test_metadata_are_the_stores(bucket):
    bucket.store._whole("PUT", "told.txt", {}, "", b"x\n", {"x-amz-meta-color": "blue"})
    (part,) = bucket.partition("told.txt")
    assert part.metadata == {"color": "blue"}


# -- output -------------------------------------------------------------------------------------------------------------


def doubled(part):
    with part.output(f"s3://{part.url.split('/')[2]}/out", suffix=".txt", endpoint_url=ENDPOINT) as file:
        for line in part:
            file.write(line.encode() * 2)
    return file.url


def test_output_that_is_written_twice_is_one_object(bucket):
    bucket.put("in.txt", b"".join(b"%d\n" % n for n in range(100_000)))
    parts = bucket.partition("in.txt", chunks=3)
    with cloudpool.Pool(2) as pool:
        urls = pool.map(doubled, [*parts, *parts])
    pool.join()
    assert urls == [f"s3://{bucket.name}/out/part-{n:05}.txt" for n in (0, 1, 2, 0, 1, 2)]
    assert [part.url for part in bucket.partition("out/")] == urls[:3]
    assert sum(int(line) for part in bucket.partition("out/") for line in part) == 99_999 * 100_000


def test_output_of_several_parts_appears_when_it_is_closed_and_never_after_an_exception(bucket):
    bucket.put("one.txt", b"x\n")
    (part,) = bucket.partition("one.txt")
    with pytest.raises(KeyError), part.output(f"s3://{bucket.name}/lost/", **bucket.place) as file:
        file.write(PIECE * 20)
        raise KeyError
    with pytest.raises(FileNotFoundError):
        bucket.partition("lost/")
    with part.output(f"s3://{bucket.name}/kept/", **bucket.place) as file:
        file.write(PIECE * 20)
        with pytest.raises(FileNotFoundError):
            bucket.partition("kept/")
    assert bucket.partition("kept/", format="bytes")[0].read() == PIECE * 20


# -- the examples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["word_count", "ndvi", "fastq_count"])
def test_an_example_prints_on_the_server_what_it_prints_on_files(bucket, tmp_path, name):
    environ = {**os.environ, "AWS_ENDPOINT_URL": ENDPOINT}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    printed = []
    for url in (f"file://{tmp_path}/{name}/", f"s3://{bucket.name}/examples/{name}/"):
        done = subprocess.run(
            [sys.executable, ROOT / f"examples/{name}.py", url], env=environ, cwd=tmp_path,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        first, *rest = done.stdout.splitlines()
        assert first.startswith(f"Nothing is under {url}: writing")
        printed.append(rest)
    assert printed[0] == printed[1]
    assert len(bucket.partition(f"examples/{name}/")) == len(os.listdir(tmp_path / name))


# -- trouble ------------------------------------------------------------------------------------------------------------


class Trouble(ThreadingHTTPServer):
    """Between client and server: does with the next replies to GET what `plan` says, then lets all pass."""

    daemon_threads = True

    def __init__(self, plan, trust: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Meddler)
        if trust:
            self.socket = trust.wrap_socket(self.socket, server_side=True)
        self.plan = list(plan)
        self.seen: list[str] = []
        self.lock = threading.Lock()
        self.endpoint = f"http{'s' if trust else ''}://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Meddler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        at = urlsplit(ENDPOINT)
        with server.lock:
            what = server.plan.pop(0) if server.plan and self.headers.get("Range") else "pass"
            server.seen.append(what if isinstance(what, str) else f"cut at {what}")
        if what == "slow down":
            body = b"<Error><Code>SlowDown</Code></Error>"
            self.send_response(503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if what == "hang up":
            self.close_connection = True
            self.connection.close()
            return
        kind = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
        upstream = kind(at.hostname, at.port)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders()
        reply = upstream.getresponse()
        body = reply.read()
        upstream.close()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if isinstance(what, int):
            self.wfile.write(body[:what])
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def trouble():
    made = []

    def start(*plan, trust=None):
        made.append(Trouble(plan, trust))
        return made[-1]

    yield start
    connections.close_idle()
    for server in made:
        server.close()


@pytest.fixture
def lines(bucket):
    data = b"".join(b"%d %s\n" % (n, b"x" * (n % 300)) for n in range(60_000))
    bucket.put("lines.txt", data)
    return data


@pytest.mark.parametrize("seed", range(3))
def test_what_passes_costs_time_and_nothing_else(bucket, trouble, lines, seed):
    dice = random.Random(seed)
    kinds = ["slow down", "hang up", 0, 1, 5000, 100_000, 1_000_000]
    server = trouble(*(dice.choice(kinds) for _ in range(12)))
    parts = bucket.partition("lines.txt", chunk_size="5 MB", endpoint_url=server.endpoint)
    assert b"".join(part.read() for part in parts) == lines
    assert server.plan == []


def test_after_a_break_reading_goes_on_at_the_byte(bucket, trouble, lines):
    server = trouble(1_000_000)
    (part,) = bucket.partition("lines.txt", endpoint_url=server.endpoint)
    entry = part._entry
    view = memoryview(bytearray(3_000_000))
    assert part._source.store.read_into(entry, 0, view) == 1_000_000
    retries.fill(part._source.store, entry, 0, view)
    assert view == lines[:3_000_000]


def test_what_does_not_pass_is_an_error_that_says_what_was_tried(bucket, trouble, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.001)
    bucket.put("never.txt", b"x\n" * 1000)
    server = trouble(*["slow down"] * 100)
    (part,) = bucket.partition("never.txt", endpoint_url=server.endpoint)
    with pytest.raises(
        ConnectionError, match=r"never\.txt, bytes 0 to 2000: tried 8 times, the last time: .*SlowDown"
    ):
        part.read()


@pytest.mark.parametrize("size", [10, 9_000_000])
def test_an_object_that_changes_is_an_error_and_never_a_mix(bucket, size):
    bucket.put("changing.txt", b"a" * 9_000_000)
    parts = bucket.partition("changing.txt", chunks=2, format="bytes")
    assert set(b"".join(parts[0])) == {ord("a")}
    bucket.put("changing.txt", b"b" * size)
    with pytest.raises(ObjectChangedError, match=r"changing\.txt has changed since partition\(\)"):
        parts[1].read()


def test_an_object_that_changes_while_it_is_read_is_never_a_mix(bucket):
    """A request that is under way gives what there was; the next one is an error."""
    bucket.put("moving.txt", b"a" * (64 << 20))
    (part,) = bucket.partition("moving.txt", format="bytes")
    seen = []
    try:
        for n, buffer in enumerate(part):
            seen.append(buffer)
            if n == 0:
                bucket.put("moving.txt", b"b" * (64 << 20))
    except ObjectChangedError:
        assert set(b"".join(seen)) == {ord("a")}
    else:
        assert b"".join(seen) == b"a" * (64 << 20)


def test_an_object_that_changes_before_a_break_is_an_error(bucket, trouble):
    bucket.put("moving.txt", b"a" * (4 << 20))
    server = trouble(1_000_000)
    (part,) = bucket.partition("moving.txt", format="bytes", endpoint_url=server.endpoint)
    buffers = iter(part)
    assert set(next(buffers)) == {ord("a")}
    bucket.put("moving.txt", b"b" * (4 << 20))
    with pytest.raises(ObjectChangedError, match=r"moving\.txt has changed since partition\(\)"):
        list(buffers)


def test_a_slow_server_is_asked_for_several_ranges_side_by_side(bucket, trouble, monkeypatch):
    monkeypatch.setattr(
        stream, "FAST_BYTES_S", float("inf")
    )  # so that any is slow, and several not known to be no faster
    data = random.Random(3).randbytes(40 << 20)
    bucket.put("slow.bin", data)
    server = trouble("slow down", 5000, "pass", "hang up", 1_000_000)
    (part,) = bucket.partition("slow.bin", endpoint_url=server.endpoint)
    assert part.read() == data
    assert len(server.seen) >= 5 + 5  # ranges of 8 MiB, and those that broke once more
    assert server.plan == []


def test_tls_is_spoken_to_whom_the_bundle_trusts_and_to_nobody_else(bucket, trouble, tmp_path, monkeypatch):
    trustme = needed("trustme")
    authority = trustme.CA()
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(trust)
    data = b"".join(b"%d\n" % n for n in range(400_000))
    bucket.put("sealed.txt", data)
    server = trouble(100_000, "slow down", trust=trust)
    connections._trust.cache_clear()
    with pytest.raises(ConnectionError, match="its certificate is not trusted"):
        bucket.partition("sealed.txt", endpoint_url=server.endpoint)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    connections._trust.cache_clear()
    parts = bucket.partition("sealed.txt", endpoint_url=server.endpoint, chunks=3)
    assert b"".join(part.read() for part in parts) == data
    assert server.plan == []
    connections.close_idle()
    connections._trust.cache_clear()


def test_what_is_not_there_or_not_allowed_is_said_while_planning(bucket):
    with pytest.raises(FileNotFoundError, match="there is no bucket s3://cloudpool-no-such-bucket"):
        partition("s3://cloudpool-no-such-bucket/", **bucket.place)
    with pytest.raises(FileNotFoundError, match=r"no object s3://.*/nothing\.txt"):
        bucket.partition("nothing.txt")
    with pytest.raises(FileNotFoundError, match=r"no object under s3://.*/nothing/"):
        bucket.partition("nothing/")
    with pytest.raises(PermissionError, match="without credentials"):
        bucket.partition("", anonymous=True)
    with pytest.raises(PermissionError, match="with these credentials"):
        bucket.partition("", storage_options={"key": "minioadmin", "secret": "wrong"})


def test_secrets_are_not_shown(bucket):
    bucket.put("told.txt", b"x\n")
    parts = bucket.partition("told.txt", storage_options={"key": os.environ["AWS_ACCESS_KEY_ID"],
                             "secret": os.environ["AWS_SECRET_ACCESS_KEY"]})  # fmt: skip
    assert parts[0].read() == b"x\n"
    said = f"{parts!r} {parts[0]!r} {parts[0]._source!r}"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in said
