"""Pairs of disturbed and undisturbed rows: noise of fields cancels, rows alone are counted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError, perturbation_robustness, plot_perturbation_robustness

pytestmark = pytest.mark.usefixtures("clean_figures")


def disturbed(frame: pd.DataFrame) -> pd.DataFrame:
    """Copies of the default sampler rows whose log FID rises by 2α, α the level, whatever the field's own noise."""
    base = frame.loc[frame["design_sampler_role"].eq("default")]
    copies = [
        base.assign(cell_id=base["cell_id"] + f"-{kind}-{level}", perturb_kind=kind, perturb_level=level,
                    metric_fid=base["metric_fid"] * math.exp(effect))
        for kind, effects in (("noise", {0.01: 0.02, 0.1: 0.2}), ("weight_bits", {8.0: 0.1, 4.0: 1.0}))
        for level, effect in effects.items()
    ]  # fmt: skip
    result = pd.concat([frame, *copies], ignore_index=True)
    result.attrs = frame.attrs
    return result


def test_degradation_is_paired_so_field_noise_cancels(frame: pd.DataFrame) -> None:
    table = perturbation_robustness(disturbed(frame)).set_index(["perturb_kind", "perturb_level"])
    row = table.loc[("noise", 0.1)]
    assert row["ratio"] == pytest.approx(math.exp(0.2)) and row["high"] - row["low"] < 1e-9
    assert row["n_fields"] == frame["train_id"].nunique()
    assert table.loc[("weight_bits", 4.0), "ratio"] == pytest.approx(math.e)


def test_lone_disturbed_rows_are_counted(frame: pd.DataFrame) -> None:
    rows = disturbed(frame)
    lone = rows.loc[rows["perturb_kind"].notna() | rows["design_sampler_role"].ne("default")]
    lone.attrs = frame.attrs
    table = perturbation_robustness(lone)
    assert table.attrs["skipped"]["no undisturbed row of this field, sampler point and seed"] == 4 * 27
    assert table.loc[table["perturb_kind"].eq("noise"), "ratio"].isna().all()
    with pytest.raises(AnalysisError, match="perturbation_robustness is for ratios, and less must be better; precision"):
        perturbation_robustness(rows, "precision")


def test_steps_compare_with_the_most_steps(frame: pd.DataFrame) -> None:
    table = perturbation_robustness(frame).set_index("perturb_level")
    assert table.index.tolist() == [8.0, 16.0, 32.0] and table["series"].eq("heun2").all()
    assert table.loc[32.0, "ratio"] == 1
    expected = math.exp(8 / 8 - 8 / 32)
    assert table.loc[8.0, "low"] < expected < table.loc[8.0, "high"]
    ax = plot_perturbation_robustness(frame, "steps")
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata().astype(float), table["ratio"])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log") and ax.xaxis.get_transform().base == 2
    bits = plot_perturbation_robustness(disturbed(frame), "weight_bits")
    assert bits.xaxis_inverted() and [t.get_text() for t in bits.get_xticklabels()] == ["4", "8"]
    assert "no row with perturb_kind noise" in plot_perturbation_robustness(frame, "noise").texts[0].get_text()
    with pytest.raises(AnalysisError, match="use noise, weight_noise"):
        plot_perturbation_robustness(frame, "fear")
