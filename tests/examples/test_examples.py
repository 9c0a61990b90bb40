"""The examples, run as a user runs them, next to the same programs on the stdlib."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CLOUDPOOL_LINE = "import cloudpool as multiprocessing"
STDLIB_LINE = "import multiprocessing"
TIMEOUT_S = 120

# The standard normal's 5, 25, 50, 75 and 95 % quantiles.
NORMAL_QUANTILES = (-1.6448536, -0.6744898, 0.0, 0.6744898, 1.6448536)

UNEVEN_DATES = ("2019-01-01", "2019-02-01", "2019-07-15", "2020-03-01", "2020-03-02")


def run(script, *args, cwd):
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, str(script), *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def output(script, *args, cwd):
    done = run(script, *args, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def on_stdlib(name, folder):
    """Write the example's stdlib version, whose one difference is the import line."""
    lines = (EXAMPLES / name).read_text(encoding="utf-8").split("\n")
    assert lines.count(CLOUDPOOL_LINE) == 1
    lines[lines.index(CLOUDPOOL_LINE)] = STDLIB_LINE
    script = folder / name
    script.write_text("\n".join(lines), encoding="utf-8")
    return script


def forecast(folder, *args, script=EXAMPLES / "stock_forecast.py"):
    """Run a small forecast in a new folder; return its table, its CSV and its chart."""
    folder.mkdir()
    small = ("--paths", 2500, "--days", 50, "--out", "fan.png", "--csv", "fan.csv")
    table = output(script, *small, *args, cwd=folder)
    return table, (folder / "fan.csv").read_text(encoding="utf-8"), (folder / "fan.png").read_bytes()


def percentiles(text):
    """{symbol: {day: percentiles}} of the CSV that a forecast wrote."""
    found = {}
    for row in list(csv.reader(text.splitlines()))[1:]:
        found.setdefault(row[0], {})[int(row[1])] = [float(cell) for cell in row[2:]]
    return found


def write_prices(folder, rows):
    path = folder / "prices.csv"
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_tour_prints_the_same_on_both(tmp_path):
    table = output(EXAMPLES / "tour.py", cwd=tmp_path)
    assert table == output(on_stdlib("tour.py", tmp_path), cwd=tmp_path)
    assert [line.split()[0] for line in table.splitlines()] == [
        "Pool", "Queue", "Pipe", "Process", "Lock", "Value", "Manager",
    ]  # fmt: skip


def test_pi_is_the_same_on_both(tmp_path):
    args = ("--processes", 4, "--samples", 200_003)
    line = output(EXAMPLES / "pi.py", *args, cwd=tmp_path)
    assert line == output(on_stdlib("pi.py", tmp_path), *args, cwd=tmp_path)
    assert abs(float(line.split()[2].rstrip(",")) - math.pi) < 0.02
    assert "(200003 samples, 4 processes)" in line


def test_forecast_is_the_same_on_both(tmp_path):
    table, numbers, chart = forecast(tmp_path / "cloudpool", "--workers", 2)
    script = on_stdlib("stock_forecast.py", tmp_path)
    stdlib_table, stdlib_numbers, stdlib_chart = forecast(tmp_path / "stdlib", "--workers", 2, script=script)
    assert table == stdlib_table
    assert numbers == stdlib_numbers
    assert chart == stdlib_chart
    assert chart.startswith(b"\x89PNG")
    assert list(percentiles(numbers)) == ["MSFT", "AMZN", "IBM", "GOOG", "AAPL"]
    assert {len(days) for days in percentiles(numbers).values()} == {37}


def test_forecast_does_not_depend_on_the_number_of_workers(tmp_path):
    results = [forecast(tmp_path / f"{workers}", "--workers", workers) for workers in (1, 2, 3)]
    assert results[0] == results[1] == results[2]


def test_another_seed_gives_other_numbers(tmp_path):
    _, first, _ = forecast(tmp_path / "first", "--seed", 1)
    _, second, _ = forecast(tmp_path / "second", "--seed", 2)
    assert first != second


def test_steady_growth_is_forecast_to_continue_whatever_the_spacing_of_the_dates(tmp_path):
    start = 100.0
    days = [0, 31, 195, 425, 426]
    rows = [
        f"AAA,{date},{start * 2 ** (day / 365.25)!r}" for date, day in zip(UNEVEN_DATES, days, strict=True)
    ]
    prices = write_prices(tmp_path, ["symbol,date,price", *rows])
    _, numbers, _ = forecast(tmp_path / "out", "--prices", prices)
    last_price = start * 2 ** (days[-1] / 365.25)
    for day, found in percentiles(numbers)["AAA"].items():
        assert found == pytest.approx([last_price * 2 ** (day / 252)] * 5, rel=1e-6)


