"""Which of the hosts that came for one number is that host."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from cloudpool.errors import ServerError
from cloudpool.host.line import ClaimedError, FarLine
from cloudpool.store.keys import Keys
from cloudpool.store.wire import Connection


@pytest.fixture
def line(store: Connection) -> Iterator[FarLine]:
    """Of hosts of a session of the test's own."""
    line = FarLine.__new__(FarLine)
    line.keys, line.ttl_ms = Keys(f"test-{uuid.uuid4()}"), 60_000
    line._ask = store.call  # type: ignore[method-assign]
    yield line
    store.call("DEL", line.keys.beat, line.keys.claims)


def test_the_first_has_it(line, store):
    store.call("SET", line.keys.beat, 1)
    line._claim(3)
    with pytest.raises(ClaimedError, match="host 3 of the session is another one"):
        line._claim(3)


def test_nobody_has_it_when_the_session_is_over_and_nothing_is_made_anew(line, store):
    with pytest.raises(ServerError, match="the session is over"):
        line._claim(3)
    assert store.call("EXISTS", line.keys.claims) == 0
