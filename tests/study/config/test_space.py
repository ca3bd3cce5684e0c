"""Distributions: quantiles, levels, membership, and specifications that cannot become one."""

from __future__ import annotations

import itertools
import math

import pytest

from study.config.space import RANGES, Distribution, SpaceError, parse, same


@pytest.mark.parametrize("kind", RANGES)
def test_values_stay_inside_and_reach_both_ends(kind: str) -> None:
    d = parse({kind: [2, 50]})
    values = [float(str(d.value(k / 1000))) for k in range(1000)]
    assert all(d.contains(v) for v in values)
    assert min(values) == pytest.approx(2) and max(values) == pytest.approx(50, rel=0.01)
    assert values == sorted(values)


@pytest.mark.parametrize(("kind", "middle"), [("uniform", 26.0), ("log_uniform", 10.0)])
def test_the_median_is_the_law_s(kind: str, middle: float) -> None:
    assert parse({kind: [2, 50]}).value(0.5) == pytest.approx(middle)


def test_every_integer_is_equally_likely() -> None:
    d = parse({"int_uniform": [1, 4]})
    counts = [sum(d.value((k + 0.5) / 400) == v for k in range(400)) for v in (1, 2, 3, 4)]
    assert counts == [100, 100, 100, 100]


def test_every_choice_is_equally_likely() -> None:
    d = parse({"choice": ["a", None, True, 1]})
    drawn = [d.value((k + 0.5) / 400) for k in range(400)]
    assert [sum(same(v, c) for v in drawn) for c in d.choices] == [100] * 4


def test_levels_are_spaced_as_the_law() -> None:
    assert parse({"uniform": [0, 1], "levels": 5}).grid() == [0, 0.25, 0.5, 0.75, 1]
    logs = [math.log(float(str(v))) for v in parse({"log_uniform": [0.01, 10], "levels": 4}).grid()]
    assert [b - a for a, b in itertools.pairwise(logs)] == pytest.approx([math.log(10)] * 3)
    assert parse({"log_int_uniform": [1, 3], "levels": 9}).grid() == [1, 2, 3]
    assert parse({"choice": [3, "all"]}).grid() == [3, "all"]


def test_membership() -> None:
    assert parse({"log_uniform": [1e-3, 0.1]}).contains(0.1)
    assert not parse({"uniform": [0, 1]}).contains(True)
    assert not parse({"uniform": [0, 1]}).contains("rule")
    assert not parse({"choice": [1, 2]}).contains(True)
    assert parse({"choice": [True]}).contains(True)


@pytest.mark.parametrize(
    "spec",
    [
        {"log_uniform": [0.1, 1.0], "levels": 3},
        {"int_uniform": [1, 5], "when": {"solver": ["euler", "heun2"]}},
        {"choice": ["a", None, 2]},
    ],
)
def test_dump_reads_back(spec: dict[str, object]) -> None:
    d = parse(spec)
    assert isinstance(d, Distribution)
    assert parse(d.dump()) == d


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (5, "must be a distribution"),
        ({}, "needs exactly one"),
        ({"choice": [1], "levels": 2}, "levels belongs to a range"),
        ({"choice": [[1, 2]]}, "only numbers, words"),
        ({"uniform": [1, "2"]}, "two numbers"),
        ({"uniform": [True, 2]}, "two numbers"),
        ({"log_int_uniform": [0, 5]}, "must be positive.*use int_uniform"),
        ({"uniform": [1, 2], "levels": True}, "levels must be an integer"),
        ({"uniform": [1, 2], "when": {}}, "one parent"),
        ({"uniform": [1, 2], "when": {"a": 1, "b": 2}}, "one parent"),
        ({"uniform": [1, 2], "step": 1}, "unknown key 'step'"),
    ],
)
def test_what_is_no_distribution(spec: object, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse(spec)
