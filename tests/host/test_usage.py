"""What invocations write of themselves: read back, once each, and never less than what is billed."""

from __future__ import annotations

import dataclasses
import secrets
import time
import uuid
from collections.abc import Iterator
from multiprocessing import AuthenticationError

import pytest

from cloudpool.host import usage
from cloudpool.host.session import sealer_of
from cloudpool.host.usage import Meter, Report, reports
from cloudpool.store.keys import Keys
from cloudpool.store.wire import Connection


@dataclasses.dataclass
class Context:
    """As Lambda gives it to a handler."""

    aws_request_id: str = "11111111-2222"
    memory_limit_in_mb: str = "1769"
    function_name: str = "f"


@pytest.fixture
def keys(store: Connection) -> Iterator[Keys]:
    keys = Keys(f"test-{uuid.uuid4()}")
    store.call("SET", keys.beat, 1)
    yield keys
    store.call("DEL", keys.usage, keys.beat)


def report(**changes: object) -> Report:
    plain = Report("f", "eu-west-1", "arm64", 1024, 300, 2000, 100.0, 1.0, 15.0, is_over=False)
    return plain._replace(**changes)


def test_what_is_reported_twice_counts_once_and_each_delivery_of_a_request_for_itself(store, keys):
    first, again = Meter(Context()), Meter(Context())
    first.report(store.call, keys, 60_000, None, 1.0, 15.0)
    first.report(store.call, keys, 60_000, None, 1.0, 15.0, is_over=True)
    again.report(store.call, keys, 60_000, None, 1.0, 15.0)
    found = sorted(reports(store.call, keys, None), key=lambda report: report.is_over)
    assert [(r.function, r.memory_mb, r.is_over) for r in found] == [("f", 1769, False), ("f", 1769, True)]
    assert store.call("PTTL", keys.usage) > 0


def test_the_initialization_counts_with_an_environment_s_first_invocation(store, keys, monkeypatch):
    monkeypatch.setattr(Meter, "_has_run", False)
    for n in range(3):
        Meter(Context(f"request-{n}")).report(store.call, keys, 0, None, 1.0, 15.0, is_over=True)
    assert sorted(r.init_ms > 0 for r in reports(store.call, keys, None)) == [False, False, True]
    assert store.call("PTTL", keys.usage) == -1


def test_reports_are_sealed_where_all_is_and_cannot_be_put_in_another_s_place(store, keys):
    sealer = sealer_of(secrets.token_bytes(32))
    Meter(Context()).report(store.call, keys, 0, sealer, 1.0, 15.0)
    said = store.call("HGETALL", keys.usage)
    name, data = next(iter(said.items())) if isinstance(said, dict) else said
    assert b"function" not in data
    assert b"arm64" not in data
    assert reports(store.call, keys, sealer)[0].function == "f"
    store.call("HSET", keys.usage, name + b"x", data)
    with pytest.raises(AuthenticationError, match="usage"):
        reports(store.call, keys, sealer)


def test_one_that_is_over_counts_as_it_was():
    assert report(is_over=True).at_most_ms(now=1e9, ahead_s=60) == 2300


def test_one_that_runs_counts_up_to_now_and_ahead_but_not_beyond_its_end():
    assert report().at_most_ms(now=103.0) == 5300
    assert report().at_most_ms(now=103.0, ahead_s=2.0) == 7300
    assert report().at_most_ms(now=103.0, ahead_s=900.0) == 17300
    assert report().at_most_ms(now=90.0) == 2300  # clocks differ


def test_one_that_was_killed_counts_to_the_end_of_its_beat():
    assert report().is_running(now=115.0)
    assert not report().is_running(now=115.1)
    assert report().at_most_ms(now=115.1, ahead_s=5.0) == 3300


def test_a_process_s_age_is_at_least_the_time_since_here():
    begin = usage._age_s()
    time.sleep(0.02)
    assert usage._age_s() >= begin + 0.02 - 0.011  # the kernel counts its start in ticks


def test_nothing_is_reported_of_a_session_that_is_over(store, keys):
    store.call("DEL", keys.beat)
    Meter(Context()).report(store.call, keys, 60_000, None, 1.0, 15.0)
    assert store.call("EXISTS", keys.usage) == 0
