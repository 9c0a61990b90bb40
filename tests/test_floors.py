"""Imports point down only (the floors of the design), late ones and those for types included."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cloudpool"

FLOORS = {  # what a file belongs to, by its first component below cloudpool/; None is the face: anything else at the top
    "errors": 1, "methods": 1, "seen": 1, "settings": 2, "serialize": 2, "sealing": 2, "chunking": 2, "store": 3, "host": 4, "sync": 5, "runners": 5,
    "context": 6,
}  # fmt: skip
FACE = 7

# Upwards, and why.
ALLOWED: dict[tuple[str, str], str] = {}
# On the same floor, between parts that do not know each other.
STRANGERS = [("sync", "runners"), ("chunking", "serialize"), ("chunking", "settings")]

FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """`cloudpool.store.keys` -> `store`; of the face its own name."""
    return module.split(".")[1] if "." in module else ""


def floor(part: str) -> int:
    return FLOORS.get(part, FACE)


def module_of(path: Path) -> str:
    parts = ("cloudpool", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def imports(path: Path) -> set[str]:
    """The modules of cloudpool that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if base.startswith("cloudpool") and is_module(full) else base)
    return {name for name in found if name.split(".")[0] == "cloudpool"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = module_of(path)
    part = part_of(own)
    upwards = {
        name for name in imports(path) if floor(part_of(name)) > floor(part) and (own, name) not in ALLOWED
    }
    assert upwards == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_parts_of_a_floor_that_do_not_know_each_other_do_not_meet(path):
    part = part_of(module_of(path))
    others = {b if part == a else a for a, b in STRANGERS if part in (a, b)}
    assert {name for name in imports(path) if part_of(name) in others} == set()


def test_there_is_no_exception_that_nothing_needs():
    for own, name in ALLOWED:
        assert name in imports(PACKAGE.parent.joinpath(*own.split(".")).with_suffix(".py"))


def test_modules_do_not_import_in_circles():
    """At import time, that is: outside of functions and of what only type checkers read."""
    graph = {module_of(path): at_import(path) for path in FILES}
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name in done:
            return
        for other in graph.get(name, ()):
            visit(other, [*way, name])
        done.add(name)

    for name in graph:
        visit(name, [])


def at_import(path: Path) -> set[str]:
    found: set[str] = set()

    def walk(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                walk(node.orelse)
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found.add(full if is_module(full) else str(node.module))
            else:
                walk([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])

    walk(ast.parse(path.read_text(encoding="utf-8")).body)
    return {name for name in found if name.startswith("cloudpool") and name != "cloudpool"}
