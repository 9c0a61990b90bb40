"""Packages on their way to hosts that lack them."""

from __future__ import annotations

import io
import os
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from cloudpool.runners import packages


def test_files_from_before_1980_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ancient.py").write_text("x = 1")
    os.utime(tmp_path / "ancient.py", (0, 0))
    monkeypatch.syspath_prepend(str(tmp_path))
    data = packages.pack("ancient", packages.this_platform())
    assert data is not None
    assert zipfile.ZipFile(io.BytesIO(data)).namelist() == ["ancient.py"]


def test_metadata_of_a_distribution_is_found_where_its_files_are_not(tmp_path: Path) -> None:
    for name in ("pytest", "Pytest-Timeout"):
        data = packages.pack_metadata(name)
        assert data is not None
        zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
    there = {found.metadata["name"]: found for found in metadata.distributions(path=[str(tmp_path)])}
    assert set(there) == {"pytest", "pytest-timeout"}
    here = metadata.distribution("pytest")
    assert there["pytest"].version == here.version
    assert tuple(there["pytest"].entry_points) == tuple(here.entry_points)
    assert there["pytest"].requires == here.requires
    assert packages.pack_metadata("no-such-distribution") is None


@pytest.mark.parametrize("kind", ["a folder", "a file"])
def test_metadata_of_old_kinds_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    about, place = "Metadata-Version: 1.0\nName: aged\nVersion: 1.2\n", tmp_path / "aged-1.2.egg-info"
    if kind == "a folder":
        place.mkdir()
        (place / "PKG-INFO").write_text(about)
        (place / "requires.txt").write_text("six>=1.0\n")
    else:
        place.write_text(about)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = packages.pack_metadata("aged")
    assert data is not None
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path / "there")
    [there] = metadata.distributions(path=[str(tmp_path / "there")])
    assert there.version == "1.2"
    assert there.requires == metadata.distribution("aged").requires
    assert (there.requires == ["six>=1.0"]) == (kind == "a folder")
