"""Rows of disturbed fields beside undisturbed ones: they change no other statistic, and none of them is lost silently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.rows.metrics import anchors
from analysis.rows.question import MAIN, ask, decided_rows, statistic
from analysis.statistics.pick import choose_cell
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

ARMS = synthetic_frame(Truth(train_axes=("sigma",), sampler_axes=("T_ratio", "solver", "steps", "rtol")))
BOX = synthetic_frame(Truth(design="sobol", trials=40, train_seeds=2, sampler_axes=("T_ratio",), sampler_points=4))
STATISTICS: dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "summarize": (ARMS, analysis.summarize),
    "failure_table": (ARMS, analysis.failure_table),
    "failure_table by": (ARMS, lambda frame: analysis.failure_table(frame, "sigma")),
    "variance_components": (ARMS, analysis.variance_components),
    "robustness_curve": (ARMS, lambda frame: analysis.robustness_curve(frame, "T_ratio")),
    "tolerance_interval": (ARMS, lambda frame: analysis.tolerance_interval(frame, "sigma").levels),
    "rating": (ARMS, lambda frame: pd.DataFrame([analysis.tolerance_interval(frame, "sigma")[10:15]])),
    "compare": (ARMS, lambda frame: pd.DataFrame([analysis.compare(frame, "default", {"sigma": 0.03})[:10]])),
    "interaction": (ARMS, lambda frame: analysis.interaction(frame, "sigma", "T_ratio")),
    "pareto_front": (ARMS, analysis.pareto_front),
    "seed_fronts": (ARMS, analysis.seed_fronts),
    "solver_tolerance": (ARMS, analysis.solver_tolerance),
    "outlier_map": (ARMS, analysis.outlier_map),
    "theory_curves": (ARMS, analysis.theory_curves),
    "power_table": (ARMS, analysis.power_table),
    "to_optuna": (ARMS, lambda frame: analysis.to_optuna(frame).trials_dataframe(("params", "value", "state"))),
    "tolerance_volume": (BOX, analysis.tolerance_volume),
    "worst_case": (BOX, analysis.worst_case),
    "parameter_importance": (BOX, lambda frame: analysis.parameter_importance(frame, n_permutations=19, n_bootstrap=2)),
    "regional_sensitivity": (BOX, lambda frame: analysis.regional_sensitivity(frame, tolerance=0.01, n_permutations=19)),
}


def with_disturbed(frame: pd.DataFrame) -> pd.DataFrame:
    """Every row again under two kinds of disturbance: three times as bad, fewer network calls, a third of them diverged."""
    copies = [
        frame.assign(cell_id=frame["cell_id"] + kind, perturb_kind=kind, perturb_level=4.0, cost_nfe=5.0,
                     metric_fid=3 * frame["metric_fid"], metric_outlier_fraction=0.5, metric_fid_floor=9.0,
                     status=np.where(np.arange(len(frame)) % 3, "complete", status))
        for kind, status in (("noise", "diverged"), ("weight_bits", "failed"))
    ]  # fmt: skip
    both = pd.concat([frame, *copies], ignore_index=True).sample(frac=1.0, random_state=0)
    both.attrs = frame.attrs
    return both


@pytest.mark.parametrize("name", STATISTICS)
def test_disturbed_rows_change_no_other_statistic(name: str) -> None:
    """Numbers, counts and ratings are those of the rows without them; where rows are counted, so are those left out."""
    frame, statistic = STATISTICS[name]
    both = with_disturbed(frame)
    order = both.loc[both["perturb_kind"].isna()].reset_index(drop=True)  # importance draws points by their position
    order.attrs = frame.attrs
    plain, found = statistic(order), statistic(both)
    pd.testing.assert_frame_equal(found, plain)
    skipped = found.attrs.get("skipped", {})
    if "skipped" in plain.attrs and name not in ("power_table", "tolerance_interval"):
        assert skipped == {**plain.attrs["skipped"], "row of a disturbed field": 2 * len(frame)}


def test_disturbed_rows_change_no_picture(clean_figures: None) -> None:
    """Neither the marks of the front nor the anchors, and the default's samples are the default's."""
    both = with_disturbed(ARMS)
    rows = (both, both.loc[both["perturb_kind"].isna()])
    drawn = [[str(line.get_xydata()) for line in analysis.plot_quality_cost(frame).lines] for frame in rows]
    assert drawn[0] == drawn[1]
    assert anchors(both) == anchors(ARMS)
    for which in ("default", "best", "worst"):
        row = choose_cell(both, which)
        assert row is not None
        assert row["cell_id"] in set(ARMS["cell_id"])


def test_outcomes_of_disturbed_rows_are_counted_where_asked() -> None:
    by_kind = analysis.failure_table(with_disturbed(ARMS), "perturb_kind").set_index("value")
    third = -(-len(ARMS) // 3)
    assert by_kind.loc["noise", ["diverged", "total"]].tolist() == [third, len(ARMS)]
    assert by_kind.loc["weight_bits", ["failed", "total"]].tolist() == [third, len(ARMS)]
    assert by_kind.loc["inactive", "complete"] == len(ARMS)


@statistic(ratio=True)
def rows_and_metric(frame: pd.DataFrame, scale: float, metric: str = MAIN) -> pd.DataFrame:
    """A statistic that returns what it received."""
    result = pd.DataFrame({"rows": [len(frame)], "metric": [metric], "scale": [scale]})
    result.attrs = dict(frame.attrs)
    return result


@pytest.mark.parametrize("metric", [{}, {"metric": None}, {"metric": "fid"}])
def test_a_statistic_receives_undisturbed_rows_and_the_main_metric(metric: dict[str, Any]) -> None:
    both = with_disturbed(ARMS)
    before = dict(both.attrs)
    found = rows_and_metric(both, 2.0, **metric)
    assert found.to_numpy().tolist() == [[len(ARMS), "fid", 2.0]]
    assert found.attrs == {**before, "disturbed": len(both) - len(ARMS)}, "the mark of decided rows stays inside"
    assert both.attrs == before


def test_rows_are_decided_once() -> None:
    once = decided_rows(with_disturbed(ARMS))
    assert decided_rows(once) is once
    assert decided_rows(once.loc[once["seed_train"].eq(0)])["perturb_kind"].isna().all()


def test_a_share_is_refused_where_ratios_are_asked_for() -> None:
    with pytest.raises(analysis.AnalysisError, match="rows_and_metric is for ratios"):
        rows_and_metric(ARMS, 1.0, "precision")


def test_a_question_carries_what_was_decided() -> None:
    question = ask(with_disturbed(ARMS), "sigma")
    assert (question.measured.metric, question.measured.log, question.setting.axis.name) == ("fid", True, "sigma")
    assert len(question.frame) == len(ARMS)
    np.testing.assert_allclose(np.sort(question.frame["y"]), np.sort(np.log(ARMS["metric_fid"])))
    assert question.setting.default["train"].sum() == ARMS["design_role"].eq("default").sum()
