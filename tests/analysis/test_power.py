"""Power from the noise of a pilot: told for seeds and for fields, without the sampler's effect."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load_study, seeds_needed, tolerance_interval
from analysis.power import RATIO_NOISE, power_table, sentences
from analysis.power import main as power_main
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
ARMS = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",))
GAIN = {"sigma": lambda v: -0.7 if v == 0.3 else 0.0, "rtol": lambda v: 1.5 if v == 0.1 else 0.0}
TRUTH = Truth(train_axes=("sigma", "tau"), sampler_axes=("rtol",), effects=GAIN)


def test_power_is_told_for_seeds_and_for_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_study(tmp_path / "pilot", ARMS.changed(train_seeds=6, seed_noise=0.1, samples=False))
    table = power_table(load_study(folder), (3, 12), comparisons=2)
    seeds = table.loc[table["noise"].eq("train seeds")]
    assert seeds["sd"].iloc[0] == pytest.approx(0.1, rel=0.4) and seeds["gap"].is_monotonic_decreasing
    assert (seeds["gap_high"] > seeds["gap"]).all() and (seeds["settle_high"] >= seeds["settle"]).all()
    sd = float(seeds["sd"].iloc[0])
    assert seeds["settle"].iloc[0] == seeds_needed(sd, 0.10, 2)
    assert power_main([str(folder), "--seeds", "3", "--tolerance", "0.25"]) == 0
    out = capsys.readouterr().out
    assert "With 80 % power 3 seeds find a gap of" in out and "25% is settled by" in out
    assert power_main([str(folder), "--seeds", "1"]) == 2 and "at least 2" in capsys.readouterr().err
    lonely = write_study(tmp_path / "lonely", ARMS.changed(train_seeds=1, samples=False))
    assert power_main([str(lonely)]) == 2 and "raise seeds.train" in capsys.readouterr().err


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    frame = synthetic_frame(TRUTH)
    here = frame["train_sigma"].eq(0.3)
    noise = np.random.default_rng(0).normal(0, 0.005, len(frame))
    frame["metric_recall"] = np.where(here, 0.5, 0.8) + noise
    frame["metric_precision"] = 0.9 + noise
    frame["cost_train_s"] = 60.0 + 1000 * noise
    return frame


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


def test_a_budget_is_told_what_it_settles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Little noise settles both parameters; ten times as much leaves the trained one open in 95 % of the made-up studies."""
    axes = json.dumps([{"name": "train.sigma", "first": [0.02, 0.6], "default": 0.2, "log": True, "width": 0.4},
                       {"name": "sampler.solver", "first": ["heun2"], "paired": True}])  # fmt: skip
    told = []
    for noise in (0.04, 0.4):
        study = write_study(tmp_path / f"pilot{noise}", Truth(seed_noise=noise, samples=False))
        assert power_main([str(study), "--seeds=2", f"--axes={axes}", "--budget=30"]) == 0
        told.append(capsys.readouterr().out)
    pattern = (
        r"Settled by at most 30 fields, in made-up studies with this noise and no effect: sigma in (\d+)%, solver in (\d+)%"
    )
    (easy, easy_pair), (hard, _) = (re.search(pattern, out).groups() for out in told)  # type: ignore[union-attr]
    assert (easy, easy_pair) == ("100", "100") and int(hard) <= 5
