"""The design random: independent draws."""

from __future__ import annotations

import numpy as np

from study.plan.designs.drawn import Drawn


class Random(Drawn):
    """Uniform in the unit cube."""

    def sequence(self, seed: int, dim: int, n: int) -> list[list[float]]:
        """Return n uniform points of a counter-based generator."""
        points: list[list[float]] = np.random.Generator(np.random.Philox(seed)).random((n, dim)).tolist()
        return points


RANDOM = Random()
