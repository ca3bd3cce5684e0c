"""From what is declared to numbers: `rule`, `all`, ratios and `same` for one data set and one process."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import ValidationError

from pfgm.config import SamplerConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.kinds import ALL
from pfgm.mistakes import Mistake, raised
from pfgm.process.base import Process
from pfgm.registry import PROCESSES

SHOWN = 12
"""Names of classes that a message lists."""


def resolve_train(train: TrainConfig, info: DataInfo) -> TrainConfig:
    """Replace `rule`, height_ratio and `all` by numbers.

    Raises:
        ValueError: a reference batch larger than the data, a height that is not above sigma (height_ratio too small, or sigma
            too large for `rule`), or the raw objective above three dimensions.
    """
    changes = PROCESSES[train.process].resolved(train, info)
    if train.conditional and not info.classes:
        cure = "give data with classes (digits, pictures in subfolders, data.labels), or remove it"
        raise Mistake("conditional", f"{info.name} has no labels; {cure}")
    reference = train.reference_batch_size
    if reference == "all":
        changes["reference_batch_size"] = info.n
    elif isinstance(reference, int) and reference > info.n:
        raise Mistake(
            "reference_batch_size", f"{reference} is larger than the data ({info.n} points); use `all` or a smaller number"
        )
    if train.objective == "raw" and info.dim > 3 and not train.force:
        raise Mistake(
            "objective", f"raw has exploding variance in {info.dim} dimensions (at most 3); use normalized, or force: true"
        )
    return train.model_copy(update=changes)


def class_of(sampler: SamplerConfig, process: Process) -> int | None:
    """Return the number of the class that a sampler point asks for; None for all, or for a field that knows none.

    Raises:
        Mistake: the field is not conditional, or has no such class.
    """
    label, names = sampler.label, process.info.classes
    if not process.classes:
        for key, value in (("label", label), ("guidance", sampler.guidance)):
            if value is not None:
                raise Mistake(key, "asks a conditional field for a class; train one with conditional: true, or remove it")
        return None
    if label is None or label == ALL:
        return None
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) and label < len(names):
        return label
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    raise Mistake("label", f"no class {label!r}; use {ALL}, a number from 0 to {len(names) - 1}, or one of {shown}")


@dataclass(frozen=True)
class ResolvedSampler:
    """A sampler point with every number filled in for one field."""

    T: float
    T_ratio: float
    rtol: float | None
    atol: float | None
    max_radius: float | None


def resolve_sampler(sampler: SamplerConfig, process: Process) -> ResolvedSampler:
    """Numbers of a sampler point for one process: T and its ratio to the rule's, atol, the truncation radius.

    Raises:
        ValueError: T ≤ t_min or infinite once resolved, a truncation that keeps no mass, or a class that is not known.
    """
    class_of(sampler, process)
    rule = process.rule_T
    T = rule * sampler.T_ratio if sampler.T_ratio is not None else rule if sampler.T == "rule" else float(sampler.T)
    if math.isinf(T):
        raise Mistake("T_ratio", f"{sampler.T_ratio:g} times the rule's T, {rule:.3g}, is beyond all numbers; lower it")
    if T <= sampler.t_min:
        raise Mistake("T", f"resolves to {T:.3g}, not above t_min = {sampler.t_min:g}; raise T or lower t_min")
    atol = sampler.rtol if sampler.atol == "same" else sampler.atol
    radius = None if sampler.max_radius_ratio is None else sampler.max_radius_ratio * T
    process.prior(T, radius)  # which may refuse it
    return ResolvedSampler(T, T / rule, sampler.rtol, atol, radius)


def sampler_point(sampler: dict[str, object]) -> SamplerConfig:
    """Keywords as a sampler point.

    Raises:
        ValueError: an unknown keyword, a value out of range, or a keyword that the solver does not read.
    """
    try:
        config = SamplerConfig.model_validate(sampler)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"][:1]))
        raise Mistake(key, f"{raised(first)}, got {sampler.get(key)!r}") if key else raised(first) from None
    for key, value in sampler.items():
        if value is not None and getattr(config, key) is None:
            raise Mistake(key, f"not read by solver {config.solver}; remove it, or choose another solver")
    return config
