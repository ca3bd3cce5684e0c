"""Several studies in one report: what is laid over what, where it is written, and that nothing of one hides in another."""

from __future__ import annotations

import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis import load_study
from analysis.report.__main__ import main
from analysis.report.overlay import overlay_curves, plot_overlay, shared_parameters
from analysis.report.several import comparable, default_output, labels
from analysis.report.study import Study, rate
from analysis.report.write import write_reports
from analysis.rows.meta import AnalysisError, find_axis
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from study.rows.records import EVALS, read_table, write_table
from study.rows.storage import Place

TINY = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), train_seeds=2, samples=False)


def studies(folder: Path, **truths: Truth) -> list[Study]:
    frames = [load_study(write_study(folder / name, truth)) for name, truth in truths.items()]
    return [Study(name, frame, rate(frame)) for name, frame in zip(truths, frames, strict=True)]


def test_curves_are_ratios_to_each_study_own_default(tmp_path: Path) -> None:
    """A study of twice the FID has the same curve; the noise is nought, so the ratios are the effect itself."""
    still = TINY.changed(seed_noise=1e-9, sample_noise=1e-9, effects={"sigma": lambda s: 0.2 * math.log(s / 0.1) ** 2})
    other = still.changed(train_axes=("sigma", "M"), seed=5)
    pair = studies(tmp_path, a=still, b=other)
    pair[1].frame["metric_fid"] *= 2
    pair[1] = Study("b", pair[1].frame, rate(pair[1].frame))
    assert list(shared_parameters(pair)) == [("train", "sigma"), ("sampler", "T_ratio")], "M was searched in one only"
    curves = overlay_curves(pair, "train", "sigma")
    for name in "ab":
        part = curves.loc[curves["study"].eq(name)]
        assert part["value"].tolist() == [0.03, 0.1, 0.3]
        expected = [math.exp(0.2 * math.log(v / 0.1) ** 2) for v in part["value"]]
        np.testing.assert_allclose(part["ratio"].astype(float), expected, rtol=1e-6)
    assert curves["is_reference"].tolist() == [False, True, False] * 2


def test_overlay_draws_one_marker_a_study_and_hollow_where_cells_failed(tmp_path: Path) -> None:
    bad = TINY.changed(status=lambda row: "diverged" if row["train_sigma"] == 0.3 and row["seed_train"] == 1 else "complete")
    pair = studies(tmp_path, a=TINY, b=bad)
    axis, curves = find_axis(pair[0].frame, "train.sigma"), overlay_curves(pair, "train", "sigma")
    ax = plot_overlay(pair, axis, curves, ax=plt.figure().subplots())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    filled = {line.get_label(): line for line in ax.lines if line.get_label() in ("a", "b")}
    assert filled["a"].get_marker() != filled["b"].get_marker() and filled["a"].get_color() != filled["b"].get_color()
    np.testing.assert_allclose(filled["a"].get_xdata(), [0.03, 0.1, 0.3])
    np.testing.assert_allclose(filled["b"].get_xdata(), [0.03, 0.1])
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in hollow] == [[0.3]]
    assert any(np.allclose(line.get_ydata(), 1.1) and line.get_linestyle() == "--" for line in ax.lines), "the tolerance"


def test_values_are_shown_only_where_they_compare(tmp_path: Path) -> None:
    same, gaps, pixels = studies(
        tmp_path, a=TINY, b=TINY.changed(status=lambda row: "failed" if row["seed_train"] else "complete"),
        c=TINY.changed(features="pixels"),
    )  # fmt: skip
    assert comparable([same, gaps]), "missing values do not make another sample count"
    assert not comparable([same, pixels])
    other = same.frame.copy()
    other["metric_n"] = 2000
    assert not comparable([same, Study("d", other, same.intervals)])


