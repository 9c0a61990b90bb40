"""Stores that other libraries reach."""

import multiprocessing
import os

import pytest
from needed import needed

from cloudpool.chunking import partition
from cloudpool.chunking.stores.clouds import CloudStore
from cloudpool.errors import ObjectChangedError

DATA = b"".join(b"%d\n" % n for n in range(10_000))


def test_what_fsspec_knows_is_listed_cut_read_and_written(tmp_path):
    needed("fsspec")
    for name in ("a.txt", "sub/b.txt", "c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(DATA)
    parts = partition(f"local://{tmp_path}/", include="*.txt", chunk_size=7_000)
    assert {part.url for part in parts} == {f"file://{tmp_path}/a.txt", f"file://{tmp_path}/sub/b.txt"}
    assert b"".join(part.read() for part in parts) == DATA * 2
    with parts[0].output(f"local://{tmp_path}/out") as file:
        file.write(b"done")
    assert os.listdir(tmp_path / "out") == ["part-00000"]
    (tmp_path / "a.txt").write_bytes(b"other")
    with pytest.raises(ObjectChangedError):
        parts[0].read()
    with pytest.raises(ValueError, match="Protocol not known: nobody"):
        partition("nobody://x/y")


@pytest.fixture
def cloud():
    """A store of obstore's own, in memory: no cloud is here to ask."""
    needed("obstore")
    return CloudStore("memory://", "gs")


def test_what_obstore_knows_is_listed_read_and_written(cloud):
    for name in ("x/a", "x/b", "xy"):
        writer = cloud.writer(name)
        writer.write(DATA)
        writer.close()
    assert [entry.key for entry in cloud.list("x/")] == ["x/a", "x/b"]
    assert [entry.key for entry in cloud.list("x")] == ["x/a", "x/b", "xy"]
    entry = cloud.head("x/a")
    view = memoryview(bytearray(100))
    assert cloud.read_into(entry, 50, view) == 100
    assert view == DATA[50:150]
    writer = cloud.writer("x/a")
    writer.write(b"b" * 1000)
    writer.close()
    with pytest.raises(ObjectChangedError):
        cloud.read_into(entry, 0, view)
    with pytest.raises(FileNotFoundError, match="there is no object memory:///x/none"):
        cloud.head("x/none")


def used(cloud, answer):
    try:
        list(cloud.list(""))
    except RuntimeError as error:
        answer.put(str(error))


def test_a_forked_child_of_a_process_that_used_obstore_says_what_to_do(cloud):
    list(cloud.list(""))
    fork = multiprocessing.get_context("fork")
    answer = fork.SimpleQueue()
    child = fork.Process(target=used, args=(cloud, answer))
    child.start()
    assert "use the start method spawn or forkserver" in answer.get()
    child.join()
