"""The network between hosts and the server is cut, for less than a lease and for more. Root and hosts have links of their own."""

from __future__ import annotations

import collections
import os
import sys
import time
from pathlib import Path

import pytest
from far_hosts import lives
from waiting import until

from cloudpool.errors import WorkerLostError
from cloudpool.host import identity

sys.path.insert(0, str(Path(__file__).parents[1] / "faults" / "tools"))

from proxy import Proxy

LEASE_S = 3


@pytest.fixture
def link(tcp_server):
    """What the hosts reach the server by."""
    with Proxy(tcp_server.url, 1) as proxy:
        yield proxy
        proxy.accept()


@pytest.fixture
def far(session, tcp_server, link):
    return session(redis_url=tcp_server.url, lease_s=LEASE_S, TEST_HOST_URL=link.url)


def log(path, item):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % item)
    os.close(fd)
    return item


def slowly(item):
    time.sleep(0.01)  # the work
    return item * item


def kernels_pid():
    return identity.kernels_pid()


def begun(pool, items):
    results = pool.imap(slowly, range(items))
    assert next(results) == 0
    return results


def test_connections_that_are_cut_are_made_again(far, link):
    with far.Pool(4) as pool:
        workers = [worker.pid for worker in pool._pool]
        results = begun(pool, 300)
        for n in range(1, 300):
            if n % 50 == 0:
                link.cut_all()
            assert next(results) == n * n
        assert [worker.pid for worker in pool._pool] == workers


def test_cut_for_less_than_a_lease(far, link):
    with far.Pool(4) as pool:
        workers = [worker.pid for worker in pool._pool]
        results = begun(pool, 200)
        link.refuse()
        time.sleep(LEASE_S / 6)
        link.accept()
        assert list(results) == [n * n for n in range(1, 200)]
        assert [worker.pid for worker in pool._pool] == workers


def test_cut_for_more_than_a_lease(far, link, hosts):
    with far.Pool(4) as pool:
        before = {pid for agent in hosts.agents() for pid in hosts.everything(agent)} | {
            pool.apply(kernels_pid)
        }
        results = begun(pool, 200)
        link.refuse()
        until(lambda: not any(map(lives, before)), 30)
        link.accept()
        assert list(results) == [n * n for n in range(1, 200)]


def test_frozen_link_for_more_than_a_lease(far, link, hosts):
    """No connection breaks, and nothing passes: the hosts are dead to the session, and find that when it passes again."""
    with far.Pool(4) as pool:
        pool.apply(kernels_pid)
        before = {pid for agent in hosts.agents() for pid in hosts.everything(agent)}
        results = begun(pool, 200)
        link.freeze()
        workers = list(pool._pool)
        until(lambda: not any(worker.is_alive() for worker in workers), 30)
        link.thaw()
        assert list(results) == [n * n for n in range(1, 200)]
        until(lambda: not any(map(lives, before)), 30)


def test_without_retries_no_task_of_a_host_that_was_cut_off_runs_twice(session, tcp_server, link, tmp_path):
    """Of what it had in hand nobody knows what it has begun."""
    far = session(redis_url=tcp_server.url, lease_s=LEASE_S, TEST_HOST_URL=link.url, retries=0)
    path = str(tmp_path / "runs")
    with far.Pool(4) as pool:
        pool.starmap(abs, [(item,) for item in range(400)], 1)  # short ones: many are taken at once
        results = [pool.apply_async(log, (path, item)) for item in range(4000)]
        until(lambda: os.path.exists(path))
        link.freeze()
        workers = list(pool._pool)
        until(lambda: not any(worker.is_alive() for worker in workers), 30)
        link.thaw()
        lost = 0
        for item, result in enumerate(results):
            try:
                assert result.get(60) == item
            except WorkerLostError:
                lost += 1
    assert lost
    with open(path) as file:
        assert set(collections.Counter(map(int, file)).values()) == {1}
