"""Read from a frame what it says of its study: YAML, design, tolerance, searched axes, and the roles of its points."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from analysis.rows.words import LABELS


class AnalysisError(ValueError):
    """A study that cannot be read or a question it cannot answer; the message says what to do."""


Value = float | str
"""A value of a parameter: a number, or a word."""


class Axis(NamedTuple):
    """One searched parameter of a study."""

    name: str
    """The key in search.yaml, e.g. ``sigma`` or ``T_ratio``."""
    group: str
    """``train`` or ``sampler``."""
    column: str
    """The column that holds the resolved value."""
    label: str
    """For plots, with unit."""
    log: bool
    """Whether the search was logarithmic."""
    categorical: bool
    low: float | None
    high: float | None
    default: Value | None
    """The declared default, resolved; None where it is inactive or unknown."""


class Shared(dict[str, Any]):
    """A dictionary that copies of a frame share: pandas deep-copies ``attrs`` at every operation, which is slow."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


class Memory(Shared):
    """What statistics found out about one frame, whose rows must not change: asked again, they look it up.

    It lives in the frame's ``attrs`` (key `DECIDED`) as long as the frame. pandas hands it on to selections and copies too,
    which are other rows: `memory_of` knows them.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        super().__init__()
        self.of = weakref.ref(frame)


DECIDED = "decided"
"""Mark of the rows of `analysis.rows.question.decided_rows` in ``attrs``; no result and no frame of the caller has it."""


def memory_of(frame: pd.DataFrame) -> dict[Any, Any]:
    """Return the memory of a frame, or an empty one for a frame that keeps none."""
    memory = frame.attrs.get(DECIDED)
    return memory if isinstance(memory, Memory) and memory.of() is frame else {}


def final(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of fields at the end of their training, in a new index; ``attrs["on_the_way"]`` counts the others."""
    if "is_final" not in frame or not (before := frame["is_final"].eq(False)).any():
        return frame
    rows = frame.loc[~before].reset_index(drop=True)
    rows.attrs = {**frame.attrs, "on_the_way": len(frame) - len(rows)}
    return rows


def undisturbed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the `final` rows of fields as they were trained, in a new index; ``attrs["disturbed"]`` counts the others.

    `analysis.rows.question.statistic` begins with it: a row disturbed or on the way is no outcome of its configuration.
    """
    frame = final(frame)
    if "perturb_kind" not in frame or frame["perturb_kind"].isna().all():
        return frame
    rows = frame.loc[frame["perturb_kind"].isna()].reset_index(drop=True)
    rows.attrs = {**frame.attrs, "disturbed": len(frame) - len(rows)}
    return rows


def searched_axes(frame: pd.DataFrame) -> list[Axis]:
    """Return the searched parameters in the order of the YAML, training first, with the default resolved from the rows."""
    memory = memory_of(frame)
    if None not in memory:
        memory[None] = _axes(frame)
    return list(memory[None])


def find_axis(frame: pd.DataFrame, parameter: str | Axis) -> Axis:
    """Return the searched axis called ``parameter``: a key, ``T`` for ``T_ratio``, or its column.

    Raises:
        AnalysisError: no such searched parameter.
    """
    if isinstance(parameter, Axis):
        return parameter
    axes = searched_axes(frame)
    for axis in axes:
        if parameter in (axis.name, axis.column, f"{axis.group}.{axis.name}"):
            return axis
    for axis in axes:
        if parameter == "T" and axis.name == "T_ratio":
            return axis
    names = ", ".join(f"{axis.group}.{axis.name}" for axis in axes) or "none"
    raise AnalysisError(f"{parameter}: not a searched parameter of this study; searched: {names}")


def study_of(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the study's resolved YAML, which `load_study` keeps in ``frame.attrs``."""
    study: dict[str, Any] = frame.attrs.get("study") or {}
    return study


def design_of(frame: pd.DataFrame) -> str:
    """Return the name of the design: one_at_a_time, sobol, grid, random, settle or tpe."""
    return str((study_of(frame).get("design") or {}).get("name") or "one_at_a_time")


def compares(frame: pd.DataFrame) -> bool:
    """Return whether the design moves one parameter at a time beside the default: the roles of its points then name arms."""
    roles = (role for column in ("design_role", "design_sampler_role") if column in frame for role in frame[column].unique())
    return design_of(frame) in ("one_at_a_time", "settle") or any("arm:" in str(role) for role in roles)


def seeks_best(frame: pd.DataFrame) -> bool:
    """Return whether the design moves to good values, so that its rows favour them."""
    return design_of(frame) == "tpe"


def settles(frame: pd.DataFrame) -> bool:
    """Return whether fields were added round after round until verdicts stood, so that bounds must hold at every look."""
    return design_of(frame) == "settle"


def tolerance_of(frame: pd.DataFrame) -> float:
    """Return the declared tolerance on the metric, a fraction (default 0.10)."""
    declared = (study_of(frame).get("analysis") or {}).get("tolerance")
    return 0.10 if declared is None else float(declared)


def has_role(roles: pd.Series, *wanted: str) -> pd.Series:
    """Return whether a point has one of the roles: a point on two arms has both, ``arm:solver+arm:steps``."""
    return roles.map(lambda role: not set(wanted).isdisjoint(str(role).split("+")))


def is_default(frame: pd.DataFrame, group: str) -> pd.Series:
    """Return which rows are at the default training point (``group`` "train") or sampler point ("sampler")."""
    column = "design_role" if group == "train" else "design_sampler_role"
    return frame[column].eq("default").fillna(False).astype(bool)


