"""What rows say of their columns: a metric that nobody here knows is labelled, scaled and directed as one that is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import analysis
from analysis.report.sections.record.table import section
from analysis.report.study import Study
from analysis.rows.facts import column_of, measured_columns
from analysis.rows.meta import AnalysisError, Shared
from analysis.rows.words import metric_label
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth
from pfgm.metrics.columns import MEASURED, Column
from pfgm.registry import METRICS
from study.rows.facts import BUILT_IN, FACTS, carried_facts, field_of
from study.rows.records import EVALS, read_arrow, write_table

TOLD = Column("metric_own", label="own distance", unit="data units", log=True, low=0.0, shown=True, filled=True, metric="own")
ARMS = synthetic_frame(Truth(train_axes=("sigma", "tau"), sampler_axes=("T_ratio", "solver", "steps", "rtol")))
BOX = synthetic_frame(Truth(design="sobol", trials=40, train_seeds=2, sampler_axes=("T_ratio",), sampler_points=4))
STATISTICS: dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame, str], pd.DataFrame]]] = {
    "summarize": (ARMS, analysis.summarize),
    "variance_components": (ARMS, analysis.variance_components),
    "robustness_curve": (ARMS, lambda frame, metric: analysis.robustness_curve(frame, "sigma", [metric])),
    "tolerance_interval": (ARMS, lambda frame, metric: analysis.tolerance_interval(frame, "sigma", metric=metric).levels),
    "interaction": (ARMS, lambda frame, metric: analysis.interaction(frame, "sigma", "T_ratio", metric)),
    "compare": (
        ARMS,
        lambda frame, metric: pd.DataFrame([analysis.compare(frame, "default", {"sigma": 0.03}, metric=metric)[:10]]),
    ),
    "pareto_front": (ARMS, analysis.pareto_front),
    "seed_fronts": (ARMS, analysis.seed_fronts),
    "theory_curves": (ARMS, analysis.theory_curves),
    "tolerance_volume": (BOX, analysis.tolerance_volume),
    "worst_case": (BOX, analysis.worst_case),
    "to_optuna": (BOX, lambda frame, metric: analysis.to_optuna(frame, metric).trials_dataframe(("value", "state"))),
}


def with_own(frame: pd.DataFrame, column: Column = TOLD) -> pd.DataFrame:
    """The rows with a metric that this version does not know, a copy of FID, and what they say of it."""
    rows = frame.assign(metric_own=frame["metric_fid"])
    rows.attrs = {**frame.attrs, "columns": Shared({column.name: column.facts()})}
    return rows


@pytest.mark.parametrize("name", STATISTICS)
def test_a_metric_that_only_the_rows_know_has_the_statistics_of_one_that_is_known(name: str) -> None:
    frame, statistic = STATISTICS[name]
    rows = with_own(frame)
    rows.loc[rows.index[::7], ["metric_fid", "metric_own"]] = 0.0  # no logarithm: counted
    own, known = statistic(rows, "own"), statistic(rows, "fid")
    pd.testing.assert_frame_equal(own.replace("own", "fid"), known)
    counts = {re.sub(r"\bown\b", "fid", reason): n for reason, n in (own.attrs.get("skipped") or {}).items()}
    assert counts == (known.attrs.get("skipped") or {})


def test_a_metric_of_which_more_is_better_is_maximised_and_never_rated_as_a_ratio() -> None:
    few = ARMS.loc[ARMS["design_sampler_role"].eq("default")]
    more = with_own(few, Column("metric_own", log=True, higher_is_better=True))
    assert analysis.to_optuna(more, "own").direction.name == "MAXIMIZE"
    with pytest.raises(AnalysisError, match="of own more is better"):
        analysis.tolerance_interval(more, "sigma", metric="own")
    assert not analysis.pareto_front(more, metric="own")["on_front"].any()
    labels = [text.get_text() for text in analysis.plot_summary(more, "own").get_yticklabels()]
    assert labels == [text.get_text() for text in analysis.plot_summary(few, "fid").get_yticklabels()][::-1]


def test_the_report_and_the_checks_ask_the_rows() -> None:
    rows = with_own(ARMS).assign(metric_own=-1.0)
    assert metric_label(rows, "own") == "own distance (data units)" and column_of(rows, "metric_own") == TOLD
    assert metric_label(ARMS, "own") == "own" and metric_label(ARMS, "kid_se") == "kid se"
    (block,) = section(Study("own", rows, ())).blocks
    assert "own" in block.frame.columns
    problems = analysis.validate(rows)
    assert set(problems.loc[problems["column"].eq("metric_own"), "problem"]) == {"impossible value"}
    rows.attrs["study"] = Shared({**rows.attrs["study"], "evaluate": {"metrics": ["own"]}})
    problems = analysis.validate(rows.assign(metric_own=np.nan))
    assert set(problems.loc[problems["column"].eq("metric_own"), "problem"]) == {"complete row without a number"}


def test_facts_travel_with_a_file_and_those_of_the_file_are_believed(tmp_path: Path) -> None:
    later = Column("metric_kid", label="another KID", log=True)
    schema = pa.schema([field_of(later) if field.name == "metric_kid" else field for field in EVALS])
    schema = schema.append(pa.field("metric_new", pa.float64(), metadata={FACTS: b'{"label":"new","unheard":1}'}))
    write_table(tmp_path / "a.parquet", [{"cell_id": "a"}], schema)
    write_table(tmp_path / "b.parquet", [{"cell_id": "b"}], EVALS)
    facts = carried_facts(read_arrow(tmp_path / name).schema for name in ("a.parquet", "b.parquet"))
    frame = pd.DataFrame()
    frame.attrs["columns"] = facts
    assert column_of(frame, "kid") == later
    assert column_of(frame, "new") == Column("metric_new", label="new"), "a later version's fact is left out"
    assert [c.name for c in measured_columns(frame)] == [*BUILT_IN, "metric_new"]


def test_the_facts_of_this_version_survive_json_and_belong_to_its_metrics() -> None:
    for column in MEASURED:
        assert Column.of_facts(column.name, column.facts()).facts() == column.facts()
    assert {column.metric for column in MEASURED} == {*METRICS, ""}
    for name, metric in METRICS.items():
        assert metric.columns and {column.metric for column in metric.columns} == {name}
