"""What an image is built from: the wheel installs, and versions are those of here."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import cloudpool
from cloudpool.deploy import image


def command(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cloudpool", "image", *arguments], capture_output=True, text=True, **options
    )


def test_what_is_written_pins_what_is_installed_here_and_takes_these_files_along(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("pandas==2.2.0\n")
    folder = tmp_path / "image"
    done = command("--write-only", str(folder), "--requirements", str(own))
    assert (done.returncode, done.stderr) == (0, "")
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert f"redis=={metadata.version('redis')}" in lines
    assert f"cloudpickle=={metadata.version('cloudpickle')}" in lines
    assert lines[-1] == "pandas==2.2.0"
    (wheel,) = folder.glob("*.whl")
    assert lines[0] == f"./{wheel.name}"
    assert (
        f"FROM docker.io/library/python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
        in (folder / "Dockerfile").read_text()
    )


def test_the_wheel_installs_and_is_this_cloudpool(tmp_path):
    wheel = image.wheel(str(tmp_path))
    there = tmp_path / "there"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(there),
        wheel,
    ]
    subprocess.run(pip, check=True, capture_output=True)
    said = subprocess.run(
        [sys.executable, "-c", "import cloudpool; print(cloudpool.__version__, cloudpool.__file__)"],
        env={"PYTHONPATH": str(there)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.split() == [cloudpool.__version__, str(there / "cloudpool" / "__init__.py")]
    package = Path(cloudpool.__file__).parent
    here = {str(path.relative_to(package)) for path in package.rglob("*.lua")}
    assert here
    assert here == {str(path.relative_to(there / "cloudpool")) for path in there.rglob("*.lua")}


def test_without_a_builder_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = command()
    assert done.returncode == 1
    assert done.stderr == (
        "cloudpool: there is no docker, podman or buildah here to build an image with.\n"
        "Install one; or let --write-only write what it would be built from, and build that elsewhere.\n"
    )


def test_a_builder_that_fails_is_told_of(tmp_path, monkeypatch):
    builder = tmp_path / "buildah"
    builder.write_text("#!/bin/sh\necho no room; test -e $4/Dockerfile && exit 7\n")
    builder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    done = command("--builder", "buildah", "--tag", "x:1")
    assert (done.returncode, done.stdout) == (1, "no room\n")
    assert "buildah could not build the image x:1 (status 7)" in done.stderr
