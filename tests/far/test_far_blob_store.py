"""Payloads above 1 MiB by a storage of one's own (blob_url): the server sees none of them, a host fetches each once, nothing stays.

With a folder that hosts share; and, where TEST_S3 (or AWS_ENDPOINT_URL) names an S3 server, with a bucket.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from storage import Bucket, Folder
from test_far_blocks import connect
from waiting import until

from cloudpool import settings
from cloudpool.context import imports
from cloudpool.deploy import gc
from cloudpool.errors import BlobStoreError, CloudpoolError, ServerError
from cloudpool.host import session as sessions
from cloudpool.store import bucket

ENDPOINT = os.environ.get("TEST_S3") or os.environ.get("AWS_ENDPOINT_URL")
MIB = 1 << 20

if not ENDPOINT and os.environ.get("TEST_REQUIRE_S3"):
    pytest.fail("TEST_S3 names no S3 server, and there must be one")


def the_bucket() -> Any:
    return pytest.param("s3", marks=pytest.mark.skipif(not ENDPOINT, reason="TEST_S3 names no S3 server"))


@pytest.fixture(params=["file", the_bucket()])
def storage(request: pytest.FixtureRequest, tmp_path: Path, plugin: None) -> Iterator[Any]:
    patch = pytest.MonkeyPatch()  # which outlives the session's
    if request.param == "s3" and "AWS_ACCESS_KEY_ID" not in os.environ:
        patch.setenv("AWS_ACCESS_KEY_ID", "minioadmin")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "minioadmin")
    made = Bucket(ENDPOINT) if request.param == "s3" and ENDPOINT else Folder(tmp_path / "storage")
    yield made
    sessions.leave()
    try:
        until(lambda: not made.objects())
    finally:
        made.close()
        patch.undo()


@pytest.fixture
def far(storage: Any, session: Callable[..., Any]) -> Any:
    return session(blob_url=storage.url, start_method="subprocess", **storage.environment)


def together(big: bytes, barrier: Any, number: int) -> tuple[int, bytes]:
    """Each worker has one of these, and so has each host."""
    barrier.wait(60)
    return len(big) + number, bytes([number]) * 2 * MIB


def send(queue: Any, *sizes: int) -> None:
    for size in sizes:
        queue.put(b"s" * size)


def send_what_can_be(queue: Any, told: Any, *sizes: int) -> None:
    for size in sizes:
        try:
            queue.put(b"s" * size)
        except BlobStoreError as error:
            told.put(str(error))


def receive(queue: Any, told: Any) -> None:
    told.put(len(queue.get()))


def length(item: bytes) -> int:
    return len(item)


def enlarge(size: int) -> bytes:
    return b"r" * size


def received(store: Any) -> int:
    """Bytes that the server has got."""
    said: bytes = store.call("INFO", "stats")
    return int(said.partition(b"total_net_input_bytes:")[2].split()[0])


def test_the_server_sees_no_large_payload_and_a_host_fetches_each_once(far, storage):
    queue, told = far.Queue(), far.Queue()
    with far.Pool(4) as pool:
        assert pool.map(length, [b"x" * 2 * MIB]) == [2 * MIB]
        barrier = far.Manager().Barrier(4)
        pool.apply(send, (queue, 2 * MIB))
        storage.count()
        with closing(connect(sessions.current())) as store:
            before = received(store)
            found = pool.map(partial(together, b"b" * 40 * MIB, barrier), range(4), chunksize=1)
            assert [(n, len(data)) for n, data in found] == [(40 * MIB + n, 2 * MIB) for n in range(4)]
            in_pool = storage.reads()
            process = far.Process(target=receive, args=(queue, told))
            process.start()
            assert told.get() == 2 * MIB
            process.join()
            process = far.Process(target=length, args=(b"a" * 3 * MIB,))
            process.start()
            process.join()
            assert process.exitcode == 0
            assert received(store) - before < MIB
    # The function, in two objects, by two hosts; and each result by the root, which a folder does not tell.
    *results, first, second = sorted(in_pool.values())
    assert (first, second) == (2, 2)
    assert set(results) <= {1}


def test_both_ways_between_home_and_far(far, storage):
    there, back, told = far.Queue(), far.Queue(), far.Queue()
    process = far.Process(target=receive, args=(there, told))
    process.start()
    there.put(b"t" * 5 * MIB)
    assert told.get() == 5 * MIB
    process.join()
    process = far.Process(target=send, args=(back, 3 * MIB))
    process.start()
    assert back.get() == b"s" * 3 * MIB
    process.join()
    until(
        lambda: not [name for name in storage.objects() if "blob." in name]
    )  # what is read is gone before the end


def test_what_passes_is_waited_for(far, storage):
    if isinstance(storage, Folder):
        pytest.skip("a folder does not ask for patience")
    queue = far.Queue()
    storage.gateway.busy = 2
    process = far.Process(target=send, args=(queue, 2 * MIB))
    process.start()
    assert queue.get() == b"s" * 2 * MIB
    process.join()
    assert not storage.gateway.busy


def test_an_item_that_cannot_be_stored_fails_alone(far, storage):
    queue, told = far.Queue(), far.Queue()
    with far.Pool(2) as pool:
        pool.apply(send, (queue, 2 * MIB))
        storage.refuse()
        pool.apply(send_what_can_be, (queue, told, 10, 3 * MIB, 20))
        words = told.get()
        assert f"the storage {storage.url}" in words
        assert "does not take a payload of" in words
        assert "\n" in words  # what helps
        results = [pool.apply_async(enlarge, (size,)) for size in (10, 2 * MIB, 20)]
        assert len(results[0].get()) == 10
        with pytest.raises(BlobStoreError, match="does not take a payload"):
            results[1].get()
        assert len(results[2].get()) == 20
        with pytest.raises(BlobStoreError, match="does not take a payload"):  # by the root's agent
            pool.map(length, [b"x" * 2 * MIB])
        storage.mend()
        assert pool.map(length, [b"x" * 2 * MIB]) == [2 * MIB]
    assert [len(queue.get()) for _ in range(3)] == [2 * MIB, 10, 20]


def test_a_payload_that_has_vanished_is_an_error(far, storage):
    queue = far.Queue()
    process = far.Process(target=send, args=(queue, 2 * MIB, 10))
    process.start()
    process.join()
    storage.lose()
    with pytest.raises(FileNotFoundError, match="is gone from"):
        queue.get()
    assert queue.get() == b"s" * 10


def test_an_item_of_a_host_that_dies_in_the_middle_is_not_half_there(far, storage, hosts):
    if isinstance(storage, Folder):
        pytest.skip("a file is written too fast")
    queue = far.Queue()
    # The program's own files may be large: they go first.
    process = far.Process(target=send, args=(queue, 10))
    process.start()
    process.join()
    assert len(queue.get()) == 10
    storage.gateway.goes_on.clear()
    # More than kernels keep, less than goes in parts.
    process = far.Process(target=send, args=(queue, 7 * MIB))
    process.start()
    assert storage.gateway.is_held.wait(60)
    [agent] = hosts.agents()
    hosts.kill(agent)
    process.join()
    storage.gateway.goes_on.set()
    assert queue.empty()
    assert not [name for name in storage.objects() if "blob." in name]


def test_a_root_that_is_killed_leaves_nothing(storage, script):
    program = script(
        "import os, cloudpool\n"
        "def send(queue): queue.put(bytes(3 << 20))\n"
        "if __name__ == '__main__':\n"
        "    queue = cloudpool.Queue()\n"
        "    process = cloudpool.Process(target=send, args=(queue,))\n"
        "    process.start(); process.join(); print('sent', flush=True); input()\n",
        blob_url=storage.url,
        **storage.environment,
    )
    assert program.line() == "sent"
    assert [name for name in storage.objects() if "blob." in name]
    program.process.send_signal(signal.SIGKILL)
    program.process.wait()
    until(lambda: not storage.objects())


def test_payloads_are_sealed_in_the_storage(far, storage):
    queue = far.Queue()
    process = far.Process(target=send, args=(queue, 2 * MIB))
    process.start()
    process.join()
    [name] = [name for name in storage.objects() if "blob." in name]
    stored = storage.content(name)
    assert len(stored) > 2 * MIB
    assert b"s" * 100 not in stored
    assert queue.get() == b"s" * 2 * MIB


def test_gc_removes_what_is_old_or_named_and_leaves_the_young(storage, far, monkeypatch):
    queue = far.Queue()
    process = far.Process(target=send, args=(queue, 2 * MIB))
    process.start()
    process.join()
    monkeypatch.setitem(gc.ENGINES, "subprocess", lambda _: [])  # of these hosts nothing is ever left
    collect = partial(gc.collect, "subprocess", settings.current(), is_all=False)
    assert not list(collect(timedelta(hours=1), None))
    [told] = collect(timedelta(hours=1), sessions.current().info.id)
    assert told.startswith(f"payloads in {storage.url} of session {sessions.current().info.id}")
    with pytest.raises(FileNotFoundError):
        queue.get()
    with pytest.raises(CloudpoolError, match="there is nothing of a session"):
        list(collect(timedelta(hours=1), sessions.current().info.id))


def test_what_the_storage_needs_itself_does_not_come_by_the_storage(tmp_path):
    finder = imports.Shipped(Nobody(), str(tmp_path))
    with bucket._told("s3://bucket", "is used"):
        assert finder.find_spec("boto3") is None
    with pytest.raises(LookupError, match=r"package\.boto3"):
        finder.find_spec("boto3")


class Nobody:
    """Answers no question."""

    def ask(self, about: str, *_: str) -> None:
        raise LookupError(about)


@pytest.mark.parametrize(
    ("url", "environment", "words"),
    [
        ("file:///proc/nowhere", {}, "share and may write to"),
        ("file:///proc/no/such", {}, "there is no /proc/no"),
        ("s3://cloudpool-test/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "See whether it is reached"),
    ],
)
def test_storage_that_cannot_be_used_is_an_error_at_the_start(session, url, environment, words, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-nobody")
    far = session(blob_url=url, start_method="subprocess", **environment)
    with pytest.raises(BlobStoreError, match=words) as caught:
        far.Queue()
    assert url in str(caught.value)
    assert "secret-of-nobody" not in str(caught.value)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("use", ["nothing", "a payload", "a server that does not start"])
def test_a_folder_that_was_made_for_a_session_goes_with_it(session, tmp_path, is_there, use):
    folder = tmp_path / "with space"
    if is_there:
        folder.mkdir()
    url = f"file://{tmp_path}/with%20space"
    if use == "a server that does not start":
        far = session(blob_url=url, start_method="subprocess", redis_url="redis://127.0.0.1:1/0")
        with pytest.raises(ServerError):
            far.Queue()
    else:
        far = session(blob_url=url, start_method="subprocess")
        queue = far.Queue()
        assert folder.is_dir()
        if use == "a payload":
            process = far.Process(target=send, args=(queue, 2 * MIB))
            process.start()
            assert len(queue.get()) == 2 * MIB
            process.join()
    sessions.leave()
    until(lambda: folder.exists() == is_there and not list(tmp_path.glob("*/*")))


def test_a_folder_that_was_made_stays_with_what_somebody_else_has_there(session, tmp_path):
    folder = tmp_path / "shared"
    session(blob_url=f"file://{folder}", start_method="subprocess").Queue()
    (folder / "notes").touch()
    sessions.leave()
    until(lambda: list(folder.iterdir()) == [folder / "notes"])


def test_a_url_that_is_none_is_an_error_that_names_the_forms(session):
    with pytest.raises(CloudpoolError, match=r"s3://bucket/prefix, or file:///folder"):
        session(blob_url="gs://bucket/prefix")


def test_the_roots_credentials_go_to_hosts_when_that_is_wished_and_are_never_shown(session, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-nobody")
    session(blob_url="s3://bucket/prefix")
    assert bucket.Place.of(settings.current(), "id").keys == ()
    session(blob_credentials="root")
    place = bucket.Place.of(settings.current(), "id")
    assert place.keys == ("nobody", "secret-of-nobody")
    assert "secret-of-nobody" not in repr(place)
    assert "secret-of-nobody" not in repr(bucket.Bucket(place)._store)
