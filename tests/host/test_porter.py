"""The way of large payloads into the session's bucket, by children of an agent: what fails on it, and what does not."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloudpool.host.parcels import Carrier
from cloudpool.host.porter import Porter
from cloudpool.store.bucket import Place
from cloudpool.store.keys import Keys

NAME, PAYLOAD = "blob.1.7.1", b"x" * 1000


class Trip:
    """A porter whose agent does nothing by itself."""

    def __init__(self, folder: Path, url: str) -> None:
        self.heard: dict[int, Any] = {}
        self.told: list[tuple[str, int, str]] = []
        agent: Any = SimpleNamespace(folder=str(folder), hear=self.heard.__setitem__, unhear=self.heard.pop)
        carrier = Carrier(Keys("session"), 0, None, Place(url))
        self.porter = Porter(agent, carrier, lambda *told: self.told.append(told))

    def upload(self) -> None:
        self.porter.upload(NAME, len(PAYLOAD))

    def end(self) -> None:
        """Wait for the child that was begun."""
        [ended] = self.heard.values()
        ended()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / NAME).write_bytes(PAYLOAD)
    return tmp_path


@pytest.mark.parametrize("call", ["fork", "pipe"])
def test_upload_that_cannot_begin_for_now_is_not_said_to_be_there_and_begins_when_it_is_asked_for_again(
    folder, monkeypatch, capsys, call
):
    def fail() -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    trip = Trip(folder, f"file://{folder}/storage")
    gc.collect()  # what earlier tests have left
    descriptors = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        trip.upload()
    assert not trip.told
    assert not trip.heard
    assert os.listdir("/proc/self/fd") == descriptors
    assert f"{NAME} cannot be put into the storage, trying again" in capsys.readouterr().err
    trip.upload()
    trip.end()
    assert trip.told == [(NAME, len(PAYLOAD), "")]
    assert (folder / "storage" / f"{NAME}.0").read_bytes() == PAYLOAD


def test_whoever_waits_for_what_no_storage_takes_is_told(folder, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no such place")

    trip = Trip(folder, f"file://{folder}/storage")
    monkeypatch.setattr("cloudpool.chunking.stores.locate", fail)
    trip.upload()
    [(name, size, why)] = trip.told
    assert (name, size) == (NAME, len(PAYLOAD))
    assert "cannot be used: no such place" in why
