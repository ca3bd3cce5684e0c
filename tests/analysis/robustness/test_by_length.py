"""Ratings, edges and quality at shares of the training: those of a study that ended there, and seen by no other statistic."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import (
    failure_table,
    learning_curves,
    load_study,
    parameter_overview,
    plot_learning_curves,
    plot_ratings_by_length,
    ratings_by_length,
    robustness_curve,
    summarize,
    tolerance_edges,
    tolerance_interval,
    validate,
)
from analysis.report.sections.answers import length
from analysis.report.sections.answers.length import verdict_by_length
from analysis.report.sections.record import runs
from analysis.report.write import load, studies_of
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")


def truth(slope: float) -> Truth:
    """What σ does away from its default grows with ``slope``; τ does nothing."""
    effects = {"sigma": lambda v: slope * math.log(v / 0.1) ** 2}
    return Truth(effects=effects, train_axes=("sigma", "tau"), sampler_axes=("rtol",), seed_noise=0.02, samples=False)


EARLY = {0.25: truth(0.8), 0.5: truth(0.2)}
END = truth(0.0)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return synthetic_frame(END, early=EARLY)


def test_ratings_are_those_of_a_study_that_ended_there(frame: pd.DataFrame) -> None:
    """Equal to the last digit: the fields of a length, by the rules of the end."""
    table = ratings_by_length(frame)
    assert table["share"].tolist() == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    assert table["step"].tolist() == [325, 325, 650, 650, 1300, 1300] and not table.attrs["skipped"]
    for row in table.to_dict("records"):
        whole = synthetic_frame({**EARLY, 1.0: END}[row["share"]])
        interval = tolerance_interval(whole, row["parameter"])
        found = (row["rating"], row["low"], row["high"], row["worst_ratio"], row["rule"], row["n_reference"])
        assert found == (
            interval.rating, interval.low, interval.high, interval.worst_ratio, interval.rule, interval.n_reference
        )  # fmt: skip
        edges = tolerance_edges(whole, row["parameter"])
        for name, edge in (("lower", edges.lower), ("upper", edges.upper)):
            assert edge is not None
            wanted = [np.nan if end is None else end for end in (edge.inside, edge.outside, edge.crossing)]
            assert [row[f"{name}_{end}"] for end in ("inside", "outside", "crossing")] == pytest.approx(wanted, nan_ok=True)
    of_sigma = table.loc[table["parameter"].eq("sigma")]
    assert of_sigma["rating"].tolist() == ["sensitive", "sensitive", "robust"]
    assert of_sigma["lower_crossing"].iloc[0] > of_sigma["lower_crossing"].iloc[1] > 0.03, "the edge moves out"
    assert verdict_by_length(of_sigma) == "sigma: sensitive at 25%, 50%; robust at the end alone."
    assert ratings_by_length(frame, tolerance=10.0)["rating"].eq("robust").all()


def test_no_other_statistic_sees_rows_on_the_way(frame: pd.DataFrame) -> None:
    alone = synthetic_frame(END)
    for made, same in (
        (summarize(frame), summarize(alone)),
        (parameter_overview(frame), parameter_overview(alone)),
        (robustness_curve(frame, "sigma"), robustness_curve(alone, "sigma")),
        (failure_table(frame), failure_table(alone)),
        (analysis.variance_components(frame), analysis.variance_components(alone)),
        (analysis.pareto_front(frame), analysis.pareto_front(alone)),
        (analysis.perturbation_robustness(frame), analysis.perturbation_robustness(alone)),
    ):
        pd.testing.assert_frame_equal(made, same)
    assert summarize(frame).attrs["skipped"] == {"row of a field on the way": 30}
    old = alone.drop(columns=["step", "is_final"])
    old.attrs = alone.attrs
    pd.testing.assert_frame_equal(summarize(old), summarize(alone))


def test_a_missed_row_is_no_failure(frame: pd.DataFrame) -> None:
    """One of three fields of a value was trained before its rows on the way were asked for: the others decide."""
    gone = frame["step"].eq(650) & frame["train_sigma"].eq(0.3) & frame["seed_train"].eq(2)
    rows = frame.assign(status=frame["status"].mask(gone, "missed"), metric_fid=frame["metric_fid"].mask(gone))
    rows.attrs = frame.attrs
    table = ratings_by_length(rows)
    assert table["rating"].tolist() == ratings_by_length(frame)["rating"].tolist()
    assert table.attrs["skipped"] == {"at 0.5, sigma: status missed": 1}
    assert learning_curves(rows, "fid").attrs["skipped"] == {"status missed": 1}


def test_a_question_without_an_answer_names_the_cure(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"write evaluate: \{at_steps: \[0.25, 0.5, 1\]\}, run the study again"):
        ratings_by_length(synthetic_frame(END))
    with pytest.raises(ValueError, match=r"load them with load_study\(path, on_the_way=True\)"):
        ratings_by_length(load_study(write_study(tmp_path / "study", END, EARLY)))
    with pytest.raises(ValueError, match="rtol: the default sampler point alone is measured on the way"):
        plot_ratings_by_length(frame, "rtol")


def test_quality_on_the_way_is_drawn(frame: pd.DataFrame) -> None:
    table = learning_curves(frame, "fid")
    assert len(table) == 15 * 3 and table["step"].drop_duplicates().tolist() == [325, 650, 1300]
    own = frame.loc[frame["design_sampler_role"].eq("default")].set_index(["train_id", "step"])["metric_fid"]
    assert table.set_index(["train_id", "step"])["value"].to_dict() == pytest.approx(own.to_dict())
    lines = [line for marks in plot_learning_curves(frame, metric="fid").collections for line in marks.get_segments()]
    assert len(lines) == 15 and all(len(line) == 3 for line in lines)
    ax = plot_learning_curves(frame, parameter="sigma")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["sigma = 0.03", "sigma = 0.1 (default)", "sigma = 0.3"]
    early = robustness_curve(synthetic_frame(EARLY[0.25]), "sigma", ["fid"])["mean"].tolist()
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"]
    assert [line.get_ydata()[0] for line in drawn] == pytest.approx(early)


def test_the_figure_shows_ratings_and_brackets(frame: pd.DataFrame) -> None:
    ax = plot_ratings_by_length(frame, "sigma")
    words = [text.get_text() for text in ax.get_yticklabels()]
    assert words == ["25% of the steps\n▲ sensitive", "50% of the steps\n▲ sensitive", "100% of the steps\n● robust"]
    assert len(ax.containers) == 4, "two brackets at each of the first two lengths"
    plt.close("all")


def test_the_report_asks_where_there_is_an_answer(tmp_path: Path) -> None:
    study = replace(studies_of([load(write_study(tmp_path / "early", END, EARLY), None)])[0], figures=tmp_path / "figures")
    made = length.section(study)
    assert made is not None and made.title == "Does the verdict survive longer training?"
    assert len(study.tables["on-the-way"]) == 30 and validate(tmp_path / "early").empty
    assert [getattr(block, "name", "") for block in made.blocks[2:]] == ["length-sigma", "length-tau", "length"]
    (curves,) = runs.learning(study).blocks
    assert "Right: FID (digits-cnn, n = 1000) on the way" in getattr(curves, "caption", "")
    assert length.section(studies_of([load(write_study(tmp_path / "end", END), None)])[0]) is None
