"""The foil: a queue as many write it, on redis-py's defaults, which repeat a command whose reply was lost.

Under the cuts that cloudpool's queue does not notice it loses items or gives them twice, and the checker says so. Should
the proxy cut nothing, or the checker believe everything, this fails.
"""

import contextlib

import pytest
import redis
from linearizability import NotLinearizable, Recorder, check, fifo, history

ITEMS = 300
BLOCK_S = 0.05


class NaiveQueue:
    """RPUSH and BLPOP, with as many retries as it takes to hide every cut."""

    def __init__(self, url):
        self._client = redis.Redis.from_url(
            url,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 100),
            retry_on_error=[redis.ConnectionError],
        )

    def put(self, item):
        self._client.rpush("foil", item)

    def get(self):
        found = self._client.blpop("foil", BLOCK_S)
        return "empty" if found is None else found[1].decode()

    def close(self):
        self._client.close()


def test_naive_queue_is_caught(proxy, tmp_path, count):
    proxy.set(rate=0.05)
    with contextlib.closing(NaiveQueue(proxy.url)) as q:
        recorder = Recorder(tmp_path)
        for n in range(ITEMS):
            recorder("q", "put", str(n), q.put, str(n))
        for _ in range(ITEMS):
            recorder("q", "get", None, q.get)
        recorder.close()
    assert proxy.counts()["cuts"]
    with pytest.raises(NotLinearizable, match="q: after"):
        check(history(tmp_path), {"q": fifo()}, posted=())
    count(operations=2 * ITEMS)


def test_naive_queue_is_right_while_nothing_is_cut(proxy, tmp_path):
    with contextlib.closing(NaiveQueue(proxy.url)) as q:
        recorder = Recorder(tmp_path)
        for n in range(20):
            recorder("q", "put", str(n), q.put, str(n))
            recorder("q", "get", None, q.get)
        recorder.close()
    assert check(history(tmp_path), {"q": fifo()}, posted=()) == 40
