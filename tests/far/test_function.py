"""The handler of a function, called as Lambda calls it: whatever goes wrong is in its answer, or it would be called again."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif("AWS_LAMBDA_RUNTIME_API" in os.environ, reason="this is a function")


class Context:
    aws_request_id, function_name, memory_limit_in_mb = "one", "name", "128"

    def get_remaining_time_in_millis(self) -> int:
        return 1000


def fail(*_: object) -> None:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize("call", ["fork", "pipe"])
def test_host_that_no_process_can_be_made_for_is_told_of(monkeypatch, call):
    from cloudpool import function
    from cloudpool.host import invocation

    monkeypatch.setattr(invocation, "_adopt_orphans", lambda: None)
    descriptors = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        answer = function.handle({"card": "", "number": 3}, Context())
    assert answer["number"] == 3
    assert os.strerror(errno.EAGAIN) in answer["said"]
    assert os.listdir("/proc/self/fd") == descriptors


def test_doctors_question_about_a_server_that_goes_away_is_answered(monkeypatch):
    from cloudpool import function
    from cloudpool.deploy import probe

    monkeypatch.setattr(probe, "trip_ms", fail)
    assert os.strerror(errno.EAGAIN) in function.handle({"probe": "redis://nowhere"}, Context())["error"]


def test_cold_start_imports_nothing_of_deploy():
    names = "[name for name in sys.modules if name.startswith('cloudpool.deploy')]"
    program = f"import sys, cloudpool.function; sys.exit(bool({names}))"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
