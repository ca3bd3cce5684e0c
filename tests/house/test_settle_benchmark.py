"""A short form of benchmarks/settle.py: the rule keeps its rates of error, and the benchmark sees one that does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def settle() -> object:
    """The benchmark, as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import settle as module
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


KINDS = [
    ("all exactly at the tolerance", "sensitive", 3.0),
    ("one end just beyond it", "robust", 1.0),
    ("U-shaped", "edge", 3.0),
    ("region of failures", "edge", 1.0),
]


@pytest.mark.parametrize(("kind", "wrong", "spread"), KINDS)
def test_error_rates_are_kept(settle: object, kind: str, wrong: str, spread: float) -> None:
    """120 studies of four parameters: at most 9 % are wrong where 5 % are allowed (four standard errors of a share of 480)."""
    many, four_axes = settle.many, settle.four_axes  # type: ignore[attr-defined]
    found = many(lambda seed: four_axes(kind, 0.05, spread, seed), 120, None)
    assert found[wrong] <= 0.09


def test_bounds_of_one_look_are_seen_to_fail(settle: object) -> None:
    """At the tolerance, the usual bounds, looked at again and again, call more than 7.5 % of parameters sensitive."""
    many, with_rule = settle.many, settle.with_rule  # type: ignore[attr-defined]
    kind = "all exactly at the tolerance"
    try:
        found = many(lambda seed: with_rule("one look", kind, 0.05, 3.0, seed), 60, None)
    finally:
        with_rule("in use", kind, 0.05, 1.0, 0)
    assert found["sensitive"] > 0.075


def test_six_axes_take_fewer_fields_than_a_fixed_grid(settle: object) -> None:
    """Eight studies: half of the grid's fields at most, all settled, and fewer wrong verdicts than by hand."""
    found = settle.many(lambda seed: settle.six_axes(0.05, 1.0, seed), 8, None)  # type: ignore[attr-defined]
    assert found["of grid"] <= 0.5 and found["all settled"] == 1.0
    assert found["wrong"] < found["hand wrong"]
