"""The command that measures CPython's suite: what it keeps, and what it fails on. The suite itself is run by .ci/run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import table

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"

# In the place of the suite: it passes as many tests as the file beside it says, and misses one.
SUITE = """
import json, pathlib, sys
report = {"totals": {"pass": int(pathlib.Path(__file__).with_name("passes").read_text()), "applicable": 9}, "wall": 1.0,
          "tests": [{"area": "Lock", "cls": "TestLock", "method": "test_lock", "status": "fail", "msg": "why"}]}
pathlib.Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(report))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the command reads and writes, with floors of 5."""
    for path in (Path(table.__file__), table.PAGE):
        copy = tmp_path / path.relative_to(table.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    keys = [f"{python}-{method}" for python in table.PYTHONS for method in table.METHODS]
    table.save(tmp_path / "tests/conformance/floors.json", dict.fromkeys(keys, 5))
    stdlib = {"passes": 9, "applicable": 9, "skips": ["TestLock.test_other"]}
    table.save(tmp_path / "tests/conformance/stdlib.json", dict.fromkeys(keys, stdlib))
    (tmp_path / "conformance.py").write_text(SUITE, encoding="utf-8")
    return tmp_path


def run(project: Path, passes: int, *options: str) -> subprocess.CompletedProcess[str]:
    (project / "passes").write_text(str(passes), encoding="utf-8")
    command = [
        sys.executable,
        project / "tests/conformance/table.py",
        "--suite",
        project,
        "--python",
        sys.executable,
    ]
    return subprocess.run([*command, "--start-method", "fork", *options], capture_output=True, text=True)


def floor(project: Path) -> int:
    return table.load(project / "tests/conformance/floors.json")[f"{RUNNING}-fork"]


def test_the_table_in_the_documentation_is_that_of_the_floors():
    """What `tests/conformance/table.py --write` would put there."""
    shown = table.PAGE.read_text(encoding="utf-8").partition(table.BEGIN)[2].partition(table.END)[0]
    assert shown == table.markdown(table.load(table.FLOORS), table.load(table.STDLIB))


def test_fewer_passes_than_the_floor_fail_and_the_missed_test_is_named(project):
    done = run(project, 4, "--write")
    assert (done.returncode, done.stderr) == (1, "")
    assert "misses Lock:TestLock.test_lock (fail): 'why'" in done.stdout
    assert floor(project) == 5


def test_more_passes_raise_the_floor_and_the_figure_in_the_documentation(project):
    done = run(project, 7, "--write")
    assert (done.returncode, done.stderr) == (0, "")
    assert floor(project) == 7
    page = (project / "docs/compatibility.md").read_text(encoding="utf-8")
    assert f"| {RUNNING} | fork | 9 | 9 | 7 |" in page


def test_nothing_is_written_unasked(project):
    assert run(project, 7).returncode == 0
    assert floor(project) == 5


def test_without_the_suite_it_says_what_to_do(project):
    (project / "conformance.py").unlink()
    done = run(project, 5)
    assert done.returncode == 2
    assert "--suite FOLDER" in done.stderr


def test_a_sample_on_far_hosts_has_a_floor_of_its_own(project):
    done = run(project, 3, "--start-method", "docker", "--sample", "--write")
    assert (done.returncode, done.stderr) == (0, "")
    floors = table.load(project / "tests/conformance/floors.json")
    assert floors[f"{RUNNING}-docker-sample"] == 3
    assert floor(project) == 5
    done = run(project, 2, "--start-method", "docker", "--sample")
    assert done.returncode == 1
