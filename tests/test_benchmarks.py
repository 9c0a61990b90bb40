"""The benchmarks run: a row of each kind of limit, beside its reference. No time is asserted: rows check their answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COMPARE = BENCHMARKS / "compare.py"


def test_rows_have_figures(tmp_path):
    file = tmp_path / "figures.json"
    rows = ["lock_pair", "get_obj_slice", "idle_worker"]
    done = subprocess.run(
        [sys.executable, COMPARE, "--rounds", "1", "--json", file, *rows],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert not done.stderr
    table = json.loads(file.read_text())["table"]
    assert list(table) == rows
    figures = [limit["cloudpool"] for row in rows[:2] for limit in table[row]["limits"]]
    assert None not in figures, done.stdout
    assert all(figure > 0 for figure in figures), done.stdout


def test_unknown_row_is_refused():
    done = subprocess.run([sys.executable, COMPARE, "quux"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no row quux" in done.stderr


COSTS = (5e-6, 10e-6, 2e-6, 8e-6, 50e-6)  # the root puts, takes; the server likewise; a worker


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from growth import model, simulation

    return model, simulation


@pytest.mark.parametrize(
    ("wall", "where"),
    [
        ("workers", {"workers": 10, "task_s": 0.01, "trip_s": 0.001}),
        ("root", {"workers": 1000, "task_s": 0.001, "trip_s": 0.0005}),
        ("cores", {"workers": 100, "task_s": 0.001, "trip_s": 0.0001, "cores": 2}),
    ],
)
def test_the_simulation_of_the_protocol_comes_to_what_the_model_says(growth, wall, where):
    model, simulation = growth
    costs, setting = model.Costs(*COSTS), model.Setting(**where)
    assert min(model.walls(costs, setting), key=model.walls(costs, setting).get) == wall
    # More where the root puts tasks while it waits for results.
    assert 0.9 < simulation.rate(costs, setting, 20_000) / model.rate(costs, setting) < 1.4


def test_more_servers_move_the_wall_only_with_more_pools(growth):
    model, _ = growth
    costs = model.Costs(*COSTS[:3], 90e-6, COSTS[4])  # the server's is the most
    rates = [
        model.rate(costs, model.Setting(100_000, 1.0, 0.001, pools=pools, servers=servers))
        for pools, servers in ((1, 1), (1, 4), (4, 1), (4, 4))
    ]
    assert [rate * 92e-6 for rate in rates] == pytest.approx([1, 1, 1, 4])
