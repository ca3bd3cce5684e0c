"""Which fields are trained together, and how many: what `resources.bundle` asks for, spread over the places that are free.

Fields of a bundle have architecture, process, objective, D and batch size in common (`pfgm.training.bundle`). A field that
cannot be trained beside others, or is trained already, goes alone. Where fewer fields wait than the free places could take,
bundles are smaller: a place that is idle costs more than a bundle gains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence

from pfgm.mistakes import Mistake
from pfgm.training.bundle import bundle_key
from study.plan.trial import Trial


def key_of(trial: Trial) -> Hashable | None:
    """Return what the fields of a bundle have in common with this one; None for a field that is trained alone, or not here."""
    if trial.network is None or not trial.config.field_source.trains:
        return None
    try:
        return bundle_key(trial.network, trial.train)
    except Mistake:
        return None


def size_of_next(waiting: int, most: int, free: int) -> int:
    """Return how many fields the next bundle may have.

    Args:
        waiting: fields that are to be trained.
        most: fields of a bundle.
        free: places for bundles.
    """
    return max(1, min(most, -(-waiting // max(free, 1))))


def bundles_line(trials: Sequence[Trial], there: Collection[str], most: int, slots: int) -> str:
    """Return what the plan says of the bundles that are to be trained.

    Args:
        trials: those that wait.
        there: fields that are trained.
        most: fields of a bundle.
        slots: bundles at once.
    """
    sizes, alone = Counter[int](), Counter[str]()
    counts = Counter[Hashable]()
    for trial in {t.train_id: t for t in trials if t.train_id not in there and t.config.field_source.trains}.values():
        key = key_of(trial)
        counts[key] += 1
        if key is None:
            alone[_why_alone(trial)] += 1
    left = counts.total()
    for key, n in counts.items():
        while n:
            size = 1 if key is None else min(n, size_of_next(left, most, slots - sizes.total()))
            sizes[size] += 1
            n, left = n - size, left - size
    told = [f"{_many(n, 'trial')} of {_many(size, 'field')}" for size, n in sorted(sizes.items(), reverse=True)]
    reasons = "".join(f"; {_many(n, 'field')} alone, {text}" for text, n in alone.items())
    return f"  bundles         {', '.join(told) or 'no field is to be trained'}{reasons}"


def _why_alone(trial: Trial) -> str:
    """Return why a field is trained beside no other."""
    assert trial.network is not None
    try:
        bundle_key(trial.network, trial.train)
    except Mistake as error:
        return str(error)
    return ""


def _many(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