@pytest.mark.usefixtures("no_rendering")
def test_the_page_of_several_studies_holds_each_report_and_equal_rows_give_equal_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(write_study(tmp_path / name, TINY.changed(seed=i))) for i, name in enumerate(("one", "two"))]
    assert main(paths) == 0
    assert f"report: {tmp_path}/report-one-two/report.html" in capsys.readouterr().out
    page = (tmp_path / "report-one-two" / "report.html").read_text()
    assert str(tmp_path) not in page
    assert re.findall(r"<h2[^>]*>([^<]*)", page) == ["In short", "Studies", "Verdict", "Shared parameters", "Study one",
                                                     "Study two", "Methods and limits"]  # fmt: skip
    assert {"one: Failures", "two: Failures"} <= set(re.findall(r"<h3[^>]*>([^<]*)", page))
    ids = re.findall(r'id="([^"]*)"', page)
    assert len(ids) == len(set(ids)), "anchors are unique"
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)
    verdict = (tmp_path / "report-one-two" / "tables" / "verdict.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in verdict[1:]] == [
        ["sigma", "one"],
        ["sigma", "two"],
        ["T_ratio", "one"],
        ["T_ratio", "two"],
    ]
    assert {p.name for p in (tmp_path / "report-one-two" / "tables" / "two").iterdir()} >= {"rows.csv", "verdict.csv"}
    assert not (tmp_path / "one" / "report").exists(), "the reports of the single studies stay as they are"
    again = write_reports(paths, output=tmp_path / "again")
    assert Path(again).read_bytes() == (tmp_path / "report-one-two" / "report.html").read_bytes()


@pytest.mark.usefixtures("no_rendering")
def test_studies_without_a_shared_parameter(tmp_path: Path) -> None:
    small = TINY.changed(train_seeds=1, sampler_axes=())
    paths = [write_study(tmp_path / "one", small), write_study(tmp_path / "two", small.changed(train_axes=("M",)))]
    assert "No parameter was searched in more than one of the studies" in Path(write_reports(paths)).read_text()


def test_studies_have_distinct_names_and_a_report_in_their_common_folder(tmp_path: Path) -> None:
    a, b, c = (load_study(write_study(tmp_path / name, TINY.changed(train_seeds=1))) for name in ("a", "b", "c"))
    assert labels([a, b]) == ["a", "b"]
    b.attrs["study"]["name"] = "a"
    assert labels([a, b, c]) == ["a-a", "a-b", "c"]
    with pytest.raises(AnalysisError, match="named twice"):
        labels([a, a])
    assert default_output([Place("results/x"), Place("results/y")], "xy") == Place("results/report-x-y")
    assert default_output([Place("results/deep/x"), Place("results/y")], "xy") == Place("results/report-x-y")
    assert default_output([Place("x"), Place("y")], "xy") == Place("report-x-y")
    stored = [Place.of(f"s3://bucket/results/{name}") for name in "xy"]
    assert str(default_output(stored, "xy")) == "s3://bucket/results/report-x-y"
    with pytest.raises(AnalysisError, match=r"no folder holds .* name one with --output"):
        default_output([Place("results/x"), stored[0]], "xy")
    with pytest.raises(AnalysisError, match="no folder holds"):
        default_output([Place.of("s3://one/x"), Place.of("s3://two/y")], "xy")


@pytest.mark.usefixtures("no_rendering")
def test_disturbed_rows_of_one_study_are_counted_and_written(tmp_path: Path) -> None:
    folders = [write_study(tmp_path / name, TINY) for name in "ab"]
    rows = read_table(folders[1] / "evals" / "f000s0.parquet")
    noisy = [{**row, "cell_id": f"n{i}", "perturb_kind": "noise", "perturb_level": 0.1} for i, row in enumerate(rows)]
    noisy[0] |= {"status": "failed", "error": "x"}
    write_table(folders[1] / "evals" / "noisy.parquet", noisy, EVALS)
    text = Path(write_reports(folders)).with_name("report.md").read_text()
    assert f"{len(noisy)} planned, {len(noisy) - 1} complete, 1 failed or diverged, 0 pending" in text
    tables = tmp_path / "report-a-b/tables"
    assert len(pd.read_csv(tables / "b/disturbed.csv")) == len(noisy)
    assert not (tables / "a/disturbed.csv").exists()
    assert pd.read_csv(tables / "studies.csv").set_index("study").loc["a", "of disturbed fields"] == "none"
