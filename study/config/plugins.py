"""Parts of one's own: the modules that a study file names under ``plugins``, and what identities hold of them.

``plugins: [my_parts]`` imports ``my_parts.py`` beside the study file, or a module that is installed; it registers its parts
(`pfgm.register`). This happens before names and keys of the file are checked, and again in every worker.

The source of a module is its own file and those that it imports from the same package, or from beside the study file. Imports
that are made at run time from text (`importlib`) are not seen.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pfgm.registry import KINDS
from study.config.yaml_source import Source

OURS = ("pfgm", "study", "analysis")
ROOT = Path(__file__).parents[2]


class Origin(NamedTuple):
    """What is known of a module that registered a part."""

    module: str
    version: str | None
    """Of the distribution that it belongs to, if it is installed."""
    hash: str
    """Of its source, with all that it imports from the same place."""
    modules: tuple[str, ...]
    """The modules that this source consists of."""

    @property
    def identity(self) -> list[str | None]:
        """What identities hold of it."""
        return [self.module, self.version, self.hash]

    def __str__(self) -> str:
        return f"{self.module}{f' {self.version}' if self.version else ''} (source {self.hash[:8]})"


def load_plugins(source: Source) -> tuple[str, ...]:
    """Import the modules that a study file names, so that their parts are registered; returns their names.

    Raises:
        ConfigError: no list of modules; or a module that is missing, fails, or registers nothing, or a name that is taken.
    """
    names = declared_plugins(source)
    folder = folder_of(source)
    if names and str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: a file there takes no other module's name
    for k, name in enumerate(names):
        try:
            _load(name, folder)
        except PluginError as error:
            raise source.error(("plugins", k), str(error)) from None
    return names


def folder_of(source: Source) -> Path:
    """Return the folder of a study file, where plug-ins are looked for."""
    return Path(os.path.abspath(source.file)).parent


def declared_plugins(source: Source) -> tuple[str, ...]:
    """Return the names under ``plugins``, not yet imported.

    Raises:
        ConfigError: no list of names of modules.
    """
    names = source.values.get("plugins")
    if names is None:
        return ()
    words = "must be a list of modules such as [my_package.my_module], for my_package/my_module.py"
    if not isinstance(names, list):
        raise source.error(("plugins",), f"{words}, got {names!r}")
    for k, name in enumerate(names):
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise source.error(("plugins", k), f"{words}, got {name!r}")
        if name in names[:k]:
            raise source.error(("plugins", k), f"names {name} twice; remove one")
        if name.split(".")[0] in OURS:
            raise source.error(("plugins", k), f"{name} is of this package, its parts are there anyway; remove it")
    return tuple(names)


class PluginError(ValueError):
    """A module that cannot be used, as one line."""


def _load(name: str, folder: Path) -> None:
    """Import a module that registers parts.

    Raises:
        PluginError: it is not there, fails, or registers nothing.
    """
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            near = difflib.get_close_matches(missing, [path.stem for path in folder.iterdir()], n=1)
            cure = f"did you mean {near[0]}?" if near else f"put {missing.partition('.')[0]}.py beside this file, or install it"
            raise PluginError(f"no module {missing}; {cure}") from None
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise PluginError(f"{name} fails when it is imported{_place(error)}: {told}") from error
    there, beside = _origin(name), _file(folder, name)
    if beside is not None and there is not None and not beside.samefile(there):
        raise PluginError(f"{name} is {there}, not the {beside.name} beside this file; give yours another name")
    modules = _modules(name, folder)
    if not any(home in modules for kind in KINDS.values() for home in kind.homes()):
        raise PluginError(f"{name} registers no part; call `pfgm.register(kind, name, part)` in it, or remove it")


def _place(error: BaseException) -> str:
    """Return the last line of the user's own code that an error came through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        ours = any(file.is_relative_to(ROOT / room) for room in OURS)
        if not ours and file.is_file() and not {"importlib", "site-packages"} & {*file.parts}:
            place = f" ({file.name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place


