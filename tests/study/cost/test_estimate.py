"""What a study will cost, in words that fit its size."""

from __future__ import annotations

import pytest

from study.cost.estimate import in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (59, "59 s"),
        (89, "89 s"),
        (90, "2 min"),
        (4000, "67 min"),
        (40_000, "11 hours"),
        (4e6, "46 days"),
        (2.4e9, "27,778 days"),
    ],
)
def test_a_cost_has_a_unit_of_its_size(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
