"""The design sobol: a scrambled Sobol' sequence, which covers every parameter's range evenly."""

from __future__ import annotations

from scipy.stats import qmc

from study.plan.designs.drawn import Drawn


class Sobol(Drawn):
    """Every parameter reads a dimension of its own."""

    def sequence(self, seed: int, dim: int, n: int) -> list[list[float]]:
        """Return the first n points; whole powers of two are drawn, because only those are balanced."""
        engine = qmc.Sobol(dim, scramble=True, rng=seed)
        power = max(n - 1, 1).bit_length()
        points: list[list[float]] = engine.random_base2(power)[:n].tolist()
        return points


SOBOL = Sobol()