def test_percentiles_are_those_of_geometric_brownian_motion(tmp_path):
    # Yearly log returns of +0.3 and -0.1 over a year each: drift 0.1, and the two deviations of 0.2 give a
    # variance of 2 * 0.2**2 / (2 - 1).
    prices = [100 * math.exp(growth) for growth in (0.0, 0.3, 0.2)]
    rows = [f"{2001 + year}-01-01,{price!r}" for year, price in enumerate(prices)]
    path = write_prices(tmp_path, ["date,AAA", *rows])
    _, numbers, _ = forecast(tmp_path / "out", "--prices", path, "--paths", 40_000, "--days", 126)
    volatility = math.sqrt(2 * 0.2**2)
    found = percentiles(numbers)["AAA"][126]
    for price, quantile in zip(found, NORMAL_QUANTILES, strict=True):
        # 1 %: four times the standard error of the 5 % percentile of 40,000 paths is 0.85 %.
        growth = 0.1 * 0.5 + volatility * math.sqrt(0.5) * quantile
        assert price == pytest.approx(prices[-1] * math.exp(growth), rel=0.01)


def test_one_column_per_ticker_reads_as_one_row_per_price(tmp_path):
    first, second = (10.0, 11.0, 10.5, 12.0, 12.5), (7.0, 6.5, 6.0, 6.25, 7.5)
    rows = [f"AAA,{date},{price}" for date, price in zip(UNEVEN_DATES, first, strict=True)]
    rows += [f"BBB,{date},{price}" for date, price in zip(UNEVEN_DATES, second, strict=True)]
    long = write_prices(tmp_path, ["symbol,date,price", *rows])
    in_rows = forecast(tmp_path / "long", "--prices", long)
    rows = [f"{date},{a},{b}" for date, a, b in zip(UNEVEN_DATES, first, second, strict=True)]
    wide = write_prices(tmp_path, ["date,AAA,BBB", *rows])
    assert in_rows == forecast(tmp_path / "wide", "--prices", wide)


LONG = "symbol,date,price"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "header"),
        (["when,what", "2020-01-01,5"], "header"),
        ([LONG], "no prices"),
        ([LONG, "AAA,2020-01-01"], "line 2: 2 fields"),
        ([LONG, ",2020-01-01,5"], "line 2: no symbol"),
        ([LONG, "AAA,yesterday,5"], "line 2: 'yesterday'"),
        ([LONG, "AAA,2020-01-01,five"], "line 2: 'five'"),
        ([LONG, "AAA,2020-01-01,nan"], "line 2: 'nan'"),
        ([LONG, "AAA,2020-01-01,5", "AAA,2020-01-02,0"], "line 3: '0'"),
        ([LONG, "AAA,2020-01-01,-5"], "line 2: '-5'"),
        ([LONG, "AAA,2020-01-01,5", "AAA,Jan 1 2020,5"], "second price of AAA"),
        ([LONG, "AAA,2020-01-01,5", "AAA,2020-01-02,5"], "AAA: 2 prices"),
        (["date,AAA,BBB", "2020-01-01,5,", "2020-01-02,5,6", "2020-01-03,5,6"], "BBB: 2 prices"),
    ],
)
def test_prices_that_cannot_be_used_are_one_line_and_exit_2(tmp_path, rows, message):
    assert_refused(tmp_path, message, "--prices", write_prices(tmp_path, rows))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--prices", "missing.csv"), "missing.csv: No such file"),
        (("--paths", "-1"), "--paths is -1"),
        (("--paths", "many"), "many"),
        (("--days", "0"), "--days is 0"),
        (("--workers", "-2"), "--workers is -2"),
        (("--seed", "-1"), "--seed is -1"),
        (("--out", "nowhere/fan.png"), "nowhere/fan.png: cannot be written"),
        (("--csv", "nowhere/fan.csv"), "nowhere/fan.csv: cannot be written"),
    ],
)
def test_arguments_that_cannot_be_used_are_one_line_and_exit_2(tmp_path, args, message):
    assert_refused(tmp_path, message, *args)


def test_prices_that_are_not_text_are_one_line_and_exit_2(tmp_path):
    (tmp_path / "prices.csv").write_bytes(b"symbol,date,price\n\xff\xfe\x00")
    assert_refused(tmp_path, "prices.csv", "--prices", "prices.csv")


def assert_refused(folder, message, *args):
    done = run(EXAMPLES / "stock_forecast.py", *args, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.startswith("stock_forecast.py: error: ")
    assert done.stderr.count("\n") == 1
    assert not (folder / "forecast.png").exists()


@pytest.mark.parametrize("args", [("--processes", "0"), ("--samples", "-5")])
def test_pi_refuses_counts_below_one(tmp_path, args):
    done = run(EXAMPLES / "pi.py", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "must be at least 1" in done.stderr
