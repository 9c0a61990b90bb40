"""Run CPython's own suite on cloudpool, on each Python and start method, and print what passes beside what the stdlib passes.

    python tests/conformance/table.py [--python 3.12] [--start-method spawn] [--write]

    CLOUDPOOL_DOCKER_IMAGE=... python tests/conformance/table.py --python 3.11 --start-method docker [--sample]

Far start methods are measured as the settings in the environment have them; of the suite, that is what does not need one machine.
Fails when a combination passes fewer than its floor in floors.json. --write raises floors (it lowers none) and puts the table into
docs/compatibility.md. stdlib.json has what the stdlib itself passes and skips: --stdlib --write measures that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ROOT / "tests/conformance/floors.json"
STDLIB = ROOT / "tests/conformance/stdlib.json"
PAGE = ROOT / "docs/compatibility.md"
BEGIN, END = "<!-- tests/conformance/table.py --write -->\n", "<!-- end of the table -->\n"
HEADER = (
    "| Python | start method | applicable | the stdlib passes | cloudpool passes |\n|---|---|---|---|---|\n"
)

PYTHONS = ("3.11", "3.12", "3.13")
METHODS = ("fork", "spawn", "forkserver")
FAR = ("docker", "kubernetes", "lambda")
TOTAL_S = 480  # a combination takes one to two minutes on two cores
# What fails is run again, alone, and said. Before 3.13 the suite's own WithThreadsTestPool.test_terminate hangs when a thread
# of the stdlib's ThreadPool is fast enough to begin a task: the stdlib itself fails it in up to a third of its runs on a busy machine.
RETRIES = 3

# Of "Area:Class.method". Each class has a session of its own, and so its own server and hosts, which is what it costs.
SAMPLE = (
    r"WithProcessesTest(Queue|Lock|Value|Array|Connection|SharedCTypes)\."
    r"|WithProcessesTestPool\.test_(map$|map_async|imap|apply|starmap|terminate)"
    r"|WithProcessesTestProcess\.test_(process$|active_children|join|terminate|kill|sentinel|recursion)"
    r"|WithProcessesTest(Barrier\.test_(barrier|abort)$|Condition\.test_(notify|waitfor))"
)

# test.support asks whether the stdlib's own semaphores work where the suite is imported. In a function they do not, so what it
# asks is cloudpool too: as for an unedited program.
UNEDITED = "from cloudpool.install import install\n\ninstall()\n"

Json = dict[str, Any]


def load(path: Path) -> Json:
    return json.loads(path.read_text(encoding="utf-8"))


def save(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def markdown(floors: Json, stdlib: Json) -> str:
    """The table of all combinations, as it stands in the documentation."""
    return HEADER + "".join(
        f"| {python} | {method} | {known['applicable']} | {known['passes']} | {floors[key]} |\n"
        for python in PYTHONS
        for method in METHODS
        if (key := f"{python}-{method}") in floors and (known := stdlib[key])
    )


# -- the interpreters -----------------------------------------------------------------------------------------------


def version_of(python: str | Path) -> str | None:
    """Its "3.12", or None where it does not run: python3 may be any, and a pyenv shim that is not selected fails."""
    try:
        asked = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def find(version: str) -> str | None:
    """An interpreter of that version, on PATH or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = (f"python{version}", "python3", *map(str, pyenv.glob(f"versions/{version}.*/bin/python")))
    return next((path for path in candidates if version_of(path) == version), None)


