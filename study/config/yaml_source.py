"""Strict YAML: values with the line each came from, and none of PyYAML's surprises.

`1e-4` is a float and `no` a string (PyYAML's own rules get both wrong); a key given twice, an unknown tag and a merge key are
errors. Every value is a plain number, word, list or mapping.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Path_ = tuple[str | int, ...]
START = "python -m study.run --example prints one to start from"


class ConfigError(ValueError):
    """A mistake in a study file, as one line: ``search.yaml:12: search.train.sigma: what is wrong and what to type``."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the number and truth words of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own class attribute)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes every text the loader above would read as a number."""


for _first, _rules in _Loader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _rules:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])

MAX_DEPTH, MAX_VALUES, MAX_BYTES = 12, 20_000, 1_000_000
"""A study file is small: deeper or longer ones are mistakes, or aliases that multiply."""


def to_yaml(values: Mapping[str, object]) -> str:
    """Plain values as text that `read_source` reads back to equal values."""
    text: str = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    return text


@dataclass(frozen=True)
class Source:
    """A parsed study file: its mapping, and the place of every value."""

    file: str
    values: dict[str, object]
    lines: dict[Path_, int]
    overridden: dict[Path_, str]

    def error(self, path: Path_, message: str) -> ConfigError:
        """The error for a key, at its own line or that of the nearest enclosing one."""
        name, message = ".".join(str(p) for p in path), " ".join(message.split())
        for stop in range(len(path), -1, -1):
            if path[:stop] in self.overridden:
                return ConfigError(f"--set {self.overridden[path[:stop]]}: {name}: {message}")
            if path[:stop] in self.lines:
                return ConfigError(f"{self.file}:{self.lines[path[:stop]]}: {name}: {message}" if name else
                                   f"{self.file}:{self.lines[path[:stop]]}: {message}")  # fmt: skip
        return ConfigError(f"{self.file}: {name}: {message}")

    def section(self, *path: str) -> dict[str, Any]:
        """A section of keys, empty when absent.

        Raises:
            ConfigError: something else stands in its place.
        """
        section: object = self.values
        for part in path:
            section = section.get(part) if isinstance(section, dict) else None
        if section is None:
            return {}
        if not isinstance(section, dict):
            raise self.error(path, f"must be a section of keys such as `key: value`, got {section!r}")
        return section


def read_source(path: Path, overrides: tuple[str, ...] = ()) -> Source:
    """Read a study file and apply ``--set key.path=value`` overrides.

    Raises:
        ConfigError: no such file, text that is not YAML, a duplicate key, or a malformed override.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {START}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a YAML file you may read") from None
    return parse_source(content, str(path), overrides)


def parse_source(content: bytes, file: str, overrides: tuple[str, ...] = ()) -> Source:
    """Read the content of a study file, as `read_source` reads a file."""
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{file}:1: {len(content)} bytes are more than the {MAX_BYTES} of a study file; name another file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: cannot be read as UTF-8 text ({error})") from None
    lines: dict[Path_, int] = {}
    values = _convert(_compose(text, file), (), lines, file)
    if not isinstance(values, dict):
        raise ConfigError(f"{file}:1: a study file is a mapping such as `name: my-study`, got {type(values).__name__}")
    overridden: dict[Path_, str] = {}
    for override in overrides:
        _apply(values, override, lines, overridden)
    return Source(file, values, lines, overridden)


def _compose(text: str, file: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        unclosed = error.context_mark is not None and "<stream end>" in str(error.problem)
        mark = error.context_mark if unclosed else error.problem_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{file}:{line}: not YAML: {error.problem or error.context}; check indents and brackets") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}:1: not YAML: {' '.join(str(error).split())}; write plain text") from None
    except RecursionError:
        raise ConfigError(f"{file}:1: not a study file: nested too deeply; remove brackets") from None
    finally:
        if loader is not None:
            loader.dispose()


def _convert(node: yaml.Node | None, path: Path_, lines: dict[Path_, int], file: str) -> object:
    if node is None:
        raise ConfigError(f"{file}:1: the file is empty; {START}")
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if len(path) > MAX_DEPTH or len(lines) > MAX_VALUES:
        name = ".".join(str(p) for p in path[:3])
        raise ConfigError(f"{file}:{line}: {name}: too deep or too long for a study file; write the values out without aliases")
    if not isinstance(node, yaml.ScalarNode) and node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
        raise ConfigError(f"{file}:{line}: {'.'.join(map(str, path))}: {_tag_error(node)}")
    if isinstance(node, yaml.MappingNode):
        out: dict[str, object] = {}
        for key_node, value_node in node.value:
            key, at = str(key_node.value), key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key == "<<":
                shown = "<<" if key == "<<" else "a list or mapping"
                raise ConfigError(f"{file}:{at}: {'.'.join(map(str, path))}: {shown} cannot be a key; write the keys out")
            if key in out:
                name = ".".join(str(p) for p in (*path, key))
                raise ConfigError(f"{file}:{at}: {name}: given twice (first on line {lines[(*path, key)]}); remove one")
            lines[(*path, key)] = at
            out[key] = _convert(value_node, (*path, key), lines, file)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, (*path, k), lines, file) for k, item in enumerate(node.value)]
    return _scalar(node, path, file)


def _scalar(node: yaml.Node, path: Path_, file: str) -> object:
    name, line, value = ".".join(str(p) for p in path), node.start_mark.line + 1, str(node.value)
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "str":
        return value
    if kind == "null":
        return None
    if kind == "bool":
        return value.lower() == "true"
    try:
        if kind == "int":
            return int(value)
        if kind == "float":
            return float(value.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise ConfigError(f"{file}:{line}: {name}: not a number: {value}") from None
    raise ConfigError(f"{file}:{line}: {name}: {_tag_error(node)}")


def _tag_error(node: yaml.Node) -> str:
    return f"tag {node.tag} is not allowed; write plain numbers, words, lists, mappings"


def _apply(values: dict[str, object], override: str, lines: dict[Path_, int], overridden: dict[Path_, str]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write it as key=value, such as --set train.steps=500")
    path: Path_ = tuple(key.split("."))
    place = values
    for part in path[:-1]:
        inner = place.get(str(part))
        if inner is None:
            inner = place[str(part)] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {part} is not a section; write it as section.key=value")
        place = inner
    place[str(path[-1])] = _convert(_compose(text or "null", f"--set {override}"), path, {}, f"--set {override}")
    overridden[path] = override
    for inside in [p for p in lines if p[: len(path)] == path]:
        del lines[inside]