def known_origins(folder: Path) -> dict[str, Origin]:
    """Return every module outside this package that registered a part in this process, and has a file.

    Args:
        folder: where the study file lies.
    """
    homes = sorted({home for kind in KINDS.values() for home in kind.homes()})
    found = {home: _origin_of(home, folder) for home in homes}
    return {home: origin for home, origin in found.items() if origin is not None}


@functools.cache  # of the source that was imported, though the file may change
def _origin_of(home: str, folder: Path) -> Origin | None:
    modules = _modules(home, folder)
    return Origin(home, _version(home.split(".")[0]), _hash(modules), tuple(modules)) if modules else None


@functools.cache
def _version(top: str) -> str | None:
    """Return the version of the distribution that a module is of; None where it is not installed."""
    names = importlib.metadata.packages_distributions().get(top)
    return importlib.metadata.version(names[0]) if names else None


def load_shipped(names: Sequence[str], known: Mapping[str, Origin]) -> None:
    """Import plug-ins in a process that did not read the study file.

    Raises:
        RuntimeError: the source of one is another one here than where the study was planned.
    """
    for name in names:
        importlib.import_module(name)
    for origin in known.values() if names else ():
        _check_same(origin)


@functools.cache
def _check_same(origin: Origin) -> None:
    files = {name: path for name in origin.modules if (path := _origin(name)) is not None}
    if _hash(files) != origin.hash:
        raise RuntimeError(f"the plug-in {origin.module} changed while the study ran; start it again")


def shipped(known: Mapping[str, Origin]) -> list[str]:
    """Return the files and folders that a worker needs to import these modules, each the top of a module's name."""
    found: dict[str, None] = {}
    for origin in known.values():
        for name in origin.modules:
            path = _origin(name)
            if path is not None:
                top = path if path.stem != "__init__" else path.parent
                for _ in name.split(".")[1:]:
                    top = top.parent
                found[str(top)] = None
    return list(found)


def _hash(modules: Mapping[str, Path]) -> str:
    """The hash of some files by the names of their modules; ends of lines count alike everywhere."""
    whole = hashlib.sha256()
    for name, path in sorted(modules.items()):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        whole.update(f"{name}\n{len(content)}\n".encode() + content)
    return whole.hexdigest()[:32]


def _origin(name: str) -> Path | None:
    """Return the file of a module that can be imported; None for one without a file."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None and name != "__main__":
        try:
            spec = importlib.util.find_spec(name)
        except (ModuleNotFoundError, ValueError):  # ValueError: of a module that was made by hand
            return None
        file = spec.origin if spec is not None and spec.has_location else None
    return Path(os.path.abspath(file)) if file else None


def _modules(name: str, folder: Path) -> dict[str, Path]:
    """Return a module, and all that it imports from its own package or from the folder, by their names."""
    file = _origin(name)
    if file is None:
        return {}
    root = file.parent if file.stem == "__init__" else file
    for _ in name.split("."):
        root = root.parent
    all_there = folder.is_dir() and root.samefile(folder)
    found = {name: file}
    for path in (waiting := [(name, file)]):
        for other in _imports(*path, root) if path[1].suffix == ".py" else ():
            top = other.split(".")[0]
            there = _file(root, other) if top not in OURS and (all_there or top == name.split(".")[0]) else None
            if there is not None and other not in found:
                found[other] = there
                waiting.append((other, there))
    return found


def _file(root: Path, name: str) -> Path | None:
    """Return the file of a module below a folder, without importing it."""
    path = root.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file()), None)


def _imports(name: str, path: Path, root: Path) -> Iterator[str]:
    """Yield the names of the modules that a file below a folder imports; a package, where what is imported is no module."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package or None)
            inner = [f"{base}.{alias.name}" for alias in node.names]
            yield from (each if _file(root, each) else base for each in inner)
