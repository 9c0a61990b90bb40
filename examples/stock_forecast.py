"""Monte Carlo forecast of share prices: geometric Brownian motion fitted to historic prices.

    python examples/stock_forecast.py
    python examples/stock_forecast.py --prices mine.csv --paths 20000 --days 252 --seed 7 --out mine.png

Reads prices as rows of symbol,date,price or as one column per ticker (date,AAA,BBB; a blank cell is a day
without a price), dates as 2010-03-01 or Mar 1 2010. Prints percentiles of the final price per ticker and
draws a fan chart. A day is a trading day, 252 to the year. Tickers are simulated without correlations.
"""

import argparse
import csv
import importlib.util
import math
import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

import cloudpool as multiprocessing

TRADING_DAYS = 252
CALENDAR_DAYS = 365.25
PERCENTILES = (5, 25, 50, 75, 95)
DATE_FORMATS = ("%Y-%m-%d", "%b %d %Y")

# Fixed, whatever the number of workers: a block's random numbers depend on the seed and its place alone.
BLOCK_PATHS = 1_000

# Evenly spaced: at full size every path on every day would be 4.3 GB, these days in float32 are 74 MB.
FAN_DAYS = 37


class BadInput(Exception):
    """What the user gave cannot be used; the message is one line."""


class Fit(NamedTuple):
    """One ticker: its last price, and the yearly drift and volatility of its log price."""

    symbol: str
    last_price: float
    drift: float
    volatility: float


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def default_prices():
    """The stocks.csv in vega_datasets: five tickers, closing prices by month, January 2000 to March 2010.

    The package is under the MIT licence. Of this file neither it nor the project that it comes from
    (vega/vega-datasets, where every data set keeps its own licence) names a source or a licence, so it is
    read where pip put it and never copied. The path is looked up without an import, which would load pandas.
    """
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None:
        raise BadInput("no prices: give --prices FILE, or pip install vega_datasets for the default ones")
    return Path(spec.origin).parent / "_data" / "stocks.csv"


def read_prices(path):
    """{symbol: {date: price}} of a CSV file in either layout."""
    prices = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for line, symbol, day, price in read_cells(csv.reader(file)):
                if not symbol:
                    raise BadInput(f"line {line}: no symbol")
                series = prices.setdefault(symbol, {})
                day = parse_date(day, line)
                if day in series:
                    raise BadInput(f"line {line}: a second price of {symbol} on {day}")
                series[day] = parse_price(price, line)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except (BadInput, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: {error}") from error
    if not prices:
        raise BadInput(f"{path}: no prices in it")
    return prices


def read_cells(reader):
    """Yield line number, symbol, date and price, all but the first as text."""
    header = [name.strip() for name in next(reader, [])]
    names = [name.lower() for name in header]
    long_layout = sorted(names) == ["date", "price", "symbol"]
    if not long_layout and (names[:1] != ["date"] or len(names) < 2 or not all(names)):
        raise BadInput("the header is neither symbol,date,price nor date,AAA,BBB,...")
    for row in reader:
        if row and len(row) != len(header):
            raise BadInput(f"line {reader.line_num}: {len(row)} fields where the header has {len(header)}")
        cells = [cell.strip() for cell in row]
        if long_layout and cells:
            cell = dict(zip(names, cells))
            yield reader.line_num, cell["symbol"], cell["date"], cell["price"]
        else:
            for symbol, price in zip(header[1:], cells[1:]):
                if price:
                    yield reader.line_num, symbol, cells[0], price


def parse_date(text, line):
    for date_format in DATE_FORMATS:
        try:
            return datetime.strptime(text, date_format).date()
        except ValueError:
            continue
    raise BadInput(f"line {line}: {text!r} is not a date such as 2010-03-01 or Mar 1 2010")


def parse_price(text, line):
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise BadInput(f"line {line}: {text!r} is not a positive price")
    return price


def fit_ticker(symbol, series):
    """Drift and volatility by the year; months are unevenly long, so each return is weighed by its span."""
    if len(series) < 3:
        raise BadInput(f"{symbol}: {len(series)} prices, at least 3 are needed")
    days = sorted(series)
    prices = np.array([series[day] for day in days])
    returns = np.diff(np.log(prices))
    years = np.diff([day.toordinal() for day in days]) / CALENDAR_DAYS
    drift = returns.sum() / years.sum()
    variance = ((returns - drift * years) ** 2 / years).sum() / (len(returns) - 1)
    return Fit(symbol, float(prices[-1]), float(drift), math.sqrt(variance))


def sampled_days(days):
    """The days that the chart shows: the first (today's price), the last and an even choice between."""
    return np.unique(np.linspace(0, days, FAN_DAYS).round().astype(int))


def simulate_block(task):
    """Prices of one block of paths on the sampled days: float32, tickers x days x paths."""
    seed, paths, days, fits = task
    random = np.random.default_rng(seed)
    sampled = sampled_days(days)
    prices = np.empty((len(fits), len(sampled), paths), dtype=np.float32)
    for row, fit in zip(prices, fits):
        steps = random.normal(
            fit.drift / TRADING_DAYS, fit.volatility / math.sqrt(TRADING_DAYS), size=(days, paths)
        )
        log_growth = np.cumsum(steps, axis=0, out=steps)
        row[0] = fit.last_price
        row[1:] = fit.last_price * np.exp(log_growth[sampled[1:] - 1])
    return prices


def forecast(fits, paths, days, seed, workers):
    """Exact percentiles over all paths: an array of tickers x percentiles x sampled days."""
    sizes = [min(BLOCK_PATHS, paths - start) for start in range(0, paths, BLOCK_PATHS)]
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))
    with multiprocessing.Pool(workers) as pool:
        blocks = pool.map(simulate_block, [(s, size, days, fits) for s, size in zip(seeds, sizes)])
    # One ticker at a time: in float64 all of them would take twice the memory of the blocks.
    by_ticker = (np.concatenate(parts, axis=1, dtype=float) for parts in zip(*blocks))
    return np.array([np.percentile(prices, PERCENTILES, axis=1) for prices in by_ticker])


