"""An agent may have as many descriptors as the kernel lets it; the processes that it starts, as many as without it."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import socket
import subprocess
import sys
from multiprocessing.synchronize import Lock

import pytest

import cloudpool
from cloudpool.host import session as sessions

PROGRAM = """
import os, resource
from cloudpool.host import descriptors

soft, hard = 64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
descriptors.raise_limit()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
descriptors.restore_limit()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
"""


def test_the_limit_is_raised_and_restored() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=30)


def take(lock: Lock, go: int) -> None:
    os.read(go, 1)
    try:
        with lock:
            pass
    except OSError as error:
        os._exit(error.errno or 1)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_process_that_an_agent_has_no_descriptor_for_is_refused_alone(server: str, left: int) -> None:
    """None for what tells of its birth, none for its connection, none for what tells of its end."""
    fork = cloudpool.get_context("fork")
    lock = fork.Lock()
    mine = sessions.current()
    assert mine._agent is not None
    agent = int.from_bytes(mine._agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
    mine._ask("settle")
    taken = {int(fd) for fd in os.listdir(f"/proc/{agent}/fd")}
    free = (number for number in itertools.count() if number not in taken)
    before = resource.prlimit(agent, resource.RLIMIT_NOFILE)
    (go, tell), (go_2, tell_2) = os.pipe(), os.pipe()
    refused, welcome = (fork.Process(target=take, args=(lock, fd)) for fd in (go, go_2))
    resource.prlimit(agent, resource.RLIMIT_NOFILE, (next(itertools.islice(free, left, None)), before[1]))
    try:
        refused.start()
        mine._ask("settle")  # its birth is heard of
        os.write(tell, b"g")
        refused.join(30)
    finally:
        resource.prlimit(agent, resource.RLIMIT_NOFILE, before)
    assert refused.exitcode == errno.EMFILE
    welcome.start()
    os.write(tell_2, b"g")
    welcome.join(30)
    assert welcome.exitcode == 0
    for fd in (go, tell, go_2, tell_2):
        os.close(fd)
