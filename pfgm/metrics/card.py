"""The card of a metric: its columns, what it looks at, and the function that measures it.

    def measure(seen: Seen) -> dict[str, object]:
        return {"metric_spread": float(seen.x.std())}

    SPREAD = Metric(measure, columns=(Column("metric_spread", label="spread of the samples", unit="data units"),))

The line ``spread="my_package.spread:SPREAD"`` in `pfgm.registry` makes it a name of ``evaluate.metrics``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.flow.base import Flow
from pfgm.metrics.columns import Column as Column
from pfgm.sampling.integrate import Samples

if TYPE_CHECKING:
    from pfgm.metrics.evaluator import Evaluator

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Solved:
    """The field and the solve that the samples come from."""

    flow: Flow
    sampler: SamplerConfig
    seed: int
    result: Samples
    kept: dict[tuple[object, ...], Any]
    """What the sampler points of this field share."""

    def once(self, key: tuple[object, ...], make: Callable[[], Kept]) -> Kept:
        """Return what ``make`` returned the first time that it was asked for this key of the field."""
        if key not in self.kept:
            self.kept[key] = make()
        found: Kept = self.kept[key]
        return found


@dataclass(frozen=True)
class Seen:
    """The samples, and all else that a metric may look at.

    Args:
        data: reference data and their statistics.
        x: samples (n, d), in stored units, clamped to the data's range.
        radius_ratio: R/T of each sample's start (n,).
        solved: where the samples come from; None where they are measured alone.
        labels: the class that was asked for each sample (n,); None where the field knows no classes.
    """

    data: Evaluator
    x: Tensor
    radius_ratio: Tensor
    solved: Solved | None = None
    labels: Tensor | None = None

    @cached_property
    def features(self) -> Tensor:
        """Features of the samples (n, k)."""
        return self.data.network(self.x)


@dataclass(frozen=True)
class Metric:
    """The card of a metric."""

    measure: Callable[[Seen], dict[str, object]]
    """Return the values of the columns; one that cannot be had may be left out."""
    columns: tuple[Column, ...]
    """All columns that it fills, with what is known of each."""
    pairs: bool = False
    """Whether it looks at all pairs of at most ``pr_samples`` samples and data: its time then grows with both."""

    @property
    def of_field(self) -> bool:
        """Return whether it looks at the field or the solver: it is then measured on undisturbed fields alone."""
        return any(column.of_field for column in self.columns)
