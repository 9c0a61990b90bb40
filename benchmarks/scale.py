"""What one server carries: growth as measured on this machine, and a model of more workers than it has.

    python benchmarks/scale.py [--json FILE] [--png FILE] [--from FILE]

Measured: tasks/s and latency beside 1 to 500 idle workers; operations/s of 1 to 16 clients beside the server's own benchmark
(valkey-benchmark or redis-benchmark, where on PATH); maps of 10^3 to 10^6 items; the processor time of a task in the root, the
server and a worker. The model (growth/model.py) has the latter alone; a simulation of the protocol's messages
(growth/simulation.py) and tasks that only wait, on this machine, say whether it holds, as far as this machine's cores go: the walls of
a root and a server with cores of their own are beyond them. The costs are of pipelined small tasks, not sealed, by a unix socket.
--from draws and prints what was measured before.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))  # cloudpool of this checkout

from growth import measured, model, simulation

POINTS = [(1, 0.001), (4, 0.001), (1, 0.01), (4, 0.01), (16, 0.01), (64, 0.01), (16, 0.1), (64, 0.1), (256, 0.1), (500, 0.1)]  # fmt: skip
DURATIONS_S = [0.001, 0.01, 0.1, 1.0, 10.0, 60.0]
NETWORK_TRIP_S = 0.0005  # between machines of one data centre


def measure() -> dict[str, Any]:
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    print("beside idle workers", flush=True)
    found["idle"] = measured.idle([1, 10, 100, 500])
    print("clients", flush=True)
    found["clients"] = measured.clients([1, 2, 4, 8, 16])
    print("items", flush=True)
    found["items"] = measured.items([1_000, 10_000, 100_000, 1_000_000])
    print("tasks that wait", flush=True)
    found["naps"] = measured.naps(POINTS)
    found["trip s"] = measured.trip_s()
    found["costs"] = asdict(measured.costs())
    found["costs with 50 kB"] = asdict(measured.costs(payload=50_000, count=3000))
    return found


def checked(found: dict[str, Any], costs: model.Costs) -> list[dict[str, float]]:
    """Each measured point beside what simulation and model say of it."""
    table = []
    for point in found["naps"]:
        setting = model.Setting(point["workers"], point["task s"], found["trip s"], found["cores"])
        simulated = simulation.rate(costs, setting, int(point["tasks"]))
        table.append({**point, "simulated": simulated, "model": model.rate(costs, setting)})
    return table


def report(found: dict[str, Any]) -> list[dict[str, float]]:
    costs, large = model.Costs(**found["costs"]), model.Costs(**found["costs with 50 kB"])
    for name in ("root", "server", "worker"):
        print(
            f"a task costs the {name:7}{1e6 * getattr(costs, name):6.1f} µs, with 50 kB {1e6 * getattr(large, name):6.1f} µs"
        )
    print(f"a trip to the server   {1e6 * found['trip s']:6.1f} µs")
    for name, key, of in (
        ("idle", "tasks/s", -1),
        ("clients", "server s an operation", 1),
        ("items", "s an item", 1),
    ):
        cost = [point[key] ** of for point in found[name]]
        print(f"growth of what one costs, {name:8} {max(cost) / cost[0]:.2f}")
    table = checked(found, costs)
    print("\nworkers   s a task   tasks/s  simulated     model")
    for point in table:
        print("{workers:7} {task s:10g} {tasks/s:9.0f} {simulated:10.0f} {model:9.0f}".format(**point))
    print(
        f"\nworkers that one pool keeps busy, a trip of {1e3 * NETWORK_TRIP_S} ms away, each process with a core of its own:"
    )
    print("  s a task   workers  the wall")
    for task_s in DURATIONS_S:
        workers, wall = model.workers_at_wall(costs, task_s, NETWORK_TRIP_S)
        print(
            f"{task_s:10g} {workers:9.0f}  {wall} ({model.walls(costs, model.Setting(1, task_s, NETWORK_TRIP_S))[wall]:.0f} tasks/s)"
        )
    for pools, servers in ((4, 1), (16, 1), (16, 4)):
        limits = model.walls(costs, model.Setting(1, 1.0, NETWORK_TRIP_S, pools=pools, servers=servers))
        wall = min(("root", "server"), key=limits.__getitem__)
        print(
            f"{pools} pools on {servers} server{'s' * (servers > 1)}: {limits[wall]:.0f} tasks/s, the wall is the {wall}"
        )
    return table


def draw(found: dict[str, Any], table: list[dict[str, float]], path: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    costs = model.Costs(**found["costs"])
    figure, (growth, check, walls) = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    for name, x, key, of in (
        ("beside idle workers", "idle", "tasks/s", -1),
        ("clients (the server's time)", "clients", "server s an operation", 1),
        ("items in a map", "items", "s an item", 1),
    ):
        points = found[x]
        growth.plot(
            [p[x] for p in points], [(p[key] / points[0][key]) ** of for p in points], "o-", label=name
        )
    growth.axhline(1.2, color="black", linewidth=1)
    growth.set(
        xscale="log",
        ylim=(0, 2),
        title="what one costs, beside the first",
        xlabel="idle workers, clients, items",
    )
    growth.legend()
    for task_s in sorted({p["task s"] for p in table}):
        points = [p for p in table if p["task s"] == task_s]
        workers = [p["workers"] for p in points]
        [line] = check.plot(workers, [p["tasks/s"] for p in points], "o", label=f"{1e3 * task_s:g} ms a task")
        check.plot(workers, [p["simulated"] for p in points], "--", color=line.get_color())
        check.plot(workers, [p["model"] for p in points], "-", color=line.get_color(), linewidth=0.7)
    check.set(
        xscale="log", yscale="log", xlabel="workers", title="tasks/s here: measured, simulated (--), model"
    )
    check.legend()
    counts = sorted({round(10 ** (n / 10)) for n in range(61)})
    for task_s in DURATIONS_S:
        rates = [model.rate(costs, model.Setting(n, task_s, NETWORK_TRIP_S)) for n in counts]
        walls.plot(counts, rates, label=f"{task_s:g} s a task")
    for name, align in (("root", "top"), ("server", "bottom")):
        limit = model.walls(costs, model.Setting(1, 1.0, NETWORK_TRIP_S))[name]
        walls.axhline(limit, color="black", linewidth=1, linestyle=":")
        walls.annotate(name, (counts[0], limit), va=align)
    walls.set(
        xscale="log",
        yscale="log",
        xlabel="workers, each with a core",
        title="tasks/s of one pool on one server: model",
    )
    walls.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--png", metavar="FILE")
    parser.add_argument("--from", metavar="FILE", dest="source")
    options = parser.parse_args()
    found = json.loads(Path(options.source).read_text()) if options.source else measure()
    table = report(found)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    if options.png:
        draw(found, table, options.png)


if __name__ == "__main__":
    main()
