"""os.kill of processes that are elsewhere."""

from __future__ import annotations

import os
import signal
import weakref

import pytest

from cloudpool.host import identity


class Far:
    def __init__(self) -> None:
        self.signals: list[int] = []

    def send(self, signalnum: int) -> None:
        self.signals.append(signalnum)


def test_signal_0_asks_and_is_not_sent() -> None:
    far, pid = Far(), identity.FIRST + 1
    identity.started(pid, weakref.WeakMethod(far.send))
    try:
        os.kill(pid, 0)
        os.kill(pid, signal.SIGTERM)
    finally:
        identity.ended(pid)
    assert far.signals == [signal.SIGTERM]


def test_a_parent_on_another_host_is_no_process_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_ppid", os.getppid())  # as if that were the number of a process elsewhere
    identity.kill(os.getppid(), 0)
    with pytest.raises(ProcessLookupError):
        identity.kill(os.getppid(), signal.SIGCONT)
