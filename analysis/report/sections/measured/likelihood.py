"""Likelihood and the prior's error in the report: measured by configuration, beside what each depends on.

A likelihood is that of the data smoothed to the level t, so t stands beside it; bits a dimension exist for data of grey
levels, nats for any. The prior's error, KL of the law at T to the prior, is known for exact fields. The standard error of a
value, over data points or draws, is shared by rows with equal seeds: it stands beside the interval over fields, and does not
shrink with their number.
"""

from __future__ import annotations

import pandas as pd

from analysis.report.blocks import Block, Section, TableBlock, Text
from analysis.report.study import Study
from analysis.rows.meta import is_given
from analysis.rows.metrics import metric_values
from analysis.rows.units import unit_key
from analysis.rows.words import format_value, metric_label
from analysis.statistics.summary import configuration_name, summarize
from analysis.statistics.variance import FEW_DF

_KEY = ["point_id", "sampler_id"]
_BESIDE = {
    "bits_per_dim": ("metric_likelihood_t", "metric_n_likelihood", "metric_divergence", "metric_dequantization"),
    "nats_per_dim": ("metric_likelihood_t", "metric_n_likelihood", "metric_divergence", "metric_dequantization"),
    "prior_kl": ("sampler_T",),
}
"""Columns that each metric depends on."""
_NAMES = {"metric_likelihood_t": "level t", "metric_n_likelihood": "data points", "sampler_T": "T (data units)"}


def section(study: Study) -> Section | None:
    """Show bits a dimension (nats where there are none) and the KL to the prior; None where neither was measured."""
    frame = study.frame
    found = [m for m in ("bits_per_dim", "nats_per_dim", "prior_kl") if frame[f"metric_{m}"].notna().any()]
    shown = [m for m in found if m != "nats_per_dim" or "bits_per_dim" not in found]
    blocks: list[Block] = []
    for metric in shown:
        table = measured_table(frame, metric)
        left = "; ".join(f"{reason}: {n}" for reason, n in table.attrs["skipped"].items()) or "nothing"
        unit = "samplings of the given field" if is_given(frame) else "fields"
        label = metric_label(frame, metric)
        caption = (
            f"{label[0].upper()}{label[1:]}: mean, 95 % interval over {unit}, and the standard error of a single row's"
            f" value (its mean over rows; a dash: not known). df: degrees of freedom of the interval's variance; with fewer"
            f" than {FEW_DF:g} it may be luck. Left out: {left}."
        )
        if table.empty:
            blocks.append(Text(f"{caption} Nothing to print."))
            continue
        text = {column: [format_value(value) for value in table[column].tolist()] for column in table.columns}
        blocks.append(TableBlock(metric.replace("_", "-"), caption, pd.DataFrame(text)))
    return Section("likelihood", "Likelihood and prior error", tuple(blocks)) if blocks else None


def measured_table(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one row a configuration that has the metric.

    Args:
        frame: rows of `analysis.load_study`.
        metric: ``bits_per_dim``, ``nats_per_dim`` or ``prior_kl``.
    Returns:
        configuration (what differs from the default), process, mean, low, high (as in `analysis.summarize`), se (mean over rows
        of each row's own; null where the metric has none), n (fields, or samplings of a given field), df, then what the metric
        depends on, several values joined; ``attrs["skipped"]``.
    """
    table = summarize(frame, metric)
    values, _ = metric_values(frame, metric)
    rows = frame.assign(_unit=unit_key(frame)).loc[values.notna()]
    rows.attrs = {}
    groups = dict(list(rows.groupby(_KEY, sort=False)))
    found = []
    for row in table.dropna(subset=["mean"]).to_dict("records"):
        own = groups[row["point_id"], row["sampler_id"]]
        error = own[f"metric_{metric}_se"].mean() if f"metric_{metric}_se" in own else None
        beside = {_NAMES.get(c, c.removeprefix("metric_")): _joined(own[c]) for c in _BESIDE[metric]}
        found.append(
            {"configuration": configuration_name(frame, row), "process": _joined(own["train_process"]), "mean": row["mean"],
             "low": row["low"], "high": row["high"], "se": error, "n": own["_unit"].nunique(), "df": row["df"], **beside}
        )  # fmt: skip
    result = pd.DataFrame(found)
    result.attrs = {**frame.attrs, "skipped": table.attrs["skipped"]}
    return result


def _joined(values: pd.Series) -> str:
    """Return the distinct values in words; as a rule there is one."""
    return ", ".join(format_value(value) for value in sorted(values.dropna().unique())) or format_value(None)
