"""A runner as a third party would add one: hosts that are processes of this machine, each with a folder of its own.

The far side is the real one: agent, zygote, bundle, letters. Only what lies between an engine and its machine is missing.
TEST_REFUSE is what an engine might say instead of starting any, TEST_COMMAND what a host runs that never gets ready,
TEST_LIMIT_S has hosts be functions' that may run for so long, TEST_TWICE
delivers each of those twice, TEST_READY how many get ready before such ones, TEST_SUBREAPER has agents inherit orphans as a
container's first process does, TEST_OWN_DISK has them see no folder of the root's, TEST_HOST_URL how hosts reach the server, when that is not the root's way.
"""

import contextlib
import ctypes
import os
import subprocess
import sys

from cloudpool.errors import RunnerError
from cloudpool.host.card import Card
from cloudpool.runners.runner import COMMAND
from cloudpool.settings import ServerUrl

PR_SET_CHILD_SUBREAPER = 36
FUNCTION = os.path.join(os.path.dirname(__file__), "function_runtime.py")


def _reap_all():
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class SubprocessRunner:
    server = None

    @staticmethod
    def room(settings):  # noqa: ARG004 - it looks elsewhere
        return int(os.environ.get("TEST_HOSTS", "2")), int(os.environ.get("TEST_SLOTS", "2"))

    @staticmethod
    def shares_loopback(settings):  # noqa: ARG004 - all of them are here
        return True

    @staticmethod
    def shares_folder(settings, path):  # noqa: ARG004 - it looks elsewhere
        return "TEST_OWN_DISK" not in os.environ

    def __init__(self, order):
        if url := os.environ.get("TEST_HOST_URL"):
            card = Card.decode(order.card)._replace(url=ServerUrl(url))
            order = order._replace(card=card.encode())
        self._order = order
        self._hosts = {}
        self._others = []
        self._ready = int(os.environ.get("TEST_READY", "0"))

    def start(self, numbers):
        if refusal := os.environ.get("TEST_REFUSE"):
            raise RunnerError(refusal)
        for number in numbers:
            command = [sys.executable, *COMMAND[1:], "--card", "-", "--number", str(number)]
            if self._order.folder:
                command += ["--folder", self._order.folder]
            self._ready -= 1
            if self._ready < 0 and (other := os.environ.get("TEST_COMMAND")):
                command = other.split()
            if limit_s := os.environ.get("TEST_LIMIT_S"):
                command = [sys.executable, FUNCTION, limit_s, str(number)]
                if os.environ.get("TEST_TWICE"):
                    other = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
                    other.stdin.write(self._order.card)
                    other.stdin.close()
                    self._others.append(other)
            reaps = _reap_all if os.environ.get("TEST_SUBREAPER") else None
            host = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=reaps,  # noqa: PLW1509 - the fleet has one thread
            )
            with contextlib.suppress(BrokenPipeError):
                host.stdin.write(self._order.card)
                host.stdin.close()
            self._hosts[number] = host

    def states(self):
        if self._others:
            return {}  # of two by one number, one goes at once
        ended = {number: host.poll() for number, host in self._hosts.items()}
        return {number: f"it ended with status {code}" for number, code in ended.items() if code is not None}

    def waiting(self):
        return ""

    def stop(self, numbers):
        for number in numbers:
            host = self._hosts.pop(number, None)
            if host is not None:
                host.terminate()
                try:
                    host.wait(5)
                except subprocess.TimeoutExpired:
                    host.kill()
                    host.wait()

    def close(self):
        self.stop(list(self._hosts))
        for other in self._others:
            other.wait(10)
