"""A process that is nobody's child takes part in the session of an object that it is given, and outlives it."""

import fcntl
import os
import pickle
import pickletools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloudpool.host import folder as folders

ROOT = str(Path(__file__).parents[2])

# Makes a manager's dict, says its pickle, and lives until its stdin ends.
OWNER = """
import pickle, sys, cloudpool
made = cloudpool.Manager().dict()
print(pickle.dumps(made).hex(), flush=True)
sys.stdin.read()
print(dict(made), flush=True)
"""

# Writes into each dict that it gets.
GUEST = """
import os, pickle, sys, cloudpool
for line in sys.stdin:
    try:
        pickle.loads(bytes.fromhex(line))[os.getpid()] = "here"
    except (cloudpool.errors.SessionLostError, ConnectionRefusedError) as error:
        print(str(error).splitlines()[0], flush=True)
    else:
        print("written", cloudpool.Lock().acquire(), flush=True)
"""


@pytest.fixture
def program():
    started = []

    def program(text, **environ):
        process = subprocess.Popen(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONPATH": ROOT, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        started.append(process)
        return process

    yield program
    for process in started:
        process.kill()
        process.communicate()


def answer(process, line):
    process.stdin.write(line)
    return process.stdout.readline()


@pytest.fixture(params=["embedded", "by URL"])
def server(request):
    if request.param == "embedded":
        return {}
    return {"CLOUDPOOL_REDIS_URL": request.getfixturevalue("tcp_server").url}


def test_guest_uses_objects_of_one_session_after_the_other(program, server):
    guest = program(GUEST)
    descriptors = []
    for _ in range(3):
        owner = program(OWNER, **server)
        assert answer(guest, owner.stdout.readline()) == "written True\n"
        assert owner.communicate()[0] == f"{{{guest.pid}: 'here'}}\n"
        descriptors.append(len(os.listdir(f"/proc/{guest.pid}/fd")))
    assert len(set(descriptors)) == 1


def test_guest_outlives_a_root_that_is_killed(program, server):
    owner, guest = program(OWNER, **server), program(GUEST)
    thing = owner.stdout.readline()
    assert answer(guest, thing) == "written True\n"
    folder = folders.find(pickle_says_session(thing))
    with open(Path(folder, folders.LOCK), "w") as lock:
        owner.kill()
        fcntl.flock(lock, fcntl.LOCK_EX)  # the agent has ended
    assert re.search("session .* is over|dict is gone", answer(guest, thing))
    assert guest.poll() is None


def pickle_says_session(thing):
    strings = (value for _, value, _ in pickletools.genops(bytes.fromhex(thing)) if isinstance(value, str))
    return next(value for value in strings if re.fullmatch("[0-9a-f]{12}", value))


def test_object_of_a_session_that_is_over_is_refused(program):
    owner, guest = program(OWNER), program(GUEST)
    thing = owner.stdout.readline()
    owner.communicate()
    assert "that session is over or elsewhere" in answer(guest, thing)


def test_root_of_a_session_is_no_guest(program):
    import cloudpool

    cloudpool.Lock()  # a session of its own
    thing = bytes.fromhex(program(OWNER).stdout.readline())
    with pytest.raises(cloudpool.errors.SessionLostError, match="came to a process outside of it"):
        pickle.loads(thing)
