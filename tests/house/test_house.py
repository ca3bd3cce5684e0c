"""The map of the house: which package may import which, how heavy an import is, and how long files and functions are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pfgm", "study", "analysis")
SCRIPTS = sorted(path for folder in ("benchmarks", "experiments") for path in (ROOT / folder).rglob("*.py"))
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    "pfgm": {"ray", "optuna", "pandas", "yaml", "study", "analysis"},
    "study": {"analysis"},
    "analysis": {"torch", "ray", "pfgm"},
}
SHARED = {"pfgm.terminal", "pfgm.registry"}
"""Modules of pfgm that every package may import: the standard library alone."""
MAX_FILE, MAX_FUNCTION = 350, 60


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import statement, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: import by the full name"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module in PACKAGES}
    return found


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Functions, methods and classes of a file, nested functions left out."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node
        if isinstance(node, ast.ClassDef):
            yield from (inner for inner in node.body if isinstance(inner, ast.FunctionDef))


def obvious(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """A function of one statement says what it is by its name; torch calls ``forward``, whose network is described."""
    return isinstance(node, ast.FunctionDef) and (len(node.body) == 1 or node.name == "forward")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    wrong = {m for m in imported(path) if m.split(".")[0] in FORBIDDEN[package] and m not in SHARED}
    if package == "study" and path.parent.name != "cluster":
        wrong |= {m for m in imported(path) if m.split(".")[0] == "ray"}
    if package == "analysis":
        wrong |= {m for m in imported(path) if m.split(".")[0] == "study" and not m.startswith("study.rows.")}
    assert not wrong


@pytest.mark.parametrize("module", ["pfgm", "study", "study.rows.records", "analysis"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE, f"{name(path)} has {lines} lines: give its second idea a file of its own"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            length = int(str(node.end_lineno)) - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{name(path)}:{node.lineno}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_text_files_name_their_encoding(path: Path) -> None:
    """Without one, a file is read and written in the locale's, which on another machine is another."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            keys = {keyword.arg for keyword in node.keywords}
            opened = isinstance(node.func, ast.Name) and node.func.id == "open"
            binary = opened and len(node.args) > 1 and "b'" in ast.unparse(node.args[1])
            text = called in ("read_text", "write_text") or "text" in keys or (opened and not binary)
            own = called == "" and len(node.args) == 2 and not opened  # study.rows.records.write_text is UTF-8
            assert not text or own or "encoding" in keys, f"{name(path)}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_public_names_are_described(path: Path) -> None:
    missing = [
        node.name
        for node in functions(path)
        if not node.name.startswith("_") and ast.get_docstring(node) is None and not obvious(node)
    ]
    assert not missing


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_opens_with_its_theory(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


STUBS = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("__init__.pyi"))


@pytest.mark.parametrize("stub", STUBS, ids=name)
def test_no_public_name_is_that_of_a_module_beside_it(stub: Path) -> None:
    """Python puts a module, once imported, in the place of a name of its package."""
    own = ".".join(stub.parent.relative_to(ROOT).parts)
    nodes = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in nodes if node.module != own for alias in node.names}
    assert not names & {path.stem for path in stub.parent.iterdir()}
