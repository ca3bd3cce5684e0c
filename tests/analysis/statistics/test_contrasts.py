"""Contrasts of groups: t-intervals, coverage and power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis import contrast
from analysis.statistics.contrasts import holm, p_values


def test_one_group_is_a_t_interval() -> None:
    """One group lends itself its variance: Student's t with n − 1 degrees of freedom."""
    y = np.log([1.2, 1.5, 1.1, 1.3])
    found = contrast([(1, y)])
    low, high = stats.t.interval(0.95, 3, y.mean(), stats.sem(y))
    np.testing.assert_allclose([found.ratio, found.low, found.high], np.exp([y.mean(), low, high]))


def test_a_contrast_is_the_ratio_of_products_and_swapped_signs_invert_it() -> None:
    """(b₁/b₀)/(a₁/a₀) of constant groups, exactly; swapping the signs inverts it."""
    groups = {"b1": 6.0, "b0": 2.0, "a1": 5.0, "a0": 4.0}
    values = {name: np.log(value) + np.array([-0.01, 0.0, 0.01]) for name, value in groups.items()}
    found = contrast([(1, values["b1"]), (-1, values["b0"]), (-1, values["a1"]), (1, values["a0"])])
    assert found.ratio == pytest.approx((6 / 2) / (5 / 4))
    assert found.low < found.ratio < found.high
    assert found.n == (3, 3, 3, 3)
    swapped = contrast([(-1, values["b1"]), (1, values["b0"]), (1, values["a1"]), (-1, values["a0"])])
    assert swapped.ratio == pytest.approx(1 / found.ratio)
    assert swapped.low == pytest.approx(1 / found.high)


@pytest.mark.parametrize("n_groups", [2, 4])
def test_a_contrast_interval_covers_what_it_promises(n_groups: int) -> None:
    """Three fields a group, equal noise: the 95 % interval covers the truth in 93 to 98.5 % of 4,000 draws."""
    rng = np.random.default_rng(0)
    signs = [1, -1, -1, 1][:n_groups]
    covered = 0
    for _ in range(4000):
        found = contrast([(c, rng.normal(0.0, 0.2, 3)) for c in signs])
        covered += found.low <= 1.0 <= found.high
    assert 0.93 <= covered / 4000 <= 0.985


def test_other_groups_lend_their_variance() -> None:
    """(d₀ s₀² + d s²)/(d₀ + d), s₀² over all groups: two groups of two with equal variances, and one that is noisier."""
    a, b, noisy = np.array([0.0, 0.2]), np.array([1.0, 1.2]), np.array([-1.0, 0.0, 1.0])
    own, pooled = 0.02, (0.02 + 0.02 + 2 * 1.0) / 4
    variance = (3 * pooled + own) / 4 / 2 * 2  # of both means
    found = contrast([(1, a), (-1, b)], others=[noisy])
    assert math.log(found.ratio) == pytest.approx(-1.0)
    assert (math.log(found.high / found.ratio)) == pytest.approx(stats.t.ppf(0.975, found.df) * math.sqrt(variance))
    alone = contrast([(1, a), (-1, b)])
    assert alone.high < found.high


def test_detectable_gap_is_found_four_times_in_five() -> None:
    """A contrast as large as the (average) detectable gap is significant in 70 to 90 % of 2,000 draws."""
    rng = np.random.default_rng(1)
    gap = np.mean(
        [math.log1p(contrast([(1, rng.normal(0, 0.2, 6)), (-1, rng.normal(0, 0.2, 6))]).detectable_gap) for _ in range(500)]
    )
    hits = [contrast([(1, rng.normal(gap, 0.2, 6)), (-1, rng.normal(0, 0.2, 6))]) for _ in range(2000)]
    assert 0.7 <= np.mean([h.low > 1 or h.high < 1 for h in hits]) <= 0.9


def test_without_variance_there_is_no_interval() -> None:
    one = contrast([(1, np.array([0.1])), (-1, np.array([0.3]))])
    assert one.ratio == pytest.approx(math.exp(-0.2))
    assert math.isnan(one.low)
    assert math.isnan(one.detectable_gap)
    assert math.isnan(contrast([(1, np.array([])), (-1, np.array([0.3, 0.2]))]).ratio)


def test_p_values_are_those_of_the_intervals() -> None:
    """The two-sided one is 5 % where an end of the 95 % interval is 0; that of equality where one of the 90 % is the limit."""
    half95, half90 = (stats.t.ppf(q, 7) * 0.1 for q in (0.975, 0.95))
    assert p_values(half95, 0.01, 7, 1.0)[0] == pytest.approx(0.05)
    for d in (0.02, -0.02):
        assert p_values(d, 0.01, 7, 0.02 + half90)[1] == pytest.approx(0.05)
    assert p_values(0.5, 0.01, 7, 0.1)[1] > 0.99, "far outside"
    assert p_values(-0.1, 0.0, 2, 0.2) == (0.0, 0.0) and p_values(0.1, math.nan, 0, 0.2) == (1.0, 1.0)


def test_holm_is_the_printed_formula_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_a_true_gap_of_the_tolerance_is_called_equal_in_a_twentieth_at_most() -> None:
    """4,000 draws, five fields a side, sd 0.05, true ratio 1.10: at most 5.7 % (5 % and two standard errors) are *equal*."""
    rng, limit, equal = np.random.default_rng(3), math.log(1.1), 0
    for _ in range(4000):
        found = contrast([(1, rng.normal(limit, 0.05, 5)), (-1, rng.normal(0.0, 0.05, 5))])
        equal += p_values(math.log(found.ratio), found.variance, found.df, limit)[1] <= 0.05
    assert 0.03 <= equal / 4000 <= 0.057
