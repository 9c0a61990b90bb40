"""Hosts and programs as the kernel knows them: found by a mark in their environment, killed, stopped, looked after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from cloudpool.host import folder as folders

# What is the same on each Python, and takes long.
once = pytest.mark.skipif(sys.version_info >= (3, 12), reason="once is enough, on the oldest Python")


def owned(mark: str) -> dict[int, str]:
    """The processes in whose environment the mark is, and how each was called."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with suppress(OSError):
            if mark.encode() in Path(f"/proc/{entry}/environ").read_bytes():
                command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command:  # else it is a zombie
                    found[int(entry)] = command
    return found


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _folders_of(agent: int) -> set[str]:
    """The folders of an agent: it has the lock of one open, and the files that came with processes have their own."""
    folder, fds = "", []
    with suppress(OSError):  # it has ended just now, and taken its folders away
        fds = os.listdir(f"/proc/{agent}/fd")
    for fd in fds:
        with suppress(OSError):
            path = os.readlink(f"/proc/{agent}/fd/{fd}")
            if os.path.basename(path) == folders.LOCK:
                folder = os.path.dirname(path)
    return {folder, folders.files(folder)} if folder else set()


class Hosts:
    """The hosts' processes as the kernel knows them, of one session or of one program."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.folders: set[str] = set()  # of agents that were seen, and must not be left behind

    def all(self) -> dict[int, str]:
        """Agents, fleets, zygotes and users' processes: not the servers of tests."""
        found = owned(self.mark).items()
        return {
            pid: said for pid, said in found if "proxy.py" not in said and "-server" not in said.split()[0]
        }

    def agents(self) -> list[int]:
        """The agents of far hosts, in the order of their start: each host's first process."""
        said = self.all()
        hosts = [pid for pid, command in said.items() if "cloudpool host" in command]
        agents = sorted(pid for pid in hosts if not any(pid in children(other) for other in hosts))
        for pid in agents:
            self.folders |= _folders_of(pid)
        return agents

    def fleet(self) -> int:
        [pid] = [pid for pid, command in self.all().items() if "runners.fleet" in command]
        return pid

    def home_agent(self) -> int:
        [pid] = [pid for pid, command in self.all().items() if "cloudpool.host.boot" in command]
        self.folders |= _folders_of(pid)
        return pid

    def of(self, kernels_pid: int) -> int:
        """The host that this process is on."""
        [agent] = [agent for agent in self.agents() if kernels_pid in descendants(agent)]
        return agent

    def zygote(self, agent: int) -> int:
        [pid] = children(agent)
        return pid

    def everything(self, agent: int) -> list[int]:
        return [agent, *descendants(agent)]

    def kill(self, agent: int) -> None:
        """A machine that loses its power."""
        pids = self.everything(agent)
        self.folders -= _folders_of(
            agent
        )  # an engine removes a container's; here the next session's agent does
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def stop(self, agent: int) -> list[int]:
        """A machine that is suspended. Its processes, to go on."""
        pids = self.everything(agent)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return pids

    def go_on(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Script:
    """A program of a user's, whose processes are on far hosts."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        mark = str(uuid.uuid4())
        self.hosts = Hosts(f"HOSTS_OF_PROGRAM={mark}")
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**environment, "HOSTS_OF_PROGRAM": mark}, start_new_session=True,
        )  # fmt: skip

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip("\n")
        assert line or self.process.poll() is None, self.process.communicate()[1]
        return line

    def end(self, told: str | None = None, timeout_s: float = 60.0) -> tuple[int, str, str]:
        """Its exit status, and what it said to stdout and stderr."""
        said, complained = self.process.communicate(told, timeout=timeout_s)
        return self.process.returncode, said, complained

    def clear(self) -> None:
        for pid in self.hosts.all():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()
