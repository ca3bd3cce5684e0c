"""All parameters at a glance: every tested value has a place, and the figure shows the table."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.undrawn import draw_nothing

import analysis
from analysis import improvements, load_study, parameter_overview, plot_parameter_overview, tolerance_interval
from analysis.plots.overview import RATING_COLOURS
from analysis.rows.words import RATING_MARKS
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


def test_the_report_begins_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    folder = write_study(tmp_path / "study", TRUTH.changed(samples=False))
    text = Path(analysis.write_report(folder)).with_name("report.md").read_text()
    assert text.index("figures/overview.png") < text.index("## Data and design")
    assert len(pd.read_csv(folder / "report/tables/better.csv")) == len(improvements(load_study(folder)))
