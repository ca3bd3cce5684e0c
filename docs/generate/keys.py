"""The reference of search.yaml, from the pydantic models that read it: every key with type, range, unit, default, example."""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types as at
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from generate.key_words import EXAMPLES, UNITS, WORDS
from pfgm.config import DataConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.kinds import Named
from pfgm.process.pfgmpp import MIN_N_AUG
from pfgm.registry import NETWORKS, PROCESSES, Registry
from study.config.changes import rule_of
from study.config.keys import searchable
from study.config.sections import (
    AnalysisConfig,
    DesignConfig,
    EvaluationConfig,
    LimitsConfig,
    PerturbConfig,
    ResourcesConfig,
    SeedsConfig,
)
from study.config.source import FieldConfig

SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataConfig, "field": FieldConfig, "network": NetworkConfig, "train": TrainConfig, "sampler": SamplerConfig,
    "evaluate": EvaluationConfig, "perturb": PerturbConfig, "design": DesignConfig, "seeds": SeedsConfig,
    "resources": ResourcesConfig, "limits": LimitsConfig, "analysis": AnalysisConfig,
}  # fmt: skip

OWNED: dict[type[BaseModel], Registry[Any]] = {TrainConfig: PROCESSES, NetworkConfig: NETWORKS}
"""Sections some of whose keys belong to one part of a kind."""
CHANGES = {"growing": "adds what is missing", "free": "is free", "frozen": "needs a new name"}

LEAD = """# Keys of search.yaml

This page is made from the models that read the file. A key that is not here is refused, with the nearest key that is.

Six keys stand at the top of the file:

| key | what | default |
|---|---|---|
| `name` | name of the study; its results go to `<storage>/<name>` | none, required |
| `storage` | a folder, or `s3://bucket/prefix` | `results` |
| `retries` | how often a trial whose process died is started again | 2 |
| `plugins` | modules with [parts of your own](../extending.md), such as `[my_package.my_module]` | none |
| `trackers` | [programs](../howto/trackers.md) that keep curves too, such as `[mlflow]` | `tensorboard`, if installed |
| `allow_extreme` | allow a T above 10⁶, or a largest height below 10 t_min | `false` |

Everything else stands in a section. *Data units* are the units in which a field is trained. For images these are grey
levels scaled to [−1, 1]. "Change" says what a later edit of a study does that has rows already:
it adds what is missing, it is free, or it needs a new `name`.
"""

SEARCH = """## search

`search.train` and `search.sampler` say what varies. A searched key has one law, and may have two options:

| law | values |
|---|---|
| `uniform: [low, high]` | numbers, evenly spaced |
| `log_uniform: [low, high]` | numbers, evenly spaced in the logarithm; low above 0 |
| `int_uniform: [low, high]` | whole numbers, both ends included |
| `log_int_uniform: [low, high]` | whole numbers, evenly spaced in the logarithm |
| `choice: [a, b, …]` | these values |

| option | what | default |
|---|---|---|
| `levels` | how many values of a range `one_at_a_time`, `grid` and round 0 of `settle` take; 2 or more | 4 |
| `when` | values of another searched key under which this one exists | always |

```yaml
search:
  train:
    sigma: {log_uniform: [0.03, 0.3], levels: 3}
  sampler:
    solver: {choice: [dopri5, heun2]}
    rtol: {log_uniform: [1e-5, 1e-1], when: {solver: dopri5}}
    steps: {choice: [8, 16, 32], when: {solver: heun2}}
```

A key may stand in its section too. That value is then its *default*: the star in plots, and the reference of every rating.
"""

DESIGNS = """### Designs { #designs }

| design | points | use it to |
|---|---|---|
| `one_at_a_time` | the default, and each parameter in turn at its other values | rate parameters with few fields |
| `settle` | rounds: a few values first, then what decides most | rate parameters and find their edges at the least cost |
| `sobol` | the default, and points that fill the box evenly | rank effects, importance, shares of the box |
| `random` | the default, and independent points | the same, as a plain baseline |
| `grid` | every combination | few parameters with few values |
| `tpe` | Optuna looks for the best | optimise; rates nothing |
"""


class Key(NamedTuple):
    """One key as the reference shows it."""

    name: str
    words: str
    kind: str
    default: str


