"""Two configurations: the printed formula, pairs, refusals, and failures that forbid a good verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis import AnalysisError, compare
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
ARMS = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",))


def test_compare_is_the_printed_formula() -> None:
    frame = synthetic_frame(ARMS.changed(effects={"sigma": lambda s: 0.5 if s == 0.3 else 0.0}))
    at = frame.loc[frame["design_sampler_role"].eq("default")]
    groups = {v: np.log(g["metric_fid"]).to_numpy() for v, g in at.groupby("train_sigma")}
    s2 = {v: y.var(ddof=1) for v, y in groups.items()}
    s0 = np.mean(list(s2.values()))
    parts = [(3 * s0 / 5 / 3) * 2, 2 * s2[0.1] / 5 / 3, 2 * s2[0.3] / 5 / 3]
    df = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2 + parts[2] ** 2 / 2)
    d = groups[0.3].mean() - groups[0.1].mean()
    half = stats.t.ppf(0.975, df) * math.sqrt(sum(parts))
    result = compare(frame, "default", {"sigma": 0.3})
    assert [result.ratio, result.low, result.high] == pytest.approx(np.exp([d, d - half, d + half]).tolist(), rel=1e-12)
    assert (result.verdict, result.n_a, result.n_b, result.paired) == ("worse", 3, 3, False)
    assert compare(frame, {"sigma": 0.3}, "default").verdict == "better"
    assert "worse at a tolerance of 10%" in result.sentence


def test_the_same_fields_are_paired_and_equal_latents_cancel() -> None:
    noisy = ARMS.changed(
        seed_noise=0.5, shared_noise=0.5, sample_seeds=2, effects={"T_ratio": lambda v: 0.3 if v == 5.0 else 0.0}
    )
    result = compare(synthetic_frame(noisy), "default", {"T_ratio": 5.0})
    assert result.paired and result.ratio == pytest.approx(math.exp(0.3), rel=0.03) and result.verdict == "worse"
    same = compare(synthetic_frame(noisy), "default", {"T_ratio": 2.0})
    assert same.verdict == "equal" and same.detectable_gap < 0.1


def test_equal_is_two_one_sided_tests_whatever_the_confidence() -> None:
    """At a tolerance that the 90 % interval just fits into it is *equal*, just below it is not; the sentence names it."""
    frame = synthetic_frame(ARMS.changed(train_seeds=6))
    narrow = compare(frame, "default", {"sigma": 0.3}, confidence=0.90)
    edge = max(narrow.high, 1 / narrow.low) - 1
    for confidence in (0.80, 0.95):
        inside = compare(frame, "default", {"sigma": 0.3}, tolerance=edge * 1.001, confidence=confidence)
        outside = compare(frame, "default", {"sigma": 0.3}, tolerance=edge * 0.999, confidence=confidence)
        assert (inside.verdict, outside.verdict) == ("equal", "undecided")
    assert f"equal within {inside.tolerance:.0%}; a gap of" in inside.sentence


def test_compare_says_what_it_cannot_do() -> None:
    frame = synthetic_frame(ARMS)
    with pytest.raises(AnalysisError, match=r"sigma = 0.2: no train point has it; tested sigma: 0.03, 0.1, 0.3"):
        compare(frame, "default", {"sigma": 0.2})
    with pytest.raises(AnalysisError, match=r"gamma: not a searched parameter"):
        compare(frame, "default", {"gamma": 1})
    with pytest.raises(AnalysisError, match="precision is averaged as it is"):
        compare(frame, "default", {"sigma": 0.3}, metric="precision")
    with pytest.raises(AnalysisError, match=r'say "default", a dictionary'):
        compare(frame, "best", "default")
    lonely = compare(synthetic_frame(ARMS.changed(train_seeds=1)), "default", {"sigma": 0.3})
    assert lonely.verdict == "undecided" and math.isnan(lonely.low) and "raise seeds.train" in lonely.sentence
    frame.loc[frame["train_sigma"].eq(0.3), "status"] = "diverged"
    gone = compare(frame, "default", {"sigma": 0.3})
    assert (gone.verdict, gone.n_b, gone.n_bad_b) == ("undecided", 0, 3)
    assert gone.skipped == {"status diverged": 3, "sample seed not on both sides": 1}


def test_failures_forbid_a_good_verdict() -> None:
    frame = synthetic_frame(ARMS.changed(train_seeds=5, seed_noise=0.005))
    bad = frame["train_sigma"].eq(0.3) & frame["seed_train"].lt(3)
    assert compare(frame, "default", {"sigma": 0.3}).verdict == "equal"
    frame.loc[bad, ["status", "metric_fid"]] = ["diverged", math.nan]
    result = compare(frame, "default", {"sigma": 0.3})
    assert (result.verdict, result.n_bad_a, result.n_bad_b) == ("undecided", 0, 3)
    assert "0 and 3 cells failed or diverged" in result.sentence


def test_values_are_taken_as_the_yaml_spells_them() -> None:
    frame = synthetic_frame(Truth())
    assert compare(frame, "default", {"rtol": "1e-3"}) == compare(frame, "default", {"rtol": 1e-3})
    assert compare(frame, {"reference_batch_size": "all"}, {"reference_batch_size": 128}).n_b == 3
