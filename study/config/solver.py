"""The solver of a study whose file names none.

A new study takes the default of `pfgm.config.default_solver`, and one that searches the solver dopri5. A study that has a
folder goes on with the solver of its own study.yaml, which an earlier version may have written when the default was another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pfgm.config import default_solver
from study.config.space import Distribution
from study.config.yaml_source import ConfigError, Source, parse_source
from study.rows.storage import Place

SEARCHED_DEFAULT = "dopri5"
"""Default of a searched solver that has none of its own, as it was in the first studies."""
KEYS = ("solver", "rtol", "atol", "steps", "grid")
"""Keys of ``sampler`` that belong together."""


def with_solver(declared: Mapping[str, Any], searched: Mapping[str, Distribution]) -> dict[str, Any]:
    """The declared keys of ``sampler`` with the solver, unless it is searched."""
    if "solver" in declared or "solver" in searched:
        return dict(declared)
    return {"solver": default_solver({*declared, *searched}), **declared}


def continued(source: Source, searched: Mapping[str, Distribution], folder: Place) -> dict[str, Any]:
    """The solver's keys in the study.yaml of a study's folder, where the file leaves the solver to it; else none.

    Raises:
        StorageError: the folder cannot be read.
    """
    given = source.section("sampler")
    if given.get("solver") is not None or "solver" in searched:
        return {}
    place = folder / "study.yaml"
    try:
        stored = parse_source(place.read(), str(place)).section("sampler")
    except (FileNotFoundError, ConfigError):  # a damaged one is refused by `study.existing`, with the cure
        return {}
    return {key: stored[key] for key in KEYS if stored.get(key) is not None and given.get(key) is None and key not in searched}
