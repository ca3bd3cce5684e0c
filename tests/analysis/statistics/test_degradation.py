"""Degradation by disturbance: ratios within fields and latents, series, and failures that are counted."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis import AnalysisError, contrast, degradation, perturbation_robustness, plot_perturbation_robustness
from analysis.report.figure import ALONE, ASIDE, figure
from analysis.rows.load import load_study
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth


@pytest.fixture
def frame(tmp_path) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    """A synthetic study whose rows are doubled: disturbed ones are 1.5 times (process pfgm) or 3 times (vp) as bad."""
    rows = load_study(write_study(tmp_path / "s", Truth()))
    vp = rows.assign(train_process="vp", train_id=rows["train_id"] + "v", point_id=rows["point_id"] + "v")
    both = pd.concat([rows, vp], ignore_index=True)
    factor = both["train_process"].map({"pfgm": 1.5, "vp": 3.0})
    disturbed = both.assign(perturb_kind="noise", perturb_level=0.2, metric_fid=both["metric_fid"] * factor)
    result = pd.concat([both, disturbed], ignore_index=True)
    result.attrs = rows.attrs
    return result


def test_degradation_by_process_is_the_known_factor(frame: pd.DataFrame) -> None:
    """Known factors come back exactly, one series a process; their contrast is 2."""
    table = perturbation_robustness(frame).query("perturb_kind == 'noise'").set_index("series")
    assert table.loc["pfgm", "ratio"] == pytest.approx(1.5)
    assert table.loc["vp", "ratio"] == pytest.approx(3.0)
    found = degradation(frame, "noise", 0.2)
    sides = {name: group["log_ratio"].to_numpy() for name, group in found.groupby("series")}
    assert contrast([(1, sides["vp"]), (-1, sides["pfgm"])]).ratio == pytest.approx(2.0)
    together = perturbation_robustness(frame, by=[])
    assert set(together.query("perturb_kind == 'noise'")["series"]) == {"all"}


def test_series_say_what_differs(frame: pd.DataFrame) -> None:
    n_aug = frame["train_process"].map({"pfgm": math.nan, "vp": math.inf})
    some = frame.assign(train_n_aug=n_aug, network_width=128)
    some.attrs = frame.attrs
    table = perturbation_robustness(some).query("perturb_kind == 'noise'")
    assert set(table["series"]) == {"pfgm", "vp, D = ∞"}


def test_series_are_in_the_order_of_their_numbers(frame: pd.DataFrame) -> None:
    rows = frame.loc[frame["train_process"].eq("vp")]
    parts = [rows.assign(train_n_aug=n, train_id=rows["train_id"] + str(n)) for n in (128.0, math.inf, 8.0, 64.0)]
    several = pd.concat(parts, ignore_index=True)
    several.attrs = frame.attrs
    series = perturbation_robustness(several).query("perturb_kind == 'noise'")["series"]
    assert list(dict.fromkeys(series)) == ["D = 8", "D = 64", "D = 128", "D = ∞"]


@pytest.mark.parametrize(("sizes", "aside"), [((8.0, 64.0), False), ((1.0, 8.0, 64.0, 128.0, 2048.0, math.inf), True)])
def test_a_legend_of_many_series_stands_beside_the_axes(
    frame: pd.DataFrame, tmp_path: Path, sizes: tuple[float, ...], aside: bool
) -> None:
    """Whole, inside the report's picture, where it covers no line."""
    rows = frame.loc[frame["train_process"].eq("vp")]
    parts = [rows.assign(train_n_aug=n, train_id=rows["train_id"] + str(n)) for n in sizes]
    several = pd.concat(parts, ignore_index=True)
    several.attrs = frame.attrs
    seen = list[Axes]()
    least = ASIDE if aside else ALONE
    figure(tmp_path, "noise", "", "", [lambda *, ax: seen.append(plot_perturbation_robustness(several, "noise", ax=ax))], least)
    canvas, legend = seen[0].figure, seen[0].get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    assert (box.x0 >= seen[0].bbox.x1) == aside
    assert canvas.bbox.x0 <= box.x0 < box.x1 <= canvas.bbox.x1


