"""Programs as their authors wrote them, on the stdlib and on cloudpool: the same output, the same end.

The last words of a program's first line say by which start methods it is to be run. TEST_ON=docker, or kubernetes, has the
processes of those that may be spawned in containers or pods, as the environment's settings say.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from needed import needed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRIPTS = sorted(HERE.glob("scripts/*.py"))
FAR = os.environ.get("TEST_ON", "")
ELSEWHERE = {"CLOUDPOOL_START_METHOD": FAR} if FAR else {}
TIMEOUT_S = 110 if FAR else 60


def start_methods(script):
    first_line = script.read_text().partition("\n")[0]
    return [word for word in re.split(r"\W+", first_line.rpartition(". ")[2]) if word in ("fork", "spawn")]


CASES = [
    (script, method) for script in SCRIPTS for method in start_methods(script) if not FAR or method == "spawn"
]


@pytest.fixture(params=CASES, ids=[f"{script.stem}-{method}" for script, method in CASES], scope="module")
def case(request):
    return request.param


def run(*args, **environ):
    """(status, stdout, whether anything was on stderr) of a Python program."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *map(str, args)],
        env={**os.environ, "PYTHONPATH": path, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        start_new_session=True,  # a program may send its process group what a terminal sends
    )
    print(done.stderr)
    return done.returncode, done.stdout, bool(done.stderr)


@pytest.fixture(scope="module")
def expected(case):
    """What the program does with the stdlib."""
    if "import numpy" in case[0].read_text():
        needed("numpy")
    return run(*arguments(case))


def arguments(case):
    """The script, and the start method where it is not the one that the program takes by itself."""
    script, method = case
    return [script] if method == "fork" else [script, method]


def test_program_prints_and_ends_as_ever_with_its_import_line_changed(case, expected, tmp_path):
    text = case[0].read_text()
    text = re.sub(
        r"^import multiprocessing\b(?!\.)(?! as)",
        "import cloudpool as multiprocessing",
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"^import multiprocessing as ", "import cloudpool as ", text, flags=re.MULTILINE)
    text = re.sub(r"^import multiprocessing\.pool$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^from multiprocessing\b", "from cloudpool", text, flags=re.MULTILINE)
    assert not re.search(r"^(import|from) multiprocessing", text, flags=re.MULTILINE)
    edited = tmp_path / case[0].name
    edited.write_text(text)
    assert run(edited, *arguments(case)[1:], **ELSEWHERE) == expected


def test_program_prints_and_ends_as_ever_unedited_under_run(case, expected, tcp_server):
    if case[1] == "fork":
        before = connections(tcp_server)
        environ = {"CLOUDPOOL_REDIS_URL": tcp_server.url}
        assert run("-m", "cloudpool", "run", *arguments(case), **environ) == expected
        assert connections(tcp_server) > before + 1, "the program has not used cloudpool"
    else:  # on the embedded server, which costs each of the many new interpreters less
        assert run("-m", "cloudpool", "run", *arguments(case), **ELSEWHERE) == expected


def connections(server):
    """How many connections the server has seen."""
    connection = server.connect()
    said = connection.call("INFO", "stats").decode()
    connection.close()
    return int(re.search(r"total_connections_received:(\d+)", said)[1])
