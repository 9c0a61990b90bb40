"""A host's side of packages that come from the root: importlib.metadata asks for them by name."""

from __future__ import annotations

import io
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from cloudpool.context.imports import Shipped


class Root:
    """The root's answers: it has a distribution "far-away". Each waits for `answers`."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.asked: list[str] = []
        self.refusal = ""

    def ask(self, about: str, *_: str) -> dict[str, Any]:
        self.asked.append(about)
        self.answers.wait(60)
        return {"error": self.refusal} if self.refusal else {"is_there": about == "metadata.far-away"}

    def content(self, _about: str) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("far_away-1.5.dist-info/METADATA", "Name: far-away\nVersion: 1.5\n")
        return content.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    root: Any = Root()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Shipped(root, str(tmp_path / "files"))])
    return root


def test_a_distribution_of_the_root_is_known_by_any_spelling_of_its_name(root: Root) -> None:
    assert [metadata.version(name) for name in ("far-away", "Far.Away", "far_away")] == ["1.5"] * 3
    assert root.asked == ["metadata.far-away"]


def test_threads_that_ask_at_once_all_get_the_answer(root: Root) -> None:
    root.answers.clear()
    with ThreadPoolExecutor(3) as threads:
        versions = [threads.submit(metadata.version, "far-away") for _ in range(3)]
        until(lambda: root.asked)
        root.answers.set()
        assert [version.result() for version in versions] == ["1.5"] * 3


def test_what_the_root_has_not_is_asked_for_once(root: Root) -> None:
    for _ in range(2):
        with pytest.raises(metadata.PackageNotFoundError):
            metadata.version("no-such")
    assert root.asked == ["metadata.no-such"]


def test_what_the_root_cannot_send_is_not_found_and_says_why(root: Root) -> None:
    root.refusal = "the storage is full"
    for _ in range(2):
        with pytest.raises(metadata.PackageNotFoundError) as caught:
            metadata.version("far-away")
        assert caught.value.__notes__ == ["the storage is full"]


def test_who_looks_into_a_folder_of_its_own_is_not_answered_by_the_root(root: Root) -> None:
    assert not list(metadata.distributions(name="far-away", path=["/nowhere"]))
    assert not [found for found in metadata.distributions() if found.metadata["Name"] == "far-away"]
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("x" * 300)
    assert root.asked == []
