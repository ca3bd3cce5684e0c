"""Values that are better than the default, and all parameters at a glance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import improvements, load_study, parameter_overview, plot_parameter_overview, summarize, tolerance_interval
from analysis.plots.overview import RATING_COLOURS
from analysis.power import RATIO_NOISE, power_table, sentences
from analysis.report.sections import short
from analysis.report.sections.short import verdict_sentences
from analysis.report.study import Study
from analysis.robustness.gains import improvement_sentences
from analysis.rows.words import RATING_MARKS
from analysis.statistics.variance import FEW_DF, few
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")

GAIN = {"sigma": lambda v: -0.7 if v == 0.3 else 0.0, "rtol": lambda v: 1.5 if v == 0.1 else 0.0}
TRUTH = Truth(train_axes=("sigma", "tau"), sampler_axes=("rtol",), effects=GAIN)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    frame = synthetic_frame(TRUTH)
    here = frame["train_sigma"].eq(0.3)
    noise = np.random.default_rng(0).normal(0, 0.005, len(frame))
    frame["metric_recall"] = np.where(here, 0.5, 0.8) + noise
    frame["metric_precision"] = 0.9 + noise
    frame["cost_train_s"] = 60.0 + 1000 * noise
    return frame


# --- improvements


def test_a_better_value_is_told_with_what_it_costs(frame: pd.DataFrame) -> None:
    """A gain of a half (log ratio -0.7, seed noise 0.05, 3 seeds) and a loss of recall of 0.3; precision and time stay."""
    table = improvements(frame)
    assert set(zip(table["parameter"], table["value"], strict=True)) == {("sigma", 0.3)}
    rows = table.set_index("quantity")
    assert list(rows.index) == ["fid", "precision", "recall", "nfe", "train_s"]
    assert rows.loc["fid", "change"] == pytest.approx(math.exp(-0.7), rel=0.15)
    assert rows.loc["fid", "high"] < 1 / 1.1
    assert rows.loc["recall", ["default", "mean", "change"]].tolist() == pytest.approx([0.8, 0.5, -0.3], abs=0.02)
    assert rows["moved"].to_dict() == {"fid": True, "precision": False, "recall": True, "nfe": False, "train_s": False}
    levels = tolerance_interval(frame, "sigma").levels.set_index("level")
    assert rows.loc["fid", ["change", "low", "high"]].tolist() == pytest.approx(np.exp(levels.loc[0.3, ["d", "low", "high"]]))
    (sentence,) = improvement_sentences(table, "FID")
    assert sentence.startswith("Better than the default by more than 10%: sigma = 0.3, FID × 0.")
    assert "recall 0.5 instead of 0.8" in sentence and "precision 0.9, unchanged" in sentence
    assert sentence in verdict_sentences(frame, [tolerance_interval(frame, "sigma")])[-1].replace(
        "FID (digits-cnn, n = 1000)", "FID"
    )


def test_no_false_gain() -> None:
    """With no effect at all, at most one of 60 parameters of 30 studies has a better value: smallest rate seen 10 %."""
    flat = [improvements(synthetic_frame(TRUTH.changed(effects={}, seed=seed))) for seed in range(30)]
    assert sum(table["parameter"].nunique() for table in flat) <= 1
    small = improvements(synthetic_frame(TRUTH.changed(effects={"sigma": lambda v: -0.08 if v == 0.3 else 0.0})))
    assert small.empty, "a gain within the tolerance is none"
    assert improvement_sentences(small, "FID") == ["No tested value is surely better than the default by more than 10%."]


def test_failures_seeds_and_designs(tmp_path: Path) -> None:
    failed = TRUTH.changed(
        status=lambda r: "failed" if r["train_sigma"] == 0.3 and r["seed_train"] == 0 else "complete", samples=False
    )
    table = improvements(load_study(write_study(tmp_path / "failed", failed)))
    assert table.empty and table.attrs["skipped"] == {
        "sigma: status failed": 1,
        "rtol: status failed": 5,
        "rtol: rows of fields without a complete cell": 5,
    }, "a value where fields fail is not better"
    lonely = synthetic_frame(TRUTH.changed(train_seeds=1))
    assert improvements(lonely).query("parameter == 'sigma'").empty, "one seed has no interval"
    sobol = TRUTH.changed(design="sobol", trials=48, sampler_points=3, effects={"sigma": lambda v: -math.log(v)})
    better = improvements(synthetic_frame(sobol))
    assert better["parameter"].eq("sigma").all() and better["value"].min() > 0.1, "bins above the default's"
    tpe = synthetic_frame(sobol.changed(design="tpe"))
    assert improvements(tpe).empty and improvement_sentences(improvements(tpe), "FID") == []


# --- all parameters at a glance


def test_every_tested_value_has_a_place_and_a_mark(frame: pd.DataFrame) -> None:
    table = parameter_overview(frame)
    sigma = table.loc[table["parameter"].eq("sigma")]
    assert sigma["value"].tolist() == [0.03, 0.1, 0.3]
    assert sigma["place"].tolist() == pytest.approx([0, math.log(0.1 / 0.03) / math.log(10), 1])
    assert sigma["mark"].tolist()[1:] == ["default", "better"]
    rtol = table.loc[table["parameter"].eq("rtol")].set_index("value")
    assert rtol.loc[0.1, ["mark", "extreme"]].tolist() == ["outside", "worst"]
    for (group, name), part in table.groupby(["group", "parameter"]):
        interval = tolerance_interval(frame, f"{group}.{name}")
        assert part["rating"].eq(interval.rating).all()
        assert part.loc[part["in_interval"], "value"].tolist() == list(interval.inside)
        assert part.loc[part["extreme"].eq("worst"), "ratio"].tolist() == pytest.approx([interval.worst_ratio])
        assert part["extreme"].value_counts().reindex(["worst", "best"]).tolist() == [1, 1]


def test_the_figure_shows_the_table(frame: pd.DataFrame) -> None:
    table = parameter_overview(frame)
    ax = plot_parameter_overview(frame)
    (right,) = ax.child_axes
    labels = {text.get_text(): text.get_color() for text in ax.get_yticklabels()}
    ratings = table.drop_duplicates("parameter").set_index("parameter")["rating"]
    assert labels == {f"{name}\n{RATING_MARKS[r]} {r}": RATING_COLOURS[r] for name, r in ratings.items()}
    marks = sorted(round(float(x), 6) for line in ax.lines if line.get_marker() in list("ov^*") for x in line.get_xdata())
    assert marks == sorted(round(v, 6) for v in table["place"])
    drawn = sorted(float(x) for line in right.lines if line.get_marker() in ("^", "v") for x in line.get_xdata())
    assert drawn == pytest.approx(sorted(table.loc[table["extreme"].ne(""), "ratio"]))
    assert right.get_xscale() == "log" and "FID" in right.get_xlabel()
    assert "better beyond the tolerance" in [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("case", ["one seed", "sobol", "tpe", "failed", "categories", "nothing"])
def test_it_is_right_for_other_studies(case: str, tmp_path: Path) -> None:
    truth = {
        "one seed": TRUTH.changed(train_seeds=1),
        "sobol": TRUTH.changed(design="sobol", trials=40, train_seeds=1),
        "tpe": TRUTH.changed(design="tpe", trials=6, train_seeds=1, with_default=False),
        "failed": TRUTH.changed(status=lambda row: "diverged" if row["train_sigma"] == 0.3 else "complete"),
        "categories": TRUTH.changed(train_axes=(), sampler_axes=("solver",)),
        "nothing": TRUTH.changed(train_axes=(), sampler_axes=()),
    }[case].changed(samples=False)  # fmt: skip
    frame = load_study(write_study(tmp_path / "study", truth))
    table, ax = parameter_overview(frame), plot_parameter_overview(frame)
    ax.figure.canvas.draw()
    assert table["place"].between(0, 1).all()
    if case == "one seed":
        assert table.query("group == 'train' and mark != 'default'")["mark"].eq("undetermined").all()
    elif case == "failed":
        assert table.query("parameter == 'sigma' and value == 0.3")[["mark", "n_bad"]].to_numpy().tolist() == [["outside", 3]]
        assert "× 3" in [text.get_text() for text in ax.texts]
        assert table.attrs["skipped"] == {
            "sigma: status diverged": 3,
            "rtol: status diverged": 15,
            "rtol: rows of fields without a complete cell": 15,
        }
    elif case == "tpe":
        assert table["rating"].eq("not rated").all() and not table["in_interval"].any()
    elif case == "categories":
        assert table["value"].tolist() == ["dopri5", "heun2"] and table["place"].tolist() == [0, 1]
    elif case == "nothing":
        assert [text.get_text() for text in ax.texts] == ["nothing was searched"]


def test_the_report_begins_with_it(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", TRUTH.changed(samples=False))
    text = Path(analysis.write_report(folder)).with_name("report.md").read_text()
    assert text.index("figures/overview.png") < text.index("## Data and design")
    assert len(pd.read_csv(folder / "report/tables/better.csv")) == len(improvements(load_study(folder)))


# --- few degrees of freedom, and the noise of sampler values


def test_few_degrees_of_freedom_are_said(tmp_path: Path) -> None:
    """Two seeds at the default and one at each arm leave one degree of freedom; three everywhere leave ten."""
    assert few(1) and few(FEW_DF - 0.1) and not few(FEW_DF) and not few(0)
    poor = synthetic_frame(Truth(train_axes=("sigma", "tau"), sampler_axes=(), train_seeds=2, arm_seeds=1))
    rich = synthetic_frame(Truth(train_axes=("sigma", "tau"), sampler_axes=(), train_seeds=3))
    for frame, said in ((poor, True), (rich, False)):
        interval = tolerance_interval(frame, "tau")
        assert (interval.df < FEW_DF) is said
        assert ("variance from 1 degree of freedom, fewer than 5: it may be luck" in interval.rule) is said
        words = " ".join(verdict_sentences(frame, [interval]))
        assert ("rests on 1 degree of freedom, fewer than 5: it may be luck" in words) is said
        assert ("tau (0.01 to 0.1 within tolerance; 1 degree" in words or "tau (1 degree of freedom" in words) is said
        table = summarize(frame)
        assert table.loc[table["design_role"].eq("default"), "few_df"].tolist() == [said]
        assert any("fewer than 5: it may be luck" in line for line in sentences(power_table(frame, (3,)), 0.1)) is said
        assert len(short.section(Study("synthetic", frame, [interval], figures=tmp_path)).blocks) >= 4


def test_an_effect_of_the_sampler_is_no_noise() -> None:
    """rtol matters four times more at one sigma than elsewhere: the noise of its ratio stays that of the pairs, 0.03."""
    truth = Truth(train_axes=("sigma", "tau"), sampler_axes=("rtol",), train_seeds=4, pair_noise=0.03, sample_noise=0.0)
    frame = synthetic_frame(truth)
    shift = np.log10(frame["sampler_rtol"].astype(float) / 1e-4) * np.where(frame["train_sigma"].eq(0.3), 0.8, 0.2)
    frame["metric_fid"] *= np.exp(shift)
    table = power_table(frame, (4,)).set_index("noise")
    assert table.loc[RATIO_NOISE, "sd"] == pytest.approx(0.03 * math.sqrt(2), rel=0.4)
    assert table.loc[RATIO_NOISE, "df"] == 15
    levels = tolerance_interval(frame, "rtol").levels
    assert levels["sd"].median() > 0.25, "between all fields it is the effect"
    (_, words) = sentences(power_table(frame, (4,)), 0.1)
    assert words.startswith("Two samplings of a field: the log ratio to the default sampler point has, median over the values")
    lonely = synthetic_frame(truth.changed(arm_seeds=1, train_seeds=2))
    assert power_table(lonely, (3,)).set_index("noise").loc[RATIO_NOISE, "df"] == 1
