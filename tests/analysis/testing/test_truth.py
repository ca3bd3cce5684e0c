"""The synthetic studies have the noise and the effects that they say."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.testing.truth import Truth, draw_noise, quantiles, synthetic_plan

pytestmark = pytest.mark.usefixtures("clean_figures")


def test_the_generator_is_what_it_says() -> None:
    """Sample moments of 400 points × 8 fields × 4 sampler points × 3 sample seeds; tolerances of five standard errors."""
    truth = Truth(design="random", trials=400, train_seeds=8, sample_seeds=3, sampler_points=4, seed_noise=0.1, seed_spread=3.0,
                  pair_noise=0.05, shared_noise=0.0, sample_noise=0.02, effects={"sigma": lambda s: s})  # fmt: skip
    plan = synthetic_plan(truth)
    draw = draw_noise(plan, truth, np.random.default_rng(0))
    noise = pd.Series(draw.log_fid - draw.mean)
    field = noise.groupby(plan["train_id"]).mean().groupby(plan.groupby("train_id")["point"].first())
    expected = draw.seed_sd**2 + 0.05**2 / 5 + 0.02**2 / 15
    assert (field.var(ddof=1) / expected).mean() == pytest.approx(1.0, abs=5 * math.sqrt(2 / 7 / 400))
    assert draw.seed_sd.max() / draw.seed_sd.min() == pytest.approx(3.0, rel=0.03)
    within = noise.groupby([plan["train_id"], plan["sampler_id"]]).var(ddof=1).mean()
    assert within == pytest.approx(0.02**2, rel=0.05)
    assert draw.mean - math.log(0.8) == pytest.approx(plan["train_sigma"].to_numpy())
    assert plan.loc[plan["sampler_solver"].eq("dopri5"), "sampler_steps"].isna().all(), "conditional"
    assert np.log(plan["train_sigma"]).between(math.log(0.03), math.log(0.3)).all() and len(quantiles("sigma")) == 400
    assert truth.within("sigma", 0.15) and not truth.within("sigma", 0.3) and truth.within("tau", 0.1)
