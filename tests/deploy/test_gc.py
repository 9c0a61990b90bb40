"""What `gc` removes of an engine's things and of the storage's, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cloudpool import settings
from cloudpool.deploy import gc
from cloudpool.deploy.gc import Found
from cloudpool.errors import BlobStoreError, CloudpoolError


class Engine:
    """Things of sessions, and those that were removed."""

    def __init__(self) -> None:
        self.things: list[Found] = []
        self.removed: list[str] = []

    def has(self, session: str, what: str, *, hours: float = 0.5, is_active: bool = False) -> None:
        remove = lambda: self.removed.append(what)  # noqa: E731
        self.things.append(Found(session, what, timedelta(hours=hours), is_active, False, remove))

    def collect(self, session: str | None = None, *, is_all: bool = False) -> list[str]:
        return list(gc.collect("docker", settings.current(), timedelta(hours=24), session, is_all=is_all))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setitem(gc.ENGINES, "docker", lambda _: iter(engine.things))
    return engine


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Engine:
    storage = Engine()
    monkeypatch.setattr(gc, "_stored", lambda _: iter(storage.things))
    return storage


def test_storage_that_does_not_answer_keeps_nothing_of_an_engine(engine, monkeypatch):
    def refuse(_: Any) -> Iterator[Found]:
        raise BlobStoreError("the storage s3://bucket (blob_url) cannot be listed: forbidden")
        yield

    monkeypatch.setattr(gc, "_stored", refuse)
    engine.has("one", "a container")
    with pytest.raises(BlobStoreError, match="cannot be listed: forbidden"):
        engine.collect()
    assert engine.removed == ["a container"]


def test_what_runs_stays_unless_it_is_old_or_named(engine, storage):
    engine.has("alive", "its container", is_active=True)
    engine.has("alive", "its other container")
    engine.has("dead", "a container")
    engine.has("old", "an old container", hours=25, is_active=True)
    storage.has("alive", "its payloads")
    storage.has("dead", "payloads")
    storage.has("old", "old payloads", hours=25)
    engine.collect()
    assert (engine.removed, storage.removed) == (["a container", "an old container"], ["old payloads"])
    engine.collect("alive")
    assert engine.removed[2:] == ["its container", "its other container"]
    assert storage.removed[1:] == ["its payloads"]
    engine.collect(is_all=True)
    assert (len(engine.removed), len(storage.removed)) == (8, 5)
    with pytest.raises(CloudpoolError, match="there is nothing of a session none on docker"):
        engine.collect("none")
