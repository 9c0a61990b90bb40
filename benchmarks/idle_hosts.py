"""What idle far hosts cost the session's server and the root's agent: real agents of hosts, forked from one process, that have
nothing to do.

    python benchmarks/idle_hosts.py [--hosts 0 100 300 1000] [--seconds 60] [--url redis://...]

A session's keys on a server of one's own (--url) are renewed every 200 s: measure for longer than that to have it counted.
Each agent is the one that `python -m cloudpool host` runs, with its own connections, folder and life; this program is their fleet.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import cloudpool
from cloudpool.host import folder as folders, session as sessions
from cloudpool.host.card import Card, python
from cloudpool.host.inbox import Inbox, Post, fleet_id, host_id
from cloudpool.settings import ServerUrl
from cloudpool.store.wire import Connection, open_unix, open_url

METHOD = "idle"
TICK = os.sysconf("SC_CLK_TCK")


def fork_hosts(count: int, first: int, folder: str) -> None:
    """What the program that `Hosts` starts does: forked from one that has imported all, hosts share what does not differ."""
    from cloudpool.host import container, far  # noqa: F401 - imported before the forks

    with suppress(ImportError):  # needed for a server of one's own
        import cloudpool.sealing  # noqa: F401 - likewise
    card = sys.stdin.buffer.readline()
    for number in range(first, first + count):
        if os.fork() == 0:
            reader, writer = os.pipe()
            os.write(writer, card)
            os.dup2(reader, 0)
            sys.stdin = open(0)  # noqa: SIM115 - as an interpreter has it
            os._exit(container.main("-", number, folder, lambda *_: 0, ()))
    for _ in range(count):
        os.wait()


class Hosts:
    """The fleet of all that were forked: it tells the root's agent of each that is up."""

    def __init__(self, connect) -> None:
        self._info = info = sessions.current().info
        self._home = int(sessions.current().process.partition(".")[0])
        self._store = connect()
        self._post = Post(sessions.current().keys, sessions.current().ttl_ms, sessions.current().sealer)
        self._inbox = Inbox(fleet_id(METHOD), self._post, connect, self._post.keys.client(f"fleet.{METHOD}"))
        url = ServerUrl(info.redis_url or "")
        self._card = Card(
            info.id, url, info.key, info.lease_s, info.durable, 60.0, self._home, METHOD, python()
        )
        self.pids: list[int] = []
        self.count = 0

    def grow(self, count: int) -> None:
        if count == self.count:
            return
        numbers = [str(count - self.count), str(self.count)]
        command = [sys.executable, __file__, "--fork", *numbers, self._info.folder]
        mother = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert mother.stdin is not None
        mother.stdin.write(self._card.encode())
        mother.stdin.close()
        while self.count < count:
            for op, *rest in self._inbox.read():
                if op == "up":
                    letter = ("host", rest[0], METHOD)
                    self._store.call(*self._post.command(host_id(self._home), letter))
                    self.count += 1
        self.pids += map(int, Path(f"/proc/{mother.pid}/task/{mother.pid}/children").read_text().split())


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def own_memory(pid: int) -> int:
    """Bytes of it that no other process has, too."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def said(store: Connection) -> dict[str, str]:
    lines = [
        store.call("INFO", part).decode() for part in ("commandstats", "cpu", "memory", "clients", "stats")
    ]
    return dict(line.split(":", 1) for line in "\n".join(lines).splitlines() if ":" in line)


def calls(found: dict[str, str]) -> dict[str, int]:
    return {
        name.removeprefix("cmdstat_"): int(text.partition("calls=")[2].partition(",")[0])
        for name, text in found.items()
        if name.startswith("cmdstat_")
    }


def measure(store: Connection, agent: int, hosts: Hosts, seconds: float) -> dict[str, float]:
    """Figures a second, between two looks."""
    before, agent_before, began = said(store), cpu_s(agent), time.monotonic()
    hosts_before = sum(map(cpu_s, hosts.pids))
    time.sleep(seconds)  # what is measured
    after, passed = said(store), time.monotonic() - began
    cpu = sum(float(after[n]) - float(before[n]) for n in ("used_cpu_sys", "used_cpu_user"))
    was = calls(before)
    found = {name: n - was.get(name, 0) for name, n in calls(after).items() if name != "info"}
    top = ", ".join(
        f"{n} {c / passed:.1f}" for n, c in sorted(found.items(), key=lambda x: -x[1]) if c / passed >= 0.05
    )
    print(f"  commands a second: {top or 'none'}")
    return {
        "commands/s": sum(found.values()) / passed,
        "server, % of a core": 100 * cpu / passed,
        "server, MiB": int(after["used_memory"]) / 2**20,
        "connections": int(after["connected_clients"]),
        "received KiB/s": (int(after["total_net_input_bytes"]) - int(before["total_net_input_bytes"]))
        / 1024
        / passed,
        "sent KiB/s": (int(after["total_net_output_bytes"]) - int(before["total_net_output_bytes"]))
        / 1024
        / passed,
        "root's agent, % of a core": 100 * (cpu_s(agent) - agent_before) / passed,
        "all hosts' agents, % of a core": 100 * (sum(map(cpu_s, hosts.pids)) - hosts_before) / passed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, nargs="+", default=[0, 100, 300, 1000])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--url", help="a server of your own, instead of the session's")
    parser.add_argument("--fork", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fork:
        fork_hosts(int(options.fork[0]), int(options.fork[1]), options.fork[2])
        return
    if options.url:
        os.environ["CLOUDPOOL_REDIS_URL"] = options.url
    session = sessions.current()
    lock = cloudpool.Lock()
    with lock:
        pass

    def connect() -> Connection:
        if session.info.redis_url:
            return open_url(session.info.redis_url)
        return open_unix(os.path.join(session.info.folder, folders.SERVER_SOCKET))

    # The root's agent has to do with other hosts from the first handle that goes to one on.
    session._tell("take", "launch.0", [])
    hosts = Hosts(connect)
    agent = int.from_bytes(session._agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
    rows = {}
    with closing(connect()) as store:
        for count in options.hosts:
            hosts.grow(count)
            print(f"{count} hosts", flush=True)
            time.sleep(5)  # the last of them have come to rest
            rows[count] = measure(store, agent, hosts, options.seconds)
    if hosts.pids:
        some = hosts.pids[:: max(1, len(hosts.pids) // 20)]
        print(
            f"one host's agent, beyond what forks share: {sum(map(own_memory, some)) / len(some) / 2**20:.1f} MiB"
        )
    print()
    print("| hosts | " + " | ".join(next(iter(rows.values()))) + " |")
    print("|" + "---|" * (1 + len(next(iter(rows.values())))))
    for count, figures in rows.items():
        print(f"| {count} | " + " | ".join(f"{value:.1f}" for value in figures.values()) + " |")


if __name__ == "__main__":
    main()
