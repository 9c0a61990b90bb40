"""What the README and the documentation say is so."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudpool import settings
from cloudpool.host import agent
from cloudpool.store import keys

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cloudpool"
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
TIMEOUT_S = 60

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
# Where brackets are no links.
CODE = re.compile(r"^```.*?^```$|^    .*?$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"\b(\w+)(?:\.py\b|/)")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, content) of each fenced block."""
    return BLOCK.findall(text(page))


def table(page: Path, header: str) -> list[list[str]]:
    """The cells of the rows under a header, without backticks."""
    lines = text(page).splitlines()
    rows = []
    for line in lines[lines.index(header) + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line[1:-1].split("|")])
    return rows


def run(*args: str | Path, cwd: Path) -> str:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *map(str, args)], cwd=cwd, env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- the README -----------------------------------------------------------------------------------------------------


def test_the_readmes_two_commands_are_one_line_each_and_ci_runs_the_tests_one():
    setup = "    python3 -m venv .venv && .venv/bin/pip install -e "
    commands = [line for line in text(ROOT / "README.md").splitlines() if line.startswith(setup)]
    assert commands == [
        f"{setup}'.[examples]' && .venv/bin/python examples/stock_forecast.py",
        f"{setup}'.[test]' && .venv/bin/python -m pytest",
    ]
    # The same steps, with a variable for .venv, since there is one environment for each Python.
    ci = re.sub(r"\s+--?(?:quiet|q)\b|\"|timeout \S+ |--kill-after=\S+ ", "", text(ROOT / ".ci/run"))
    for step in ("-m venv $2", "$2/bin/pip install -e '.[test]'", "$1/bin/python -m pytest"):
        assert step in ci


def printing_blocks() -> Iterator[object]:
    """(program, output) of each python block of the README and the first steps; the next text block is what it prints."""
    for page in (ROOT / "README.md", DOCS / "getting-started.md", DOCS / "drop-in.md"):
        found = blocks(page)
        programs = [n for n, (language, _) in enumerate(found) if language == "python"]
        assert programs
        for n in programs:
            program = found[n][1]
            said = found[n + 1][1] if "print(" in program else ""
            yield pytest.param(program, said, id=f"{page.stem}-{n}")


@pytest.mark.parametrize(("program", "said"), list(printing_blocks()))
def test_each_program_prints_what_is_said(tmp_path, program, said):
    if "joblib" in program:
        pytest.importorskip("joblib")
    script = tmp_path / "script.py"
    script.write_text(program, encoding="utf-8")
    assert run(script, cwd=tmp_path) == said


def test_the_tour_is_printed_in_full():
    shown = [content for language, content in blocks(ROOT / "README.md") if language == "python"]
    assert text(ROOT / "examples/tour.py") in shown


def test_the_table_of_the_forecast_is_what_the_example_prints(tmp_path):
    """Its columns and the fitted ones' figures, which do not depend on the number of paths; those of 100,000 take long."""
    shown = next(content for _, content in blocks(ROOT / "README.md") if content.startswith("ticker"))
    printed = run(ROOT / "examples/stock_forecast.py", "--paths", "100", "--days", "40", cwd=tmp_path)
    fitted = [[line.split()[:4] for line in table.splitlines()[1:]] for table in (shown, printed)]
    assert fitted[0] == fitted[1]
    assert shown.splitlines()[0] == printed.splitlines()[0]


def test_the_line_of_pi_is_of_the_defaults():
    shown = next(content for _, content in blocks(ROOT / "README.md") if content.startswith("pi = "))
    assert re.fullmatch(r"pi = 3\.14\d{4}, error [+-]0\.000\d{3} \(15000000 samples, 10 processes\)\n", shown)


# -- all pages ------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    heads = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(CODE.sub("", text(page))):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            path = (page.parent / target).resolve() if target else page
            assert path.exists(), link
            assert not anchor or anchor in anchors(path), link


def test_every_page_of_the_documentation_can_be_reached_from_the_readme():
    reached, pending = set(), [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page not in reached:
            reached.add(page)
            links = [
                link.partition("#")[0] for link in LINK.findall(CODE.sub("", text(page))) if "://" not in link
            ]
            pending += [(page.parent / link).resolve() for link in links if link.endswith(".md")]
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`((?:tests|cloudpool|examples)/[\w/]+\.\w+)`", text(page)):
        assert (ROOT / name).exists(), name


TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
NAMES_OF_TESTS = {path.stem for path in TESTS} | {
    node.name
    for path in TESTS
    for node in ast.walk(ast.parse(text(path)))
    if isinstance(node, ast.FunctionDef)
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page):
    assert set(re.findall(r"`(test_\w+)(?:\.py)?`", text(page))) <= NAMES_OF_TESTS


def test_each_guarantee_names_a_test():
    rows = [
        line.strip("| ").split(" | ")
        for line in text(DOCS / "guarantees.md").splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) > 50
    unshown = [row for row in rows if row[-1] != "shown by" and not re.search(r"`(tests/|test_)\w+", row[-1])]
    assert unshown == []


# -- the floors -----------------------------------------------------------------------------------------------------


def floors() -> dict[str, int]:
    """Floor by module or folder, from the picture."""
    picture = next(content for _, content in blocks(DOCS / "architecture.md") if content.startswith("7  "))
    found: dict[str, int] = {}
    floor = 0
    for line in picture.splitlines():
        if number := re.match(r"\d", line):
            floor = int(number[0])
        for name in NAMED.findall(line):
            assert name not in found, f"{name} stands twice in the picture"
            found[name] = floor
    return found


def unit(path: Path) -> str:
    """The folder or module of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The units that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            package, *rest = node.module.split(".")
            if package == "cloudpool":
                yield from rest[:1] or (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, *rest = alias.name.split(".")
                if package == "cloudpool":
                    yield rest[0] if rest else "__init__"


def test_the_picture_of_the_floors_names_exactly_what_is_there():
    assert set(floors()) == {unit(path) for path in PACKAGE.rglob("*.py")}


def test_imports_point_down_only_and_sync_and_runners_never_meet():
    floor = floors()
    for path in PACKAGE.rglob("*.py"):
        importer = unit(path)
        for other in set(imported(path)) - {importer}:
            beside = floor[importer] == floor[other] == 7 or (importer, other) == ("serialize", "settings")
            assert floor[other] < floor[importer] or beside, f"{path.relative_to(ROOT)} imports {other}"


# -- tables ---------------------------------------------------------------------------------------------------------


def test_the_table_of_settings_is_the_settings():
    rows = table(DOCS / "settings.md", "| setting | environment | default | values | what it does |")
    defaults = settings.Settings({name: row.default for name, row in settings._ROWS.items()}, {})
    assert [row[:3] for row in rows] == [
        [name, settings.PREFIX + name.upper(), defaults.shown(name)] for name in settings.NAMES
    ]


def test_the_table_of_kinds_is_that_of_the_keys_and_says_which_are_reaped():
    rows = table(DOCS / "architecture.md", "| kind | what it is | a dead process's part in it |")
    assert [kind for kind, *_ in rows] == list(keys.PARTS)
    assert {kind for kind, _, part in rows if part} == set(agent.REAPED)
