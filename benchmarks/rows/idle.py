"""What processes cost that do nothing: processor time and memory, of them and of everything that was started for them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rows import beyond, check, joined, row, so_much, started, times

WATCHED_S = 8.0


def wait_for(kind: str, thing: Any, told: Any) -> None:
    told.put("ready")
    if kind == "queue":
        thing.get()
    elif kind == "lock":
        with thing:
            pass
    else:
        thing.wait()
    told.put("awake")


def _family(root: int) -> list[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
            children.setdefault(parent, []).append(int(entry.name))
    family, found = [root], 0
    while found < len(family):
        family += children.get(family[found], [])
        found += 1
    return family


def _cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int) -> float:
    """What it has alone, and its share of what it has with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no Pss")


@row(so_much(0.01), unit="cores")
def cores_of_20_blocked(mp: Any) -> float:
    queue, lock, event, told = mp.Queue(), mp.Lock(), mp.Event(), mp.Queue()
    lock.acquire()
    kinds = [("queue", queue), ("lock", lock), ("event", event)]
    processes = started(mp, wait_for, [(*kinds[i % 3], told) for i in range(20)])
    check([told.get() for _ in processes] == ["ready"] * 20)
    time.sleep(1)  # what starting costs is not what is asked
    family = _family(os.getpid())
    before = _cpu_s(family)
    time.sleep(WATCHED_S)
    used = (_cpu_s(family) - before) / WATCHED_S
    for _ in range(7):
        queue.put(None)
    lock.release()
    event.set()
    check([told.get() for _ in processes] == ["awake"] * 20)
    joined(processes)
    return used


def memory_mb(_: int) -> tuple[int, float]:
    time.sleep(0.2)  # each worker is asked: none takes both tasks
    return os.getpid(), _memory_mb(os.getpid())


@row(beyond(6.0), unit="MB")
def idle_worker(mp: Any) -> float:
    pool = mp.Pool(4)
    found = dict(pool.map(memory_mb, range(4), chunksize=1))
    pool.close()
    pool.join()
    return sum(found.values()) / len(found)


@row(times(1.5), unit="MB")
def root_with_1_000_000_queued(mp: Any) -> float:
    queue = mp.Queue()
    for i in range(1_000_000):
        queue.put(i)
    used = sum(_memory_mb(pid) for pid in _family(os.getpid()))
    check(queue.get() == 0)
    if hasattr(queue, "cancel_join_thread"):
        queue.cancel_join_thread()
    return used