@cache
def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string under each attribute of a model, as one paragraph."""
    owned = [kind.Keys for _, kind in OWNED[model].items()] if model in OWNED else []
    first = [base for base in model.__mro__[1:] if base.__module__ in (model.__module__, "pfgm.config", "pfgm.kinds")]
    found: dict[str, str] = {}
    for part in (model, *first, *owned):
        body = ast.parse(inspect.getsource(part)).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
                found[node.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found


def kind(annotation: Any, constraints: Sequence[object] = ()) -> str:
    """An annotation in words, with its constraints; None among its parts is left out."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        own = [m for part in parts[1:] for m in (part.metadata if isinstance(part, FieldInfo) else [part])]
        return kind(parts[0], [*own, *constraints])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind(part, constraints) for part in parts if part is not type(None)))
    if origin is Literal:
        return ("one of " if len(parts) > 1 else "") + ", ".join(f"`{part}`" for part in parts)
    if origin in (tuple, list):
        return f"list of {kind(parts[0]).replace('number', 'numbers', 1)}"
    if origin is dict:
        return f"mapping of {kind(parts[0])} to {kind(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping with " + " or ".join(f"`{name}`" for name in annotation.model_fields)
    if named := [c for c in constraints if isinstance(c, Named)]:
        return "one of " + ", ".join(f"`{name}`" for name in named[0].names)
    words = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text"}[annotation]
    return words + (f" {told}" if (told := limits(constraints)) else "")


def limits(constraints: Sequence[object]) -> str:
    """Constraints in words, such as "above 0 and at most 0.5"."""
    words = ((at.Gt, "gt", "above"), (at.Ge, "ge", "at least"), (at.Lt, "lt", "below"), (at.Le, "le", "at most"))
    found = [f"{word} {getattr(c, key):g}" for c in constraints for type_, key, word in words if isinstance(c, type_)]
    return " and ".join(dict.fromkeys(found))


def shown(value: object) -> str:
    """A value as YAML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(shown(v) for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def default(name: str, field: FieldInfo, words: str) -> str:
    """The default in words: the model's own, that of the process or network that owns the key, or what the docstring says."""
    section, key = name.split(".")
    parts = OWNED[SECTIONS[section]].items() if SECTIONS[section] in OWNED else ()
    own = {k: v for _, part in parts for k, v in part.Keys.defaults().items()}
    value = own.get(key) if field.default is None else field.default
    if value is not None:
        return f"`{shown(value)}`"
    told = re.search(r"[(,] ?default:? ([^;)]*)|`?(\w+)`? \(default\)", words) or re.search(r"Default: ([^.]*)", words)
    return next(part for part in told.groups() if part) if told else "none"


def keys(section: str) -> list[Key]:
    """Every key of a section."""
    model, told = SECTIONS[section], docstrings(SECTIONS[section])
    found = []
    for name, field in model.model_fields.items():
        full = f"{section}.{name}"
        words = (told.get(name) or WORDS.get(full, "")).replace("`MIN_N_AUG`", f"{MIN_N_AUG:g}")
        found.append(Key(full, words, kind(field.annotation, field.metadata), default(full, field, words)))
    return found


def entry(key: Key) -> str:
    """One key as a heading, its description, a line of facts and an example."""
    section, name = key.name.split(".")
    owner = next((p for p in PROCESSES if section == "train" and name in PROCESSES[p].Keys.model_fields), None)
    facts = {
        "Type": key.kind,
        "Unit": UNITS.get(key.name, "none"),
        "Default": key.default,
        "Process": f"`{owner}` only" if owner else "",
        "Searched": "yes"
        if name in searchable().get(f"search.{section}", []) or key.name in ("network.width", "network.depth")
        else "",
        "Change": CHANGES[rule_of(key.name)],
    }
    line = " · ".join(f"**{word}** {value}" for word, value in facts.items() if value)
    return f"### `{key.name}` {{ #{key.name} }}\n\n{key.words}\n\n{line}\n\n```yaml\n{EXAMPLES[key.name]}\n```\n"


def pages() -> dict[str, str]:
    """The page of all keys."""
    parts = [LEAD, SEARCH]
    for section, model in SECTIONS.items():
        parts.append(f"## {section}\n\n{' '.join((inspect.getdoc(model) or '').split())}\n")
        parts += [entry(key) for key in keys(section)]
        parts += [DESIGNS] if section == "design" else []
    return {"reference/keys.md": "\n".join(parts)}
