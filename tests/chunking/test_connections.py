"""Connections to web servers are kept while they are good."""

import itertools
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from needed import needed

from cloudpool.chunking import partition
from cloudpool.chunking.stores import http
from cloudpool.errors import ObjectChangedError

DATA = b"".join(b"%d\n" % n for n in range(10_000))


class Web(ThreadingHTTPServer):
    """Serves DATA, with ranges unless told otherwise, and counts its connections."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges, self.etag, self.connections, self.sockets = True, '"1"', 0, []
        self.changed, self.shift = None, 0
        self.data, self.step, self.asked_for = DATA, None, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        self.connections += 1
        request = super().get_request()
        self.sockets.append(request[0])
        return request


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/data.txt")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.asked = self.path, self.headers["Authorization"]
        if self.path not in ("/data.txt", "/data.txt?key=a%20b", "/bucket/data.txt", "/a%20%C3%A9.txt?b=%20"):
            self.send_error(404)
            return
        data = self.server.data
        body, status = data, 200
        self.server.asked_for.append(self.headers["Range"])
        if self.server.ranges and "Range" in self.headers:
            start, stop = self.headers["Range"].removeprefix("bytes=").split("-")
            start = int(start) - self.server.shift * (int(start) > 0)
            body, status = data[start : int(stop) + 1], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop}/{len(data)}")
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if self.server.changed:
            self.send_header("Last-Modified", self.server.changed)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        step = self.server.step or len(body)
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            if step < len(body):
                time.sleep(0.0001)  # else they arrive as one

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.end_headers()

    def log_message(self, *_): ...


@pytest.fixture
def web():
    server = Web()
    yield server
    http.close_idle()
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(30)  # half of http.TIMEOUT_S: a reader that nobody wakes does not come this far
@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 3_000_000])
def test_a_large_body_that_comes_bit_by_bit_is_waited_for_to_its_end(web, size):
    web.data, web.step = (bytes(range(256)) * (size // 100))[: 2 * size + 7], 10_000
    parts = partition(f"{web.url}/data.txt", chunk_size=size, format="bytes")
    for _ in range(2):
        for part in parts:
            pieces = list(part)
            assert all(type(piece) is bytes and len(piece) <= 1 << 20 for piece in pieces)
            assert b"".join(pieces) == web.data[part.start : part.stop]
            assert part.read() == web.data[part.start : part.stop]
    assert web.connections == 1


@pytest.mark.parametrize("size", [(1 << 20) + 1, 1_310_001])
def test_a_large_body_is_skipped_to_the_cut_where_there_are_no_ranges(web, size):
    web.data, web.ranges = bytes(range(251)) * 12_000, False
    parts = partition(f"{web.url}/data.txt", chunk_size=size, format="bytes")
    assert [b"".join(part) for part in parts] == [web.data[part.start : part.stop] for part in parts]


def test_a_reader_is_woken_for_much_at_once_until_the_end_is_near(web, monkeypatch):
    monkeypatch.setattr(http, "WIDE_BYTES", 0)  # whatever the kernel has found out about the connection
    marks = []
    take = http.Reply.take

    def taking(self, most):
        data = take(self, most)
        marks.append(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))
        return data

    monkeypatch.setattr(http.Reply, "take", taking)
    web.data = bytes(5 << 20)
    (part,) = partition(f"{web.url}/data.txt", format="bytes")
    assert sum(map(len, part)) == len(web.data)
    assert marks[0] == marks[-1] == 1
    assert sum(mark > 1 for mark in marks) * (256 << 10) > 4 << 20  # of takes of 256 KiB
    ((kept,),) = http._idle.values()
    assert kept.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def test_bytes_of_a_piece_are_asked_for_once_and_no_others(web):
    parts = partition(f"{web.url}/data.txt", chunk_size=20_000, format="bytes")
    web.asked_for.clear()
    assert b"".join(piece for part in parts for piece in part) == DATA
    ends = [*range(0, len(DATA), 20_000), len(DATA)]
    assert web.asked_for == [f"bytes={a}-{b - 1}" for a, b in itertools.pairwise(ends)]


@pytest.mark.parametrize("path", ["/data.txt", "/moved", "/data.txt?key=a%20b"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_web_servers_object_is_cut_whether_it_knows_ranges_or_not(web, path, ranges):
    web.ranges = ranges
    parts = partition(web.url + path, chunk_size=9_000, format="text")
    assert "".join(line for part in parts for line in part).encode() == DATA
    if ranges:
        assert web.connections == 1


def test_connections_that_the_server_has_closed_are_not_used(web):
    (part,) = partition(f"{web.url}/data.txt")
    assert part.read() == DATA
    for sock in web.sockets:
        sock.shutdown(2)
    assert part.read() == DATA
    assert web.connections == 2


def test_a_web_servers_object_that_changes_is_an_error(web):
    (part,) = partition(f"{web.url}/data.txt")
    web.etag = '"2"'
    with pytest.raises(ObjectChangedError):
        part.read()


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_etag_the_date_of_change_tells(web, etag):
    web.etag, web.changed = etag, "Mon, 01 Jan 2024 00:00:00 GMT"
    (part,) = partition(f"{web.url}/data.txt")
    assert part.read() == DATA
    web.changed = "Tue, 02 Jan 2024 00:00:00 GMT"
    with pytest.raises(ObjectChangedError):
        part.read()


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_other_bytes_than_those_asked_for_are_refused(web, scheme):
    place = {} if scheme == "http" else {"endpoint_url": f"{web.url}", "anonymous": True}
    url = f"{web.url}/data.txt" if scheme == "http" else "s3://bucket/data.txt"
    parts = partition(url, chunk_size=9_000, **place)
    web.shift = 5
    with pytest.raises(OSError, match="asked for its bytes from 9000 on, the server sent 'bytes 8995-"):
        parts[1].read()


def test_what_a_url_may_not_have_is_escaped(web):
    for path in ("/a é.txt?b= ", "/a%20%C3%A9.txt?b=%20"):
        (part,) = partition(web.url + path)
        assert part.read() == DATA
        assert web.asked == ("/a%20%C3%A9.txt?b=%20", None)


def test_a_target_that_is_none_is_no_passing_error(web):
    with pytest.raises(ValueError, match="control characters"), http.request("GET", web.url, "/a b", {}):
        pass


def test_a_password_in_a_url_is_sent_and_not_shown(web):
    (part,) = partition(web.url.replace("//", "//me:hunter%32@") + "/data.txt")
    assert part.url == f"{web.url}/data.txt"
    assert "hunter" not in repr(part) + repr(part._source)
    assert part.read() == DATA
    assert web.asked[1] == "Basic bWU6aHVudGVyMg=="


def test_what_a_web_server_has_not_is_said_while_planning(web):
    with pytest.raises(FileNotFoundError, match=r"there is no http://127\.0\.0\.1:\d+/none"):
        partition(f"{web.url}/none")
    with pytest.raises(FileNotFoundError):
        partition([f"{web.url}/data.txt", f"{web.url}/none"])


class Amazon(BaseHTTPRequestHandler):
    """One object for whoever asks for it by the right name; first of all a proxy's CONNECT, behind which TLS begins."""

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self):
        self.server.seen.append(self.path)
        self.wfile.write(b"HTTP/1.1 200 go on\r\n\r\n")
        self.connection = self.server.trust.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self):
        super().finish()
        self.connection.close()

    def do_GET(self):
        self.server.seen.append((self.headers["Host"], self.path))
        signed = "SignedHeaders=host;" in self.headers["Authorization"]
        status, body = (206, b"x\n") if signed and self.headers["Range"] == "bytes=0-1" else (400, b"")
        self.send_response(status)
        self.send_header("Content-Range", "bytes 0-1/2")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()

    def log_message(self, *_): ...


@pytest.mark.parametrize(
    ("bucket", "host", "path"),
    [
        ("mine", "mine.s3.eu-west-1.amazonaws.com", "/a%20b.txt"),
        ("my.bucket", "s3.eu-west-1.amazonaws.com", "/my.bucket/a%20b.txt"),
    ],
)
def test_a_bucket_of_aws_is_a_host_unless_its_certificate_would_not_fit(
    tmp_path, monkeypatch, bucket, host, path
):
    authority = needed("trustme").CA()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Amazon)
    server.seen, server.trust = [], ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.daemon_threads = True
    authority.issue_cert(host).configure_cert(server.trust)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    http._trust.cache_clear()
    try:
        options = {"key": "me", "secret": "mine", "region": "eu-west-1"}
        (part,) = partition(f"s3://{bucket}/a b.txt", storage_options=options)
        assert part.read() == b"x\n"
        assert server.seen == [f"{host}:443", (host, path)]
    finally:
        http.close_idle()
        http._trust.cache_clear()
        server.shutdown()
        server.server_close()
