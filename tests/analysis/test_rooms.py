"""The map of the rooms: who may import whom, no circles, and no picture where numbers are made."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("rows", "statistics", "robustness", "theory", "plots", "report")
"""Each room imports only itself and rooms before it; `testing` and `power` stand beside them."""
OUTSIDE = ("study.rows.", "pfgm.terminal", "pfgm.registry")
PICTURES = {"matplotlib", "seaborn", "PIL"}


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path): path for path in (ROOT / "analysis").rglob("*.py")}


def imported(module: str) -> Iterator[str]:
    """Every module that another names in an import statement, also inside functions, types aside."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for test in [node for node in tree.body if isinstance(node, ast.If)]:
        if "TYPE_CHECKING" in ast.unparse(test.test):
            tree.body.remove(test)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (full if full in MODULES else str(node.module) for full in inner)


def room(module: str) -> str:
    return module.split(".")[1] if module.startswith("analysis.") else ""


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_room_imports_one_above_it(module: str) -> None:
    rank = ROOMS.index(room(module)) if room(module) in ROOMS else len(ROOMS)
    wrong = {m for m in imported(module) if room(m) in ROOMS and ROOMS.index(room(m)) > rank}
    wrong |= {m for m in imported(module) if m.split(".")[0] in ("study", "pfgm") and not f"{m}.".startswith(OUTSIDE)}
    if room(module) in ROOMS[:4]:
        wrong |= {m for m in imported(module) if m.split(".")[0] in PICTURES or room(m) == "power"}
    if room(module) != "testing":
        wrong |= {m for m in imported(module) if room(m) == "testing"}
    assert not wrong


def test_modules_form_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, road: tuple[str, ...]) -> None:
        assert module not in road, " → ".join((*road, module))
        if module not in done:
            for other in sorted(set(imported(module)) & MODULES.keys()):
                visit(other, (*road, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("room", ROOMS[:4])
def test_numbers_load_no_picture_and_no_heavy_library(room: str) -> None:
    modules = [module for module in sorted(MODULES) if module.startswith(f"analysis.{room}.")]
    heavy = PICTURES | {"optuna", "sklearn", "torch"}
    code = f"import sys, {', '.join(modules)}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
