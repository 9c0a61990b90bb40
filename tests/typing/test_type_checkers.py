"""What type checkers make of cloudpool is what they make of typeshed's multiprocessing.

Each of programs/ is checked as it is and with its imports changed to cloudpool's. Lines that must be found wrong end in
`# wrong`; nothing else may be. ours.py has what cloudpool adds. Besides, each public name that typeshed knows of each
module must have the same type in cloudpool's.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
VERSIONS = ["3.11", "3.13"]  # the oldest and the newest
STDLIB, CLOUDPOOL = "multiprocessing", "cloudpool"


class Finding(NamedTuple):
    line: int
    message: str


Findings = dict[str, list[Finding]]  # by the file's name


def need(module: str) -> None:
    """Skip at home, fail in CI, when it is not installed. The `test` extra has the checkers on one Python only."""
    if "CI" not in os.environ or sys.version_info >= (3, 12):
        pytest.importorskip(module)


def run(*command: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=110,
    )
    assert done.returncode in (0, 1), done.stderr or done.stdout  # 1: something was found
    return done.stdout


def run_mypy(folder: Path, version: str) -> Findings:
    output = run(
        "mypy",
        "--strict",
        "--config-file=",
        "--no-error-summary",
        f"--python-version={version}",
        ".",
        folder=folder,
    )
    found: Findings = {}
    for file, line, message in re.findall(r"^([^:\n]+):(\d+): (.*)$", output, flags=re.MULTILINE):
        found.setdefault(file, []).append(Finding(int(line), message))
    return found


def run_pyright(folder: Path, version: str) -> Findings:
    options = {"typeCheckingMode": "standard", "reportUnusedExpression": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))
    output = run(
        "pyright",
        f"--pythonversion={version}",
        f"--pythonpath={sys.executable}",
        "--outputjson",
        folder=folder,
    )
    found: Findings = {}
    for finding in json.loads(output)["generalDiagnostics"]:
        place = Finding(finding["range"]["start"]["line"] + 1, f"{finding['severity']}: {finding['message']}")
        found.setdefault(Path(finding["file"]).name, []).append(place)
    return found


CHECKERS = {"mypy": run_mypy, "pyright": run_pyright}


def on_cloudpool(text: str) -> str:
    text = re.sub(
        r"^import multiprocessing(\.\w+)*$", "import cloudpool as multiprocessing", text, flags=re.MULTILINE
    )
    return re.sub(r"^(import|from) multiprocessing\b", r"\1 cloudpool", text, flags=re.MULTILINE)


@pytest.fixture(
    scope="module", params=[(checker, version) for checker in CHECKERS for version in VERSIONS], ids="-".join
)
def findings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """What one checker says of all files, as for one version of Python."""
    checker, version = request.param
    need(checker)
    folder = tmp_path_factory.mktemp("programs")
    for program in PROGRAMS:
        text = program.read_text()
        (folder / f"{STDLIB}_{program.name}").write_text(text)
        (folder / f"{CLOUDPOOL}_{program.name}").write_text(on_cloudpool(text))
    for module, names in typeshed().items():
        for package in (STDLIB, CLOUDPOOL):
            lines = [f"import {package}{module} as it", *(f"reveal_type(it.{name})" for name in names)]
            (folder / f"{package}_names{module.replace('.', '_')}.py").write_text("\n".join(lines) + "\n")
    return CHECKERS[checker](folder, version)


def typeshed() -> dict[str, list[str]]:
    """The public names in typeshed's stub of each module of multiprocessing that cloudpool has, at its version of Python."""
    need("mypy")
    import mypy

    stubs = Path(mypy.__file__).parent / "typeshed/stdlib" / STDLIB
    modules = {}
    for stub in sorted(stubs.rglob("*.pyi")):
        parts = [part for part in stub.relative_to(stubs).with_suffix("").parts if part != "__init__"]
        module = "".join(f".{part}" for part in parts)
        if importlib.util.find_spec(CLOUDPOOL + module):
            ours = importlib.import_module(CLOUDPOOL + module)
            names = sorted(set(public_names(ast.parse(stub.read_text()).body)))
            modules[module] = [name for name in names if hasattr(ours, name)]
    return modules


def public_names(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case (
                ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name))
            ):
                names = [name]
            case ast.Assign(targets=[ast.Name(id=name)]):
                names = [name]
            case ast.ImportFrom(names=aliases):
                names = [alias.asname for alias in aliases if alias.asname]
            case ast.If(body=body, orelse=orelse):
                names = [*public_names(body), *public_names(orelse)]
            case _:
                names = []
        yield from (name for name in names if not name.startswith("_"))


# -- what is expected of them ---------------------------------------------------------------------------------------


def wrong_lines(program: Path) -> set[int]:
    lines = program.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


def packages(program: Path) -> list[str]:
    return [CLOUDPOOL] if program.stem == "ours" else [STDLIB, CLOUDPOOL]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_what_is_wrong_is_found_and_nothing_else(findings, program):
    for package in packages(program):
        found = findings.get(f"{package}_{program.name}", [])
        assert {finding.line for finding in found} == wrong_lines(program), (package, found)


def test_programs_have_every_public_name():
    text = "".join(program.read_text() for program in PROGRAMS if program.stem != "ours")
    assert [name for name in multiprocessing.__all__ if f"multiprocessing.{name}" not in text] == []


def as_stdlib(message: str) -> str:
    return message.replace("cloudpool.context.pool.Pool", "multiprocessing.pool.Pool").replace(
        CLOUDPOOL, STDLIB
    )


@pytest.mark.parametrize("module", typeshed(), ids=lambda module: STDLIB + module)
def test_public_names_have_the_types_that_typeshed_knows(findings, module):
    name = f"names{module.replace('.', '_')}.py"
    theirs, ours = (findings.get(f"{package}_{name}", []) for package in (STDLIB, CLOUDPOOL))
    assert len(theirs) >= len(typeshed()[module])
    assert [(line, as_stdlib(message)) for line, message in ours] == theirs
