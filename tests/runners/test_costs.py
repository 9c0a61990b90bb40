"""What functions cost: by the list, by prices of one's own, and never too little; what a budget allows."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

import pytest

from cloudpool import settings
from cloudpool.errors import SettingsError
from cloudpool.host.usage import Report
from cloudpool.runners import costs
from cloudpool.runners.budget import UNSEEN_S, Budget, Make
from cloudpool.store.keys import Keys
from cloudpool.store.wire import Connection

GB_SECOND = costs.PRICES["x86_64"]
REQUEST = costs.PRICES["requests"] / 1e6


def report(**changes: object) -> Report:
    plain = Report("f", "eu-west-1", "x86_64", 2048, 500, 1500, 100.0, 1.0, 900.0, is_over=True)
    return plain._replace(**changes)


def total(*reports: Report, **options: object) -> costs.Cost:
    return costs.total(reports, None, **{"now": 100.0, "silence_s": 15.0, **options})


def test_memory_times_time_and_each_request_are_billed():
    cost = total(report(), report(memory_mb=1024, init_ms=0, run_ms=1))
    assert (cost.invocations, cost.running, cost.memory_mb) == (2, 0, 2048)
    assert cost.run_s == pytest.approx(2.001)
    assert cost.gb_s == pytest.approx(4.001)
    assert cost.usd == pytest.approx(4.001 * GB_SECOND + 2 * REQUEST)


def test_what_runs_counts_as_long_as_it_may_before_the_next_look_and_no_longer_than_it_can_go_on_unheard():
    running = report(is_over=False)
    assert total(running).run_s == pytest.approx(2.0)
    assert total(running, now=103.0, ahead_s=4.0).run_s == pytest.approx(9.0)
    assert total(running, now=103.0, ahead_s=400.0).run_s == pytest.approx(17.0)
    assert total(running, now=103.0).running == 1
    killed = total(running, now=115.5)
    assert (killed.run_s, killed.running) == (pytest.approx(3.0), 0)


def test_prices_are_of_region_and_architecture_and_the_dearest_where_none_is_known():
    assert costs.price(None, "eu-west-1", "arm64") == costs.PRICES["arm64"]
    assert costs.price(None, "moon-1", "arm64") == costs.DEAREST["arm64"]
    assert costs.price(None, "eu-west-1", "riscv64") == costs.PRICES["x86_64"]
    own = {"*": {"x86_64": 2.0, "requests": 1.0}, "eu-west-1": {"x86_64": 3.0}}
    assert [costs.price(own, region, "x86_64") for region in ("eu-west-1", "moon-1")] == [3.0, 2.0]
    assert costs.price(own, "eu-west-1", "requests") == 1.0
    assert costs.price(own, "eu-west-1", "arm64") == costs.PRICES["arm64"]


def test_what_came_between_is_a_difference():
    before, after = total(report()), total(report(), report(run_ms=500))
    between = after - before
    assert (between.invocations, between.gb_s) == (1, pytest.approx(2.0))
    assert between.usd == pytest.approx(2.0 * GB_SECOND + REQUEST)


def test_the_line_has_what_one_wants_to_know():
    line = total(report(), report(run_ms=500)).line("abc")
    assert line == (
        "Job abc, Function f, Invocations 2, Memory 2048 MB, Avg run time 1.500 s, "
        f"Cost ${6.0 * GB_SECOND + 2 * REQUEST:.6f}"
    )
    assert total().line("abc").startswith("Job abc, Function none, Invocations 0,")


@pytest.mark.parametrize(
    "wrong", ["[]", '{"eu-west-1": 3}', '{"eu-west-1": {"arm": 1}}', '{"a": {"arm64": -1}}']
)
def test_prices_that_are_none_are_refused(wrong):
    with pytest.raises(SettingsError, match=r"lambda_prices.* is not a table such as"):
        settings.read({}, {"CLOUDPOOL_LAMBDA_PRICES": wrong}, "/")


def test_memory_and_time_beyond_lambda_s_limits_are_refused():
    for name, wrong in (("MEMORY", "64"), ("MEMORY", "10241"), ("TIMEOUT_S", "901")):
        with pytest.raises(SettingsError, match="is not a whole number of at least"):
            settings.read({}, {f"CLOUDPOOL_LAMBDA_{name}": wrong}, "/")


class Line:
    """The fleet's, as far as a budget uses it."""

    def __init__(self, store: Connection) -> None:
        self.call, self.keys = store.call, Keys(f"test-{uuid.uuid4()}")

    def reports(self, *found: Report) -> None:
        self.call("DEL", self.keys.usage)
        for number, one in enumerate(found):
            self.call("HSET", self.keys.usage, str(number), json.dumps(one))


@pytest.fixture
def line(store: Connection) -> Iterator[Line]:
    line = Line(store)
    yield line
    store.call("DEL", line.keys.usage)


def budget(line: Line, usd: float, make: Make | None = None) -> Budget:
    chosen = settings.read({"budget_usd": usd, "lambda_memory": 1024}, {}, "/")
    return Budget(chosen, line, None, 15.0, make)


def test_as_many_may_be_asked_for_as_could_start_and_end_within_the_budget(line):
    each = UNSEEN_S * costs.DEAREST["x86_64"] + costs.DEAREST["requests"] / 1e6  # no region is known yet
    assert budget(line, 10.5 * each).room(0) == 10
    assert budget(line, 10.5 * each).room(4) == 6
    assert budget(line, 0.9 * each).room(0) == 0
    assert not budget(line, 10.5 * each).is_short(10)
    assert budget(line, 10.5 * each).is_short(11)


def test_before_the_first_report_a_host_counts_as_the_function_is_made(line):
    made = Make("eu-west-1", "arm64", 10240)
    each = 10 * UNSEEN_S * costs.PRICES["arm64"] + REQUEST
    assert budget(line, 3.5 * each, made).room(0) == 3
    line.reports(report(memory_mb=512, init_ms=0, run_ms=0))  # it has been changed since, in a hurry
    each = UNSEEN_S / 2 * GB_SECOND + REQUEST
    assert budget(line, REQUEST + 3.5 * each, made).room(0) == 3


def test_those_that_run_must_end_while_that_can_still_be_paid(line):
    now = time.time()
    line.reports(report(run_ms=200_000), report(is_over=False, at=now, memory_mb=1024, init_ms=0))
    spent = 400.0 + 1.0 + 1.5
    enough, short = (spent + 20.0) * GB_SECOND, (spent + 3.9) * GB_SECOND
    assert not budget(line, enough).is_short(1)
    assert budget(line, short).is_short(1)
    words = budget(line, short).words(1)
    assert words.startswith(
        f"the budget of ${short:g} (CLOUDPOOL_BUDGET_USD) could be passed: 2 invocations of f\n"
    )
    assert words.endswith("So its hosts, 1, were told to end, and no more are started.")
