"""Names that are imported when they are first used: the public names of a package, and the members of a kind.

The standard library alone: every package may import this module, and none becomes heavier by it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def public_names(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose public names stand in its ``__init__.pyi``.

    The stub holds lines ``from pfgm.flow.trained import Field as Field``: type checkers read them, and so does this function.
    A name is imported from there when it is first asked for, so that ``import pfgm`` loads no torch.

    Args:
        package: the package's ``__name__``.
        file: the package's ``__file__``; the stub lies beside it.
    """
    stub = Path(file).with_suffix(".pyi").read_text(encoding="utf-8")
    homes = {
        alias.name: str(node.module)
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names = sorted(homes)

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; public names: {', '.join(names)}")
        if homes[name] == package:  # a room of the package
            return import_module(f"{package}.{name}")
        return getattr(import_module(homes[name]), name)

    return get, lambda: names, names
