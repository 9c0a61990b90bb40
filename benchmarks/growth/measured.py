"""Growth, on this machine: more idle workers, more clients, more items; and what a task costs each of the three who handle it."""

from __future__ import annotations

import re
import resource
import shutil
import statistics
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from rows import check, wire
from rows.pools import same

import cloudpool
from cloudpool.host import session as sessions
from growth.model import Costs


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def said_by_server(part: str) -> dict[str, str]:
    with closing(sessions.current().dial()) as store:
        lines: list[str] = store.call("INFO", part).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def server_s() -> float:
    """Processor time of the session's server so far."""
    said = said_by_server("cpu")
    return float(said["used_cpu_sys"]) + float(said["used_cpu_user"])


def root_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def workers_s(pool: Any) -> float:
    """Processor time of all threads of a pool's workers so far."""
    files = [f for p in pool._pool for f in Path(f"/proc/{p.pid}/task").glob("*/schedstat")]
    return sum(int(f.read_text().split()[0]) for f in files) / 1e9


def wait_for_blocked(count: int) -> None:
    """Until so many clients wait for something in the server."""
    while int(said_by_server("clients")["blocked_clients"]) < count:
        time.sleep(0.05)


# -- growth -------------------------------------------------------------------------------------------------------------


def idle(counts: list[int]) -> list[dict[str, float]]:
    """A pool of two at work beside so many workers that wait: tasks a second, and seconds of one task and back."""
    found = []
    for count in counts:
        with cloudpool.Pool(count) as waiting, cloudpool.Pool(2) as pool:
            check(pool.map(same, range(100)) == list(range(100)))
            wait_for_blocked(count + 2)
            taken = []
            for i in range(3000):
                began = time.perf_counter()
                check(pool.apply(same, (i,)) == i)
                taken.append(time.perf_counter() - began)
            rates = []
            for _ in range(5):
                began = time.perf_counter()
                check(sorted(pool.imap_unordered(same, range(5000))) == list(range(5000)))
                rates.append(5000 / (time.perf_counter() - began))
        waiting.join()
        taken.sort()
        found.append(
            {
                "idle": count, "tasks/s": statistics.median(rates),
                "median s": taken[len(taken) // 2], "p99 s": taken[len(taken) * 99 // 100],
            }
        )  # fmt: skip
        print(
            "  {idle:5} idle  {tasks/s:8.0f} tasks/s  {median s:.6f} s  p99 {p99 s:.6f} s".format(
                **found[-1]
            ),
            flush=True,
        )
    return found


def pairs(lock: Any, count: int, go: Any, times: Any) -> None:
    for _ in range(100):
        with lock:
            pass
    go.wait()
    began = time.perf_counter()
    for _ in range(count):
        with lock:
            pass
    times.put((began, time.perf_counter()))


def clients(counts: list[int], each: int = 10_000) -> list[dict[str, float | None]]:
    """So many processes, each with a lock of its own: operations a second, and what the server's own benchmark reaches."""
    found: list[dict[str, float | None]] = []
    for count in counts:
        go, times = cloudpool.Event(), cloudpool.Queue()
        processes = [
            cloudpool.Process(target=pairs, args=(cloudpool.Lock(), each, go, times)) for _ in range(count)
        ]
        for process in processes:
            process.start()
        wait_for_blocked(count)
        before = server_s()
        go.set()
        spans = [times.get() for _ in processes]
        for process in processes:
            process.join()
        seconds = max(end for _, end in spans) - min(began for began, _ in spans)
        said = {
            "clients": count,
            "operations/s": 2 * each * count / seconds,
            "server s an operation": (server_s() - before) / (2 * each * count),
            "ceiling": ceiling(count),
        }
        found.append(said)
        print(
            "  {clients:5} clients  {operations/s:8.0f} operations/s  {server s an operation:.2e} s of the server each  "
            "ceiling {ceiling}".format(**said),
            flush=True,
        )
    return found


def ceiling(count: int) -> float | None:
    """What redis-benchmark's SET reaches with so many clients, on a server of its own; None where there is no such program."""
    program = shutil.which("valkey-benchmark") or shutil.which("redis-benchmark")
    if program is None:
        return None
    with wire.server() as path:
        command = [program, "-s", path, "-c", str(count), "-n", "200000", "-t", "set", "--csv"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    numbers = re.search(r'"SET","([\d.]+)"', said)
    return float(numbers[1]) if numbers else None


def items(counts: list[int]) -> list[dict[str, float]]:
    """Maps of so many small items over a pool of two: seconds an item."""
    found = []
    with cloudpool.Pool(2) as pool:
        pool.map(same, range(100))
        for count in counts:
            taken, expected = [], list(range(count))
            for _ in range(9 if count < 100_000 else 3):
                began = time.perf_counter()
                answer = pool.map(same, range(count))
                taken.append((time.perf_counter() - began) / count)
                check(answer == expected)
            found.append({"items": count, "s an item": statistics.median(taken)})
            print("  {items:8} items  {s an item:.3e} s an item".format(**found[-1]), flush=True)
    pool.join()
    return found


# -- what a task costs ----------------------------------------------------------------------------------------------------


def hold(gate: Any, begun: Any) -> None:
    begun.set()
    gate.wait()


def costs(payload: int = 0, count: int = 10_000) -> Costs:
    """Of tasks with so many bytes: put into the line while the one worker is held, and then done."""
    gate, begun = cloudpool.Event(), cloudpool.Event()
    argument = b"x" * payload
    with cloudpool.Pool(1) as pool:
        pool.map(same, range(1000), chunksize=1)
        held = pool.apply_async(hold, (gate, begun))
        begun.wait()
        looks = [(root_s(), server_s(), workers_s(pool))]
        result = pool.map_async(len, [argument] * count, chunksize=1)
        check(pool._taskqueue.qsize() == count)
        looks.append((root_s(), server_s(), workers_s(pool)))
        gate.set()
        held.get()
        check(result.get() == [payload] * count)
        looks.append((root_s(), server_s(), workers_s(pool)))
    pool.join()
    put, done = ([(b - a) / count for a, b in zip(*pair, strict=True)] for pair in (looks[:2], looks[1:]))
    return Costs(root_put=put[0], server_put=put[1], root_take=done[0], server_done=done[1], worker=done[2])


def trip_s() -> float:
    """One trip of cloudpool's to the server."""
    lock = cloudpool.Lock()
    taken = []
    for _ in range(3000):
        began = time.perf_counter()
        lock.acquire()
        lock.release()
        taken.append((time.perf_counter() - began) / 2)
    return statistics.median(taken)


def naps(points: list[tuple[int, float]], seconds: float = 2.0) -> list[dict[str, float]]:
    """Tasks that only wait, so that this machine's cores are left to what hands them out: tasks a second."""
    found = []
    for workers, task_s in points:
        count = max(200, round(seconds * min(workers / task_s, 5000)))
        with cloudpool.Pool(workers) as pool:
            pool.map(same, range(workers), chunksize=1)
            wait_for_blocked(workers)
            began = time.perf_counter()
            check(pool.map(nap, [task_s] * count, chunksize=1) == [task_s] * count)
            rate = count / (time.perf_counter() - began)
        pool.join()
        found.append({"workers": workers, "task s": task_s, "tasks": count, "tasks/s": rate})
        print(
            "  {workers:5} workers  {task s:g} s a task  {tasks/s:8.0f} tasks/s".format(**found[-1]),
            flush=True,
        )
    return found
