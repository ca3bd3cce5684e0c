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
MAX_FILE, MAX_SCRIPT, MAX_FUNCTION = 300, 350, 50
MAX_ROOMS, MAX_FILES, MAX_INNER_IMPORTS = 16, 12, 25
FLOORS = {"pfgm": 8, "study": 10, "analysis": 7}


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


@pytest.mark.parametrize(("module", "without"), [("study.cluster.board", "torch"), ("study.measure.trial", "scipy.integrate")])
def test_a_process_loads_what_it_works_with(module: str, without: str) -> None:
    """Ray's board of progress without torch; a worker without scipy.integrate, which only adaptive solvers need."""
    code = f"import sys, {module}; print({without!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_every_benchmark_can_be_imported() -> None:
    """No benchmark runs in the tests; what it imports may have moved."""
    modules = [name(path.with_suffix("")).replace("/", ".") for path in SCRIPTS if path.is_relative_to(ROOT / "benchmarks")]
    code = f"import importlib; [importlib.import_module(module) for module in {modules}]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    lines, most = len(path.read_text(encoding="utf-8").splitlines()), MAX_FILE if path in MODULES else MAX_SCRIPT
    assert lines <= most, f"{name(path)} has {lines} lines: give its second idea a file of its own"
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


def dotted(path: Path) -> str:
    """Return the module name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {dotted(path): path for path in MODULES}


def run_time_imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield every import below a node that runs, those inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from run_time_imports(child)


def own_imports(path: Path) -> set[str]:
    """Return the modules of this repository that a file imports when it runs."""
    found = set()
    for node in run_time_imports(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" if f"{node.module}.{name}" in KNOWN else str(node.module) for name in names]
        found |= {name for name in names if name in KNOWN}
    return found - {dotted(path)}


ARROWS = {module: own_imports(path) for module, path in KNOWN.items()}


def room(module: str) -> str:
    """Return the room of a module: its folder or file below the package."""
    return ".".join(module.split(".")[:2])


def room_arrows(package: str) -> dict[str, set[str]]:
    """Return which room of a package imports which other one."""
    found: dict[str, set[str]] = {}
    for module, imports in ARROWS.items():
        if module.startswith(package + "."):
            inside = {room(other) for other in imports if other.startswith(package + ".")}
            found.setdefault(room(module), set()).update(inside - {room(module)})
    return found


class Circle(Exception):
    """Nodes that import one another."""


def floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """Return how high each node stands above those that it imports.

    Raises:
        Circle: the nodes of a circle, in order.
    """
    height: dict[str, int] = {}

    def look(node: str, above: tuple[str, ...]) -> int:
        if node in above:
            raise Circle(" -> ".join([*above[above.index(node) :], node]))
        if node not in height:
            height[node] = 1 + max((look(other, (*above, node)) for other in arrows.get(node, ())), default=0)
        return height[node]

    for node in arrows:
        look(node, ())
    return height


def test_no_module_imports_itself_through_others() -> None:
    assert set(floors(ARROWS)) == set(KNOWN), "every module has a floor, so none stands above itself"
    with pytest.raises(Circle, match="a -> b -> a"):
        floors({"a": {"b"}, "b": {"a"}})


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_are_few_and_stand_on_few_floors(package: str) -> None:
    assert max(floors(room_arrows(package)).values()) <= FLOORS[package]
    aliases = {"pfgm/analytic.py", "pfgm/perturb.py"}  # former names, two lines each
    rooms = [p for p in (ROOT / package).iterdir() if p.suffix == ".py" or (p.is_dir() and (p / "__init__.py").is_file())]
    doors = ("__init__.py", "__main__.py")  # the package itself, imported and run
    assert len([p for p in rooms if p.name not in doors and name(p) not in aliases]) <= MAX_ROOMS


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=name)
def test_a_folder_is_seen_at_a_glance(folder: Path) -> None:
    files = [p for p in folder.glob("*.py") if p.name != "__init__.py"]
    rooms = folder.parent == ROOT
    assert rooms or len(files) <= MAX_FILES


def test_an_import_inside_a_function_says_why() -> None:
    """In a comment on its line, or on the line above it."""
    inner = []
    for path in MODULES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for function in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(function, ast.FunctionDef):
                inner += [
                    (f"{name(path)}:{node.lineno}", "#" in lines[node.lineno - 1] or "#" in lines[node.lineno - 2])
                    for node in ast.walk(function)
                    if isinstance(node, ast.Import | ast.ImportFrom)
                ]
    assert len(dict(inner)) <= MAX_INNER_IMPORTS
    assert not [place for place, told in inner if not told]
