"""Times cloudpool beside multiprocessing, row by row, and says which rows miss their limit.

    python benchmarks/compare.py [--rounds 5] [--modules multiprocessing,cloudpool] [--json FILE] [--png FILE] [ROW ...]

Modules are multiprocessing, cloudpool, lithops and ray, the last two where they are installed. Each figure is a fresh
interpreter's, the modules one after the other, round by round, so that the machine's noise meets all alike. The figure
to read is the ratio: the median over the rounds of each round's own. Absolute figures are this machine's, this moment's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rows import ROWS, Limit

sys.path.insert(1, str(Path(__file__).parents[1]))  # cloudpool of this checkout

for kind in ("processes", "pools", "messages", "locks", "memory", "managers", "programs", "idle"):
    importlib.import_module(f"rows.{kind}")

NAMES = {"lithops": "lithops.multiprocessing", "ray": "ray.util.multiprocessing"}
TIMEOUT_S = 120
Round = dict[str, float | str]  # by module or reference: a cost, or why there is none


def measured(name: str, who: str, start_method: str, environment: dict[str, str]) -> float | str:
    """What one run in an interpreter of its own has found, or why it has not."""
    command = [sys.executable, __file__, "--measure", who, "--start-method", start_method, name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return f"more than {TIMEOUT_S} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode:
        return lines[-1][:100] if lines else f"status {done.returncode}"
    return float(lines[-1])


def measure(name: str, who: str, start_method: str) -> float:
    """In this interpreter. `who` is a module, or `reference N`: that of the row's Nth limit."""
    row = ROWS[name]
    if who.startswith("reference"):
        reference = row.limits[int(who.split()[1])].reference
        assert reference is not None
        return reference()
    module = importlib.import_module(NAMES.get(who, who))
    return row.measure(module.get_context(start_method) if who not in NAMES else module)


def compared(limit: Limit, number: int, who: str, rounds: list[Round]) -> float | None:
    """The median of what the limit is about, over the rounds that have both figures."""
    reference = "multiprocessing" if limit.reference is None else f"reference {number}"
    found = []
    for one in rounds:
        cost, other = one.get(who), one.get(reference)
        if limit.kind == "so much" and isinstance(cost, float):
            found.append(cost)
        elif isinstance(cost, float) and isinstance(other, float):
            found.append(cost / other if limit.kind == "times" else cost - other)
    return statistics.median(found) if found else None


def words(limit: Limit, unit: str) -> str:
    beside = "the wire" if limit.reference else "multiprocessing"
    return {
        "times": f"x {beside}", "beyond": f"{unit} beyond {beside}", "so much": unit,
    }[limit.kind]  # fmt: skip


def report(name: str, rounds: list[Round], modules: list[str]) -> dict[str, Any]:
    """Print the row's lines; what they say."""
    row, said = ROWS[name], []
    others = [who for who in modules if who not in ("multiprocessing", "cloudpool")]
    for number, limit in enumerate(row.limits):
        ratio = compared(limit, number, "cloudpool", rounds)
        verdict = "no figure" if ratio is None else "" if ratio <= limit.most else "MISSED"
        figure = "" if ratio is None else f"{ratio:.3g}"
        line = f"{name:28}{figure:>9}  {words(limit, row.unit):28} at most {limit.most:<6g}{verdict:10}"
        beside = {who: compared(limit, number, who, rounds) for who in others}
        line += "".join(f"{who} {value:.3g}  " for who, value in beside.items() if value is not None)
        print(line.rstrip(), flush=True)
        said.append({"limit": limit.most, "of": words(limit, row.unit), "cloudpool": ratio, **beside})
    for why in {f"{who}: {one[who]}" for one in rounds for who in one if isinstance(one[who], str)}:
        print(f"    {why}", flush=True)
    return {"unit": row.unit, "limits": said, "rounds": rounds}


def draw(table: dict[str, dict[str, Any]], path: str) -> None:
    """Each limit as a bar of how much of it is used: up to the line is kept."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    bars = [
        (f"{name} ({limit['of']})", limit["cloudpool"] / limit["limit"])
        for name, said in table.items()
        for limit in said["limits"]
        if limit["cloudpool"] is not None
    ]
    figure, axes = plt.subplots(figsize=(9, 1 + 0.22 * len(bars)), layout="constrained")
    names, used = zip(*reversed(bars), strict=True)
    axes.barh(names, used, color=["tab:green" if u <= 1 else "tab:red" for u in used])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("part of its limit that a row uses")
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="of: " + ", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modules", default="multiprocessing,cloudpool")
    parser.add_argument("--start-method", default="fork")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--png", metavar="FILE")
    parser.add_argument("--measure", metavar="WHO", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no row {', '.join(unknown)}: see --help")
    if options.measure:
        print(measure(options.rows[0], options.measure, options.start_method))
        return 0
    modules = options.modules.split(",")
    table: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        # One thread a process in numpy's arithmetic: what is compared is how work is spread over processes.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        if "lithops" in modules:
            from rows.lithops import configured

            environment |= stack.enter_context(configured())
        for name in options.rows or ROWS:
            references = [f"reference {n}" for n, x in enumerate(ROWS[name].limits) if x.reference]
            rounds: list[Round] = [
                {who: measured(name, who, options.start_method, environment) for who in modules + references}
                for _ in range(options.rounds)
            ]
            table[name] = report(name, rounds, modules)
    if options.json:
        Path(options.json).write_text(
            json.dumps({"start_method": options.start_method, "table": table}, indent=1)
        )
    if options.png:
        draw(table, options.png)
    is_missed = any(
        limit["cloudpool"] is None or limit["cloudpool"] > limit["limit"]
        for said in table.values()
        for limit in said["limits"]
    )
    return 1 if is_missed else 0


if __name__ == "__main__":
    sys.exit(main())
