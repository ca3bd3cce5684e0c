"""The rule keeps its rates of error in a short form of its benchmark, and the benchmark sees a rule that does not."""

from __future__ import annotations

import pytest

from benchmarks.statistics import settle

KINDS = [
    ("all exactly at the tolerance", "sensitive", 3.0),
    ("one end just beyond it", "robust", 1.0),
    ("U-shaped", "edge", 3.0),
    ("region of failures", "edge", 1.0),
]


@pytest.mark.parametrize(("kind", "wrong", "spread"), KINDS)
def test_error_rates_are_kept(kind: str, wrong: str, spread: float) -> None:
    """120 studies of four parameters: at most 9 % are wrong where 5 % are allowed (four standard errors of a share of 480)."""
    many, four_axes = settle.many, settle.four_axes
    found = many(lambda seed: four_axes(kind, 0.05, spread, 0.0, seed), 120, None)
    assert found[wrong] <= 0.09


def test_bounds_of_one_look_are_seen_to_fail() -> None:
    """At the tolerance, the usual bounds, looked at again and again, call more than 7.5 % of parameters sensitive."""
    many, with_rule = settle.many, settle.with_rule
    kind = "all exactly at the tolerance"
    try:
        found = many(lambda seed: with_rule("one look", kind, (0.05, 3.0, 0.0), seed), 60, None)
    finally:
        with_rule("in use", kind, (0.05, 1.0, 0.0), 0)
    assert found["sensitive"] > 0.075


def test_six_axes_take_fewer_fields_than_a_fixed_grid() -> None:
    """Eight studies: half of the grid's fields at most, all settled, and fewer wrong verdicts than by hand."""
    found = settle.many(lambda seed: settle.six_axes(0.05, 1.0, 0.0, seed), 8, None)
    assert found["of grid"] <= 0.5 and found["all settled"] == 1.0
    assert found["wrong"] < found["hand wrong"]