def print_table(fits, bands):
    columns = "".join(f"{f'{p}%':>12}" for p in PERCENTILES)
    print(f"{'ticker':<8}{'last':>10}{'drift':>9}{'vol':>9}{columns}")
    for fit, band in zip(fits, bands):
        finals = "".join(f"{price:>12.2f}" for price in band[:, -1])
        print(f"{fit.symbol:<8}{fit.last_price:>10.2f}{fit.drift:>9.1%}{fit.volatility:>9.1%}{finals}")


def write_csv(path, fits, days, bands):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["symbol", "day", *(f"p{p}" for p in PERCENTILES)])
        for fit, band in zip(fits, bands):
            for day, prices in zip(days, band.T):
                writer.writerow([fit.symbol, int(day), *(float(price) for price in prices)])


def draw_fan(path, fits, days, bands):
    columns = min(3, len(fits))
    rows = math.ceil(len(fits) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for fit, (p5, p25, p50, p75, p95), axis in zip(fits, bands, axes):  # axes last: the spare ones stay in it
        axis.fill_between(days, p5, p95, color="tab:blue", alpha=0.2, linewidth=0, label="5% to 95%")
        axis.fill_between(days, p25, p75, color="tab:blue", alpha=0.4, linewidth=0, label="25% to 75%")
        axis.plot(days, p50, color="tab:blue", label="median")
        axis.set_title(fit.symbol, parse_math=False)
        axis.set_xlabel("trading days from the last price")
        axis.legend(loc="upper left", fontsize="small")
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, format="png")


def parse_arguments():
    parser = Parser(description="Monte Carlo forecast of share prices.")
    parser.add_argument(
        "--prices", type=Path, metavar="FILE", help="historic prices (vega_datasets' stocks.csv)"
    )
    parser.add_argument("--paths", type=int, default=100_000, help="simulated paths (%(default)s)")
    parser.add_argument("--days", type=int, default=1_080, help="trading days of each path (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed gives the same numbers (%(default)s)"
    )
    parser.add_argument("--workers", type=int, help="processes (one per core)")
    parser.add_argument("--out", type=Path, default=Path("forecast.png"), help="fan chart (%(default)s)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all percentiles per sampled day")
    return parser, parser.parse_args()


def check_arguments(args):
    for name in ("paths", "days", "workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name} is {value}, at least 1 is needed")
    if args.seed < 0:
        raise BadInput(f"--seed is {args.seed}, at least 0 is needed")
    for path in filter(None, (args.out, args.csv)):  # now, not after minutes of work
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise BadInput(f"{path}: cannot be written")


def main():
    parser, args = parse_arguments()
    try:
        check_arguments(args)
        prices = read_prices(args.prices or default_prices())
        fits = [fit_ticker(symbol, series) for symbol, series in prices.items()]
    except BadInput as error:
        parser.error(error)
    bands = forecast(fits, args.paths, args.days, args.seed, args.workers)
    days = sampled_days(args.days)
    print_table(fits, bands)
    draw_fan(args.out, fits, days, bands)
    if args.csv:
        write_csv(args.csv, fits, days, bands)


if __name__ == "__main__":
    main()
