"""The numbers that a row says of its samples: every column is declared here once, with all that is known of it.

The row schema, the plots and the report derive from these facts. A row file carries them too (`study.rows.facts`), so that a
program that reads it knows the columns of metrics that it does not have. This file needs neither torch nor pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pfgm.mistakes import Mistake
from pfgm.registry import METRICS

PREFIXES = ("metric_", "cost_", "diag_")


@dataclass(frozen=True)
class Column:
    """A number, or a word, that is measured for every row."""

    name: str
    """With its prefix: ``metric_``, ``cost_`` or ``diag_``."""
    kind: type[float] | type[int] | type[str] = float
    label: str = ""
    """In words, for axes; empty: the name."""
    unit: str = ""
    log: bool = False
    """Whether its noise is multiplicative: it is then averaged, drawn and compared on the log."""
    higher_is_better: bool = False
    low: float | None = None
    """The least possible value."""
    high: float | None = None
    """The largest possible value; 1 for a share."""
    companion: bool = False
    """Whether it only says how something else was measured; it is then no metric that one asks for."""
    shown: bool = False
    """Whether the table of the report shows it."""
    optimizable: bool = False
    """Whether design tpe may optimise it."""
    filled: bool = False
    """Whether every complete row has it, where its metric is measured."""
    of_field: bool = False
    """Whether it looks at the field or the solver: it is then measured on undisturbed fields alone."""
    metric: str = ""
    """The name of ``evaluate.metrics`` that fills it; empty: every row has it. The registry fills this in."""

    @property
    def short(self) -> str:
        """The name without its prefix."""
        return self.name.split("_", 1)[-1]

    @property
    def words(self) -> str:
        """The label with its unit; empty where it has no label."""
        return f"{self.label} ({self.unit})" if self.label and self.unit else self.label

    @property
    def is_ratio(self) -> bool:
        """Return whether its values compare as ratios of which less is better."""
        return self.log and not self.higher_is_better

    def facts(self) -> dict[str, Any]:
        """Return what differs from a column of which nothing is known, as JSON values."""
        plain = Column(self.name)
        found = {fact.name: getattr(self, fact.name) for fact in fields(self) if fact.name not in ("name", "kind")}
        return {name: value for name, value in found.items() if value != getattr(plain, name)}

    @classmethod
    def of_facts(cls, name: str, facts: Mapping[str, Any]) -> Column:
        """Return the column that gave these facts; a fact that this version does not know is left out."""
        known = {fact.name for fact in fields(cls)} - {"name", "kind"}
        return cls(name, **{fact: value for fact, value in facts.items() if fact in known})


def _filled_by(metric: str, *columns: Column, of_field: bool = False) -> tuple[Column, ...]:
    return tuple(replace(column, metric=metric, of_field=of_field) for column in columns)


# fmt: off
MEASURED: tuple[Column, ...] = (
    *_filled_by(
        "fid",
        Column("metric_fid", label="FID", log=True, low=0.0, shown=True, optimizable=True, filled=True),
        Column("metric_fid_floor"),
        Column("metric_fid_half"),
        Column("metric_fid_gaussian"),
        Column("metric_fid_test", label="FID against held-out data", log=True, low=0.0, shown=True),
        Column("metric_n_test", int, companion=True),
    ),
    *_filled_by(
        "class_accuracy",  # of a conditional field
        Column("metric_class_accuracy", label="class accuracy", unit="share of samples", higher_is_better=True, low=0.0,
               high=1.0, shown=True, filled=True, optimizable=True),
        Column("metric_class_accuracy_real", low=0.0, high=1.0),  # of the classifier on held-out data
    ),
    *_filled_by(
        "class_fid",  # of a conditional field
        Column("metric_class_fid", label="FID of a class, mean", log=True, low=0.0, shown=True, filled=True),
        Column("metric_class_fid_floor"),
        Column("metric_class_fid_worst", label="FID of the worst class", log=True, low=0.0),
        Column("metric_class_worst", str, companion=True),
    ),
    *_filled_by(
        "fid_infinity",
        Column("metric_fid_infinity", label="FID for infinitely many samples", shown=True),
        Column("metric_fid_halves", label="FID of half of the samples", log=True, low=0.0, filled=True),
    ),
    *_filled_by(
        "kid",
        Column("metric_kid", label="KID", unit="cubic kernel on features", shown=True, filled=True),
        Column("metric_kid_se", low=0.0),
    ),
    *_filled_by(
        "precision_recall",
        Column("metric_precision", label="precision", unit="share of samples", higher_is_better=True, shown=True, filled=True,
               low=0.0, high=1.0),
        Column("metric_recall", label="recall", unit="share of data", higher_is_better=True, shown=True, low=0.0, high=1.0),
        Column("metric_density", label="density", unit="balls of the data a sample, over k", higher_is_better=True, low=0.0,
               shown=True),
        Column("metric_coverage", label="coverage", unit="share of the data's balls", higher_is_better=True, shown=True,
               low=0.0, high=1.0),
        Column("metric_pr_space", str, companion=True),
        Column("metric_pr_k", int, companion=True),
        Column("metric_pr_n", int, companion=True),
        Column("metric_pr_n_data", int, companion=True),
    ),
    *_filled_by(
        "neighbours",
        Column("metric_nn_ratio", label="nearest-neighbour ratio", unit="×", log=True, low=0.0, shown=True),
        Column("metric_nn_gap", label="distance to training over held-out data", unit="×", log=True, low=0.0, shown=True),
        Column("metric_outlier_fraction", label="outliers", unit="share of samples", shown=True, filled=True, low=0.0,
               high=1.0),
    ),
    Column("metric_nonfinite_fraction", label="non-finite samples", unit="share", low=0.0, high=1.0),
    *_filled_by(
        "solver_error",
        Column("metric_solver_error", label="solver error, median RMS", unit="data units", log=True, low=0.0, shown=True,
               filled=True),
        Column("metric_solver_error_95", label="solver error, 95 % RMS", unit="data units", log=True, low=0.0),
        Column("metric_fid_converged", label="FID to the converged samples", log=True, low=0.0),
        Column("metric_solver_switched", label="samples with another source", unit="share", low=0.0, high=1.0),
        of_field=True,
    ),
    *_filled_by(
        "prior_error",  # of starting an exact field at T
        Column("metric_prior_kl", label="KL of the law at T to the prior", unit="nats", log=True, shown=True, filled=True),
        Column("metric_prior_kl_se"),
        of_field=True,
    ),
    *_filled_by(
        "sliced_wasserstein",
        Column("metric_sliced_wasserstein", label="sliced Wasserstein", unit="data units", log=True, low=0.0, shown=True,
               optimizable=True, filled=True),
    ),
    *_filled_by(
        "energy",
        Column("metric_energy", label="energy distance", unit="√ data units", log=True, low=0.0, shown=True, filled=True),
    ),
    Column("metric_n", int, companion=True),
    Column("metric_features", str, companion=True),
    Column("metric_names", str, companion=True),
    *_filled_by(
        "likelihood",
        Column("metric_bits_per_dim", label="bits a dimension", unit="upper bound", shown=True),
        Column("metric_bits_per_dim_se"),
        Column("metric_nats_per_dim", label="negative log-likelihood", unit="nats a dimension", shown=True, filled=True),
        Column("metric_n_likelihood", int, companion=True),
        Column("metric_likelihood_t"),  # the level whose density is meant: t_min, or half a grey level where that is higher
        Column("metric_divergence", str, companion=True),  # exact or hutchinson
        Column("metric_dequantization", str, companion=True),  # "(v + u)/8 − 1"; none for data of floats
        of_field=True,
    ),
    Column("cost_nfe", label="NFE", unit="network calls an image", log=True, shown=True, optimizable=True),
    Column("cost_nfe_max", log=True),
    Column("cost_train_s"),
    Column("cost_compile_s"),
    Column("cost_sample_s", log=True),
    Column("cost_metric_s"),
    Column("cost_memory_mb"),
    Column("cost_memory_splits", int),  # splits of work that was too big for memory, training's too
    Column("diag_coverage"),
    Column("diag_prior_truncated"),
    *_filled_by("neighbours", Column("diag_outlier_radius")),
    Column("diag_train_loss"),
)
# fmt: on


def columns_of(metric: str) -> tuple[Column, ...]:
    """Return the columns that a metric of this package fills."""
    return tuple(column for column in MEASURED if column.metric == metric)


def all_columns() -> dict[str, Column]:
    """Return every column by its name: those of this package, and those of metrics that were registered; loads them all."""
    own = [replace(column, metric=name) for name, metric in METRICS.items() for column in metric.columns]
    return {column.name: column for column in (*MEASURED, *own)}


def _refuse_taken(metric: str) -> None:
    """Refuse a metric from outside whose columns would be mistaken for others.

    Raises:
        Mistake: names the column.
    """
    others = {c.name for c in MEASURED} | {c.name for name in METRICS if name != metric for c in METRICS[name].columns}
    for column in METRICS[metric].columns:
        if column.name in others or not column.name.startswith(PREFIXES):
            text = f"column '{column.name}' of {metric} is that of another, or does not begin with {', '.join(PREFIXES)}"
            raise Mistake("metric", f"{text}; rename it")


METRICS.follow(_refuse_taken)
