"""map_reduce(): with any pool the value is that of one pass over all parts."""

import multiprocessing
import os
import threading
from collections import Counter
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

import cloudpool
from cloudpool.chunking import map_reduce, partition
from cloudpool.chunking.reduce import TOGETHER, Tree
from cloudpool.context.kept import Kept
from cloudpool.host import session as sessions

POOLS = {
    "cloudpool": lambda: cloudpool.Pool(2),
    "cloudpool's threads": lambda: cloudpool.pool.ThreadPool(2),
    "multiprocessing": lambda: multiprocessing.get_context("fork").Pool(2),
    "an executor of threads": lambda: ThreadPoolExecutor(2),
    "an executor of processes": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
}


@pytest.fixture(params=POOLS)
def pool(request):
    with POOLS[request.param]() as made:
        yield made
    if hasattr(made, "join"):
        made.join()


def words(part):
    return Counter(word for line in part for word in line.split())


def add(counts):
    total = Counter()
    for one in counts:
        total.update(one)
    return total


def content(part):
    return part.read()


def swollen(part):
    return part.read() * 100


def join(pieces):
    assert len(pieces) <= TOGETHER
    return b"".join(pieces)


def fail(part):
    raise KeyError(part.index)


def refuse(pieces):
    raise ArithmeticError(len(pieces))


@pytest.fixture
def folder(tmp_path):
    for n in range(5):
        (tmp_path / f"{n}.txt").write_text(f"a b c{n}\n" * 100 * n)
    return tmp_path


def test_the_value_is_that_of_all_parts_in_order(pool, folder):
    parts = partition(folder, chunk_size=97)
    assert len(parts) > TOGETHER
    whole = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    assert map_reduce(pool, words, parts, add) == Counter(whole.decode().split())
    assert map_reduce(pool, content, parts, join) == whole
    assert map_reduce(pool, words, [], add) == Counter()
    by_object = map_reduce(pool, words, parts, add, per_object=True)
    assert by_object == {
        f"file://{path}": Counter(path.read_text().split()) for path in sorted(folder.iterdir())
    }


def test_what_f_or_g_raises_is_raised(pool, folder):
    parts = partition(folder, chunk_size=97)
    with pytest.raises(KeyError):
        map_reduce(pool, fail, parts, join)
    with pytest.raises(ArithmeticError):
        map_reduce(pool, content, parts, refuse)


def test_map_takes_partitions(pool, folder):
    parts = partition(folder, chunk_size=97)
    assert list(pool.map(content, parts)) == [part.read() for part in parts]


def test_calls_that_are_cancelled_are_heard_of(store):
    parts = partition(store("cancelled.txt", b"x\n" * 8), chunks=8)
    executor, began, go_on = ThreadPoolExecutor(1), threading.Event(), threading.Event()
    raised = []

    def wait(part):
        began.set()
        go_on.wait()
        return part.read()

    def reduce():
        try:
            map_reduce(executor, wait, parts, join)
        except CancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=reduce, daemon=True)
    thread.start()
    began.wait()
    while executor._work_queue.qsize() < len(parts) - 1:
        thread.join(0.001)
    executor.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    thread.join(30)
    assert raised


def test_large_partial_results_stay_with_the_workers_and_are_dropped(folder):
    parts = partition(folder, chunks=20)
    with cloudpool.Pool(2) as pool:
        made = map_reduce(pool, swollen, parts, join)
        assert made == b"".join(part.read() * 100 for part in parts)
        left = os.listdir(sessions.current().blobs._folder)
        kept = Kept.of(bytes(1_000_000))
        assert len(kept._message) < 100
        assert kept.value() == kept.value() == bytes(1_000_000)
        kept.drop()
        assert [name for name in left if name.startswith("blob.")] == []
    pool.join()


def test_several_objects_in_one_part_are_none_by_object(store):
    urls = [store(f"{n}.txt", b"x\n") for n in range(3)]
    with ThreadPoolExecutor(1) as pool, pytest.raises(TypeError, match="partitions of one object each"):
        map_reduce(pool, words, partition(urls, pack=True), add, per_object=True)


@given(st.permutations(range(100)), st.integers(1, 100))
def test_a_tree_takes_results_in_any_order_and_only_neighbours_together(order, leaves):
    tree = Tree(leaves)
    pending = [(0, n, (n, n + 1)) for n in order if n < leaves]
    while pending:
        level, n, value = pending.pop()
        for up, place, children in tree.put(level, n, value):
            assert 2 <= len(children) <= TOGETHER
            assert all(one[1] == other[0] for one, other in pairwise(children))
            pending.append((up, place, (children[0][0], children[-1][1])))
    assert tree.top == (0, leaves)
