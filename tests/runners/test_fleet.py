"""The fleet's loop, step by step: what the server refuses for a moment, and an engine that never delivers."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from multiprocessing import AuthenticationError

import pytest

from cloudpool.host.inbox import host_id
from cloudpool.runners.budget import Budget
from cloudpool.runners.fleet import Fleet
from cloudpool.runners.plan import Host, Launch, Plan
from cloudpool.store.keys import Keys
from cloudpool.store.wire import Connection, ReplyError


class Line:
    """The fleet's, as far as these steps use it: to a real server."""

    def __init__(self, store: Connection) -> None:
        self.call, self.keys = store.call, Keys(f"test-{uuid.uuid4()}")


class Engine:
    """It counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.stopped: list[int] = []

    def start(self, numbers: range) -> None:
        self.asked += numbers

    def stop(self, numbers: list[int]) -> None:
        self.stopped += numbers


class Told(Fleet):
    """A fleet with what a test gives it; what it says to hosts is kept."""

    def __init__(self, line: Line) -> None:
        self._line, self._runner, self._plan = line, Engine(), Plan(10, 1)
        self._again_s, self._over_budget, self._budget = 10.0, "", None
        self._grow_at = math.inf
        self.said: list[tuple[object, ...]] = []

    def _post(self, reader: str, *letter: object) -> None:
        self.said.append((reader, *letter))


@pytest.fixture
def line(store: Connection) -> Iterator[Line]:
    line = Line(store)
    yield line
    store.call("DEL", line.keys.claims, line.keys.usage)


@pytest.fixture
def fleet(line: Line) -> Told:
    return Told(line)


def test_a_host_is_asked_for_again_when_the_server_takes_writes_again(fleet, line):
    fleet._plan.coming[7] = 0.0
    line.call("SET", line.keys.claims, "no hash")  # what refuses HDEL
    fleet._ask_again(11.0)
    assert fleet._runner.asked == []
    line.call("DEL", line.keys.claims)
    fleet._ask_again(31.0)
    assert fleet._runner.asked == [7]


class Unread(Budget):
    """A budget whose reports cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    def _reserve(self, hosts: int) -> tuple[float, float]:
        raise self.error


def test_nothing_is_decided_while_the_server_refuses_to_tell_what_was_spent(fleet):
    fleet._budget = Unread(ReplyError("NOPERM not now"))
    fleet._plan.hosts[3] = Host(3, 0, 1, set(), 0.0)
    fleet._look_at_budget()
    assert fleet._affordable(5) == 0
    assert (fleet.said, fleet._over_budget) == ([], "")


def test_hosts_end_when_what_they_have_spent_is_forged(fleet):
    fleet._budget = Unread(AuthenticationError("it is refused."))
    fleet._plan.hosts[3] = Host(3, 0, 1, set(), 0.0)
    fleet._plan.waiting["a"] = Launch("a", 1, ())
    fleet._look_at_budget()
    assert [said[:2] for said in fleet.said] == [(host_id(1), "refused"), (host_id(3), "leave")]
    assert "is not known" in fleet._over_budget


def test_idle_hosts_are_looked_at_each_second_where_there_is_a_budget(fleet):
    fleet._idle_s = 60.0
    fleet._plan.hosts[3] = Host(3, 0, 1, set(), 0.0)
    assert fleet._between_looks_s() == 5.0
    fleet._budget = Unread(ReplyError("not asked"))
    assert fleet._between_looks_s() == 1.0
    fleet._plan.hosts.clear()
    assert fleet._between_looks_s() == 5.0