def environment(version: str, work: Path) -> Path | None:
    """A Python of that version with what cloudpool needs: .ci/run's where CI_CACHE_DIR says, else one made for now."""
    cached = os.environ.get("CI_CACHE_DIR")
    python = Path(cached or work) / f"venv-{version}" / "bin" / "python"
    if not python.exists():
        if not (found := find(version)):
            return None
        subprocess.run([found, "-m", "venv", python.parent.parent], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-e", ROOT], check=True)
    return python


def interpreters(asked: list[str], work: Path) -> Iterator[tuple[str, str | Path]]:
    """(version, interpreter) of what was asked for: versions, or paths of interpreters."""
    for name in asked:
        if "/" in name:
            if not (version := version_of(name)):
                sys.exit(f"{name} does not run.")
            if version not in PYTHONS:
                sys.exit(f"{name} is Python {version}; the table is of {', '.join(PYTHONS)}.")
            yield version, name
        elif python := environment(name, work):
            yield name, python
        else:
            print(f"Python {name}: not here, left out", flush=True)


# -- the suite ------------------------------------------------------------------------------------------------------


def reference(skips: list[str], python: str, method: str) -> Json:
    """What the stdlib skips, as the suite reads it: a target that skips anything else misses it."""
    tests = [
        {"cls": cls, "method": test, "status": "skip"} for cls, test in (name.split(".") for name in skips)
    ]
    return {"python": f"{python}.x", "start_method": method, "tests": tests}


def measure(
    suite: Path,
    python: str | Path,
    method: str,
    target: str,
    known: Json | None,
    work: Path,
    sample: str = "",
) -> Json:
    """The suite's report. The suite itself kills a test that hangs, and gives up after TOTAL_S."""
    logs = Path(tempfile.mkdtemp(dir=work))  # one a run: the suite reads what it finds there
    report = logs / "report.json"
    command = [
        python, suite / "conformance.py", "--target", target, "--path", ROOT, "--start-method", method,
        "--jobs", "2", "--timeout", "60", "--retries", str(RETRIES), "--max-total", str(TOTAL_S), "--quiet", "--json", report,
        "--workdir", logs,
    ]  # fmt: skip
    if method in FAR:  # the shim is on PYTHONPATH, and so travels in the bundle
        command += ["--profile", "remote", "--shim-dir", logs / "shim"]
    if sample:
        command += ["-k", sample]
    if known:
        save(logs / "reference.json", known)
        command += ["--reference", logs / "reference.json"]
    environ = dict(os.environ)
    if method == "lambda":  # the shim goes on with this sitecustomize
        (logs / "sitecustomize.py").write_text(UNEDITED, encoding="utf-8")
        environ["PYTHONPATH"] = os.pathsep.join(map(str, (logs, ROOT)))
    done = subprocess.run(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if not report.exists():
        sys.exit(f"The suite left no report. The end of what it printed:\n{done.stdout[-3000:]}")
    return load(report)


def remarks(report: Json) -> Iterator[str]:
    """A line for each test that did not pass, or not at once."""
    for test in report["tests"]:
        name = f"{test['area']}:{test['cls']}.{test['method']}"
        if test["status"] not in ("pass", "skip", "excluded"):
            yield f"misses {name} ({test['status']}): {test['msg'][:160]!r}"
        elif test["status"] == "pass" and test["msg"]:
            yield f"{name} {test['msg'][:160]!r}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--suite",
        type=Path,
        default=ROOT.parent / "shared/conformance",
        help="the folder of conformance.py (%(default)s)",
    )
    parser.add_argument(
        "--python", action="append", metavar="3.12|PATH", help=f"default: {' '.join(PYTHONS)}"
    )
    parser.add_argument(
        "--start-method", action="append", choices=METHODS + FAR, help="default: the first three"
    )
    parser.add_argument(
        "--sample",
        action="store_const",
        const=SAMPLE,
        default="",
        help="some tests of each kind; their floor is apart",
    )
    parser.add_argument("--stdlib", action="store_true", help="measure the stdlib, not cloudpool")
    parser.add_argument(
        "--write", action="store_true", help="keep the figures, and the table in the documentation"
    )
    options = parser.parse_args()
    if not (options.suite / "conformance.py").exists():
        parser.exit(
            2,
            f"CPython's suite is run by conformance.py, which is not part of this repository and not in {options.suite}.\n"
            "Say where it is: --suite FOLDER.\n",
        )
    return options


def keep_of_the_stdlib(report: Json) -> Json:
    skips = sorted(f"{test['cls']}.{test['method']}" for test in report["tests"] if test["status"] == "skip")
    return {"passes": report["totals"]["pass"], "applicable": report["totals"]["applicable"], "skips": skips}


def write(floors: Json, stdlib: Json) -> None:
    save(FLOORS, floors)
    save(STDLIB, stdlib)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + markdown(floors, stdlib) + END + after, encoding="utf-8")


def main(options: argparse.Namespace, work: Path) -> bool:
    """Whether a combination is below its floor."""
    floors, stdlib = load(FLOORS), load(STDLIB)
    below = False
    print(HEADER, end="", flush=True)
    for python, interpreter in interpreters(options.python or list(PYTHONS), work):
        for method in options.start_method or METHODS:
            key = f"{python}-{method}" + ("-sample" if options.sample else "")
            at_home = stdlib.get(key, {"skips": [], "passes": "-"})  # of none that is far
            if options.stdlib:
                report = measure(options.suite, interpreter, method, "multiprocessing", None, work)
                stdlib[key] = keep_of_the_stdlib(report)
                passes = "-"
            else:
                skips = reference(at_home["skips"], python, method) if key in stdlib else None
                report = measure(options.suite, interpreter, method, "cloudpool", skips, work, options.sample)
                passes = report["totals"]["pass"]
            cells = (python, method, report["totals"]["applicable"], at_home["passes"], passes)
            print("|", " | ".join(map(str, cells)), f"|  {report['wall']:.0f} s", flush=True)
            for line in remarks(report):
                print(f"  {line}", flush=True)
            if not options.stdlib:
                floor = floors.get(key, 0)
                if passes != floor:
                    print(
                        f"  its floor is {floor}" + (", --write raises it" if passes > floor else ""),
                        flush=True,
                    )
                below = below or passes < floor
                floors[key] = max(passes, floor)
    if options.write:
        write(floors, stdlib)
    return below


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(arguments(), Path(folder)))