def as_number(value: object) -> float | None:
    """Return a YAML scalar as a number, or None: PyYAML reads ``1e-4`` as text."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(str(value))
    except ValueError:
        return None


def _axes(frame: pd.DataFrame) -> list[Axis]:
    search = study_of(frame).get("search") or {}
    axes: list[Axis] = []
    for group in ("train", "sampler"):
        if parameters := search.get(group):
            rows = _default_rows(frame, group)
            axes += [_axis(frame, rows, group, name, distribution) for name, distribution in parameters.items()]
    return axes


def _axis(frame: pd.DataFrame, at_default: pd.DataFrame, group: str, name: str, distribution: dict[str, Any]) -> Axis:
    column = next((c for c in (f"{group}_{name}", f"network_{name}") if c in frame.columns), f"{group}_{name}")
    kind = next((k for k in distribution if k in _KINDS), "choice")
    numeric = column in frame.columns and pd.api.types.is_numeric_dtype(frame[column])
    numeric = numeric and not pd.api.types.is_bool_dtype(frame[column])
    bounds = [as_number(value) for value in distribution.get(kind, [])]
    numbers = [value for value in bounds if value is not None]
    if numeric and None in bounds:  # a word among the choices (`all`) has its number in the rows only
        numbers += [float(value) for value in frame[column].dropna()]
    low, high = (min(numbers), max(numbers)) if numeric and numbers else (None, None)
    wide = low is not None and high is not None and low > 0 and high / low >= 8
    return Axis(
        name=name,
        group=group,
        column=column,
        label=LABELS.get(name, name.replace("_", " ")),
        log=bool(numeric and (kind.startswith("log") or (kind == "choice" and wide))),
        categorical=not numeric,
        low=low,
        high=high,
        default=_default_value(frame, at_default, group, name, column, numeric),
    )


_KINDS = ("log_uniform", "uniform", "choice", "int_uniform", "log_int_uniform")


def _default_rows(frame: pd.DataFrame, group: str) -> pd.DataFrame:
    """Return the rows at the default of both groups; where there are none, those at the default of this one."""
    both = is_default(frame, "train") & is_default(frame, "sampler")
    return frame.loc[both if both.any() else is_default(frame, group)]


def _default_value(frame: pd.DataFrame, rows: pd.DataFrame, group: str, name: str, column: str, numeric: bool) -> Value | None:
    if column not in frame.columns:
        return None
    known = rows[column].dropna()
    if len(known):
        value = known.mode().iloc[0]
        return float(value) if numeric else value
    if len(rows):
        return None
    declared = (study_of(frame).get(group) or {}).get(name)  # tpe may lack the default point
    return as_number(declared) if numeric else declared


HELD = ("sigma", "tau", "M", "height_max", "gamma", "reference_batch_size", "T", "T_ratio", "t_min", "solver", "rtol")
_KEYS = (
    "cell_id",
    "perturb_kind",
    "point_id",
    "sampler_id",
    "train_id",
    "seed_train",
    "seed_sample",
    "design_role",
    "design_sampler_role",
)


def slim(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the columns that a comparison needs: selecting rows of a hundred columns takes most of its time."""
    names = [*_KEYS, "status", *(f"{group}_{name}" for group in ("train", "sampler") for name in HELD), *columns]
    return frame[[name for name in dict.fromkeys(names) if name in frame.columns]]


@dataclass(frozen=True)
class Setting:
    """The facts of the study that a comparison along one parameter needs, looked up once."""

    frame: pd.DataFrame
    """Undisturbed rows with every column."""
    rows: pd.DataFrame
    """Undisturbed rows with the columns of a comparison."""
    axis: Axis
    rated: bool
    """Whether the rows of the design tell how robust a parameter is."""
    one: bool
    """Whether the design moves one parameter at a time."""
    tolerance: float
    given: bool
    """Whether the study measures one field that was given, not fields that it trained."""
    default: Mapping[str, pd.Series]
    """Rows at the default point of each group, ``train`` and ``sampler``."""
    along: pd.Series
    """Rows at the default or on the arm of the parameter, where the design has arms; else those off the default point."""
    questions: dict[str | None, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was asked about it, by metric: of decided rows, each question is made once."""


def setting_of(frame: pd.DataFrame, parameter: str | Axis) -> Setting:
    """Look up all that the comparison of a parameter's values needs to know of the study.

    Raises:
        AnalysisError: no such searched parameter.
    """
    frame = undisturbed(frame)
    memory = memory_of(frame)
    if parameter not in memory:
        memory[parameter] = _setting_of(frame, parameter)
    setting: Setting = memory[parameter]
    return setting


def _setting_of(frame: pd.DataFrame, parameter: str | Axis) -> Setting:
    axis, one, rated = find_axis(frame, parameter), compares(frame), not seeks_best(frame)
    default = {group: is_default(frame, group) for group in ("train", "sampler")}
    role = frame["design_role" if axis.group == "train" else "design_sampler_role"]
    along = has_role(role, "default", f"arm:{axis.name}") if one else ~default[axis.group]
    return Setting(frame, slim(frame, axis.column), axis, rated, one, tolerance_of(frame), is_given(frame), default, along)


def is_given(frame: pd.DataFrame) -> bool:
    """Return whether the study measures one field that was given (``field`` in search.yaml), not fields that it trained."""
    return bool(study_of(frame).get("field"))
