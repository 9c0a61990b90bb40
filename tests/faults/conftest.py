"""Faults: a server behind a proxy that cuts connections, histories that are checked, random tests that may soak.

    pytest tests/faults              each random test once, with a seed of its own, which is printed at the end
    pytest tests/faults --seed 7     with that one
    pytest tests/faults --soak 30    afterwards the random tests over and over for half an hour, then what was counted

A random test takes `seed`, or `faults`, which does.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "tools"))

from fault_programs import Program, TestServer
from proxy import Proxy

import cloudpool
from cloudpool import settings
from cloudpool.host import session as sessions

RATES = (0.01, 0.05, 0.3)  # of pieces of requests and replies that are cut, in a soak
counted: Counter[str] = Counter()
seeds: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak", type=float, default=0.0, metavar="MINUTES", help="repeat the random tests so long"
    )
    parser.addoption("--seed", type=int, default=None, help="the seed of the random tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    deadline = time.monotonic() + 60 * session.config.getoption("soak", 0.0)
    result = yield
    items = [item for item in session.items if "seed" in getattr(item, "fixturenames", ())]
    while items and time.monotonic() < deadline and not (session.shouldfail or session.shouldstop):
        for item in items:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if time.monotonic() > deadline or session.shouldfail or session.shouldstop:
                break
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if seeds:
        terminalreporter.section("faults")
        terminalreporter.write_line(f"{len(seeds)} random tests, seeds {' '.join(seeds[-100:])}")
        terminalreporter.write_line(", ".join(f"{n} {what}" for what, n in sorted(counted.items())))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A new one each time, unless --seed says which."""
    chosen: int | None = request.config.getoption("seed", None)
    seed = random.SystemRandom().randrange(2**31) if chosen is None else chosen
    seeds.append(str(seed))
    request.node.add_report_section("setup", "seed", str(seed))
    return seed


@pytest.fixture
def rate(request: pytest.FixtureRequest, seed: int) -> float:
    """How many of the pieces that pass are cut."""
    return random.Random(seed).choice(RATES) if request.config.getoption("soak", 0.0) else 0.05


@pytest.fixture
def proxy(tcp_server: Any, seed: int) -> Iterator[Proxy]:
    """The session's connections, the agent's as well, go through this proxy; nothing is broken yet."""
    sessions.leave()
    with Proxy(tcp_server.url, seed) as proxy:
        os.environ["CLOUDPOOL_REDIS_URL"] = proxy.url
        settings.reload()
        yield proxy
        proxy.thaw()
        proxy.disarm()
        proxy.set(rate=0, delay_s=0)
        counted["cuts"] += proxy.counts()["cuts"]
        sessions.leave()
        del os.environ["CLOUDPOOL_REDIS_URL"]
        settings.reload()


@pytest.fixture
def cuts(proxy: Proxy, rate: float, capfd: pytest.CaptureFixture[str]) -> Iterator[Proxy]:
    """The proxy at work. What it does is invisible: nobody says a word on stderr."""
    proxy.set(rate=rate)
    yield proxy
    proxy.set(rate=0)
    counts = proxy.counts()
    # Of a few pieces none may be cut: with ten to be expected that happens once in 20,000 times.
    assert counts["cuts"] or counts["expected"] < 10, "nothing was cut: the test has shown nothing"
    assert capfd.readouterr().err == ""


@pytest.fixture
def count() -> Callable[..., None]:
    """count(operations=1000): for the summary of a soak."""

    def count(**amounts: int) -> None:
        counted.update(amounts)

    return count


@pytest.fixture
def launch() -> Iterator[Callable[..., Program]]:
    """launch(source, *arguments, **settings): a program; nothing of it is left at the test's end."""
    programs: list[Program] = []

    def launch(source: str, *arguments: str, within: tuple[str, ...] = (), **settings: str) -> Program:
        programs.append(Program(source, *arguments, within=within, **settings))
        return programs[-1]

    yield launch
    for program in programs:
        program.stop()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., TestServer]]:
    """serve(*options): a server of one's own."""
    servers: list[TestServer] = []

    def serve(*options: str, within: tuple[str, ...] = ()) -> TestServer:
        servers.append(TestServer(tmp_path / f"server{len(servers)}", *options, within=within))
        return servers[-1]

    yield serve
    for server in servers:
        server.kill()


@pytest.fixture
def run(tmp_path: Path, seed: int) -> Iterator[Callable[..., None]]:
    """run(target, *args, workers=4): target(random, folder, *args) in that many processes at once; all must end well."""
    processes: list[Any] = []

    def run(target: Callable[..., Any], *args: Any, workers: int = 4) -> None:
        mine = [
            cloudpool.get_context("fork").Process(
                target=_worker, args=(target, seed + n, str(tmp_path), *args)
            )
            for n in range(workers)
        ]
        processes.extend(mine)
        for process in mine:
            process.start()
        for process in mine:
            process.join(60)
        assert [process.exitcode for process in mine] == [0] * workers

    yield run
    for process in processes:
        process.kill()
        process.join()


def _worker(target: Callable[..., Any], seed: int, folder: str, *args: Any) -> None:
    target(random.Random(seed), folder, *args)
