"""Two parameters at once: measured cells only, as a plain loop finds them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import interaction, load_study, plot_interaction
from analysis.report.sections.measured.interaction import MAX_PAIRS
from analysis.report.sections.measured.interaction import section as interaction_section
from analysis.report.study import Study
from analysis.rows.units import field_key
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
COUNTS = {"n_failed": ("failed", "timeout"), "n_diverged": ("diverged", "solver_limit"), "n_pending": ("pending",)}


def study(tmp_path: Path, truth: Truth) -> pd.DataFrame:
    return load_study(write_study(tmp_path / "study", truth))


def test_interaction_is_measured_cells_only(tmp_path: Path) -> None:
    frame = study(tmp_path, Truth(samples=False, train_seeds=1))
    assert len(interaction(frame, "sigma", "T_ratio")) == 3 * 5  # crossed: every field at every sampler point
    assert len(interaction(frame, "sigma", "tau")) == 5  # two arms meet at the default only


def broken(row: dict[str, object]) -> str:
    kinds = ("failed", "timeout", "diverged", "solver_limit", "pending", "complete", "complete", "complete", "complete")
    return kinds[sum(map(ord, str(row["cell_id"]))) % len(kinds)]


@pytest.fixture(scope="module", params=["one_at_a_time", "sobol"])
def frame(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    truth = Truth(design=request.param, trials=6, sample_seeds=2, status=broken, samples=False, seed_noise=0.3)
    return load_study(write_study(tmp_path_factory.mktemp(request.param) / "synthetic", truth))


@pytest.mark.parametrize("metric", ["fid", "precision"])
@pytest.mark.parametrize("pair", [("sigma", "T_ratio"), ("M", "rtol"), ("sigma", "solver")])
def test_interaction_is_a_plain_loop(frame: pd.DataFrame, pair: tuple[str, str], metric: str) -> None:
    rows = frame
    if frame.attrs["study"]["design"]["name"] == "one_at_a_time":
        for column, name in (("design_role", pair[0]), ("design_sampler_role", pair[1])):
            rows = rows.loc[[bool({"default", f"arm:{name}"} & set(role.split("+"))) for role in rows[column]]]
    first, second = f"train_{pair[0]}", f"sampler_{pair[1]}"
    rows = rows.dropna(subset=[first, second])
    expected = []
    for key, cells in rows.groupby([first, second]):
        done = cells.loc[cells["status"].eq("complete")]
        fields = [group[f"metric_{metric}"].to_numpy(float) for _, group in done.groupby(field_key(done))]
        means = [np.log(v).mean() if metric == "fid" else v.mean() for v in fields]
        mean = math.nan if not means else math.exp(np.mean(means)) if metric == "fid" else np.mean(means)
        counts = [int(cells["status"].isin(statuses).sum()) for statuses in COUNTS.values()]
        expected.append([*key, mean, len(fields), *counts])
    table = interaction(frame, *pair, metric)
    assert list(table) == ["value_1", "value_2", "mean", "n_fields", *COUNTS]
    wanted = pd.DataFrame(expected, columns=list(table))
    assert wanted["mean"].notna().any() and wanted[list(COUNTS)].to_numpy().any()
    pd.testing.assert_frame_equal(table, wanted, rtol=1e-9, check_dtype=False)
    unmeasured = {k: n for k, n in table.attrs["skipped"].items() if k.startswith("status ")}
    assert sum(unmeasured.values()) == rows["status"].ne("complete").sum()


def test_many_pairs_are_drawn_small_and_too_many_are_left_out(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    few = plot_interaction(frame, "sigma", "T_ratio").collections[0].get_sizes()[0]
    monkeypatch.setattr("analysis.plots.pairs._mark_size", lambda n: (4.0, 0.3))
    assert plot_interaction(frame, "sigma", "T_ratio").collections[0].get_sizes()[0] < few == 90
    assert MAX_PAIRS == 5000
    monkeypatch.setattr("analysis.report.sections.measured.interaction.MAX_PAIRS", 3)
    assert "Not drawn" in interaction_section(Study("synthetic", frame, [])).blocks[0].text