def test_a_level_that_was_not_measured_is_refused_with_those_there_are(frame: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match=r"no row with noise at 0\.5; measured: 0\.2"):
        degradation(frame, "noise", 0.5)
    with pytest.raises(AnalysisError, match="measured: none"):
        degradation(frame, "weight_bits", 4)


def test_fields_that_diverged_are_counted_never_left_out(frame: pd.DataFrame) -> None:
    """One field's disturbed rows diverged, then all of a process: NaN rows with counts, a contrast that says how many."""
    hurt = frame.copy()
    hurt.attrs = frame.attrs
    disturbed, vp = hurt["perturb_kind"].notna(), hurt["train_process"].eq("vp")
    lost = hurt.loc[vp, "train_id"].iloc[0]
    hurt.loc[disturbed & hurt["train_id"].eq(lost), ["status", "metric_fid"]] = ["diverged", math.nan]
    n = int((disturbed & hurt["train_id"].eq(lost)).sum())
    found = degradation(hurt, "noise", 0.2)
    assert found.attrs["skipped"] == {"status diverged": n}
    row = found.loc[found["field"].eq(lost)].iloc[0]
    assert math.isnan(row["log_ratio"])
    assert row[["n_failed", "n_diverged", "n_pending"]].tolist() == [0, n, 0]
    assert found["log_ratio"].isna().sum() == 1
    sides = {name: group["log_ratio"].to_numpy() for name, group in found.groupby("series")}
    known = contrast([(1, sides["vp"]), (-1, sides["pfgm"])])
    assert known.ratio == pytest.approx(2.0)
    assert (known.n_lost, known.n[0]) == ((1, 0), known.n[1] - 1)
    assert contrast([(1, sides["pfgm"])], others=[sides["vp"]]).low < math.inf, "a NaN lends no variance"

    hurt.loc[disturbed & vp, ["status", "metric_fid"]] = ["diverged", math.nan]
    found = degradation(hurt, "noise", 0.2)
    assert set(found["series"]) == {"pfgm", "vp"}, "an all-diverged process stays in sight"
    sides = {name: group["log_ratio"].to_numpy() for name, group in found.groupby("series")}
    none = contrast([(1, sides["vp"]), (-1, sides["pfgm"])])
    assert math.isnan(none.ratio)
    assert none.n_lost == (len(sides["vp"]), 0)
    table = perturbation_robustness(hurt).query("perturb_kind == 'noise'").set_index("series")
    assert table.loc["vp", "n_diverged"] == int((disturbed & vp).sum())
    ax = plot_perturbation_robustness(hurt, "noise")
    assert [text.get_text() for text in ax.texts] == [f"×\n{int((disturbed & vp).sum())}"], "one count a level, of all series"


def test_undisturbed_rows_that_are_missing_are_counted(frame: pd.DataFrame) -> None:
    hurt = frame.loc[frame["perturb_kind"].notna() | frame["train_process"].eq("pfgm")]
    hurt.attrs = frame.attrs
    found = degradation(hurt, "noise", 0.2)
    n = int(hurt["train_process"].eq("vp").sum())
    assert found.attrs["skipped"] == {"no undisturbed row of this field, sampler point and seed": n}
    assert found.loc[found["series"].eq("vp"), "log_ratio"].isna().all()


@pytest.mark.parametrize(
    ("how", "series"), [({"log_int_uniform": [16, 64]}, {"pfgm", "vp"}), ({"choice": [19, 40]}, {"19", "40"})]
)
def test_a_range_of_sizes_is_one_series(frame: pd.DataFrame, how: dict[str, list[int]], series: set[str]) -> None:
    """Two widths of a choice are two series a process, those of a range one; `by` parts them where it is asked for."""
    sized = frame.assign(network_width=frame["seed_train"].map(lambda seed: 40 if seed else 19))
    sized.attrs = {**frame.attrs, "study": {"search": {"train": {"width": how}}}}
    wanted = series if "choice" not in how else {f"{p}, width = {w}" for p in ("pfgm", "vp") for w in series}
    table = perturbation_robustness(sized).query("perturb_kind == 'noise'")
    assert set(table["series"]) == wanted
    assert set(degradation(sized, "noise", 0.2)["series"]) == wanted
    ax = plot_perturbation_robustness(sized, "noise", by=["network_width"])
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"width = 19", "width = 40", "+ 10%"}  # type: ignore[union-attr]
