"""The design grid: every combination of the levels of all parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from study.config.group import activate
from study.config.study import StudyConfig
from study.plan.designs.design import Design
from study.plan.points import Declared, PlanError
from study.plan.reach import level_lines

if TYPE_CHECKING:
    from study.plan.reach import Identity, Joint
    from study.plan.trial import Trial

MAX_GRID = 10_000
"""Most training or sampler points of a grid."""


class Grid(Design):
    """All combinations, inactive parameters left out of each."""

    def points(self, config: StudyConfig, group: str) -> list[Declared]:
        """Return the combinations; where a condition does not hold, several of them are one point."""
        searched = config.searched(group)
        levels = [distribution.grid() for distribution in searched.values()]
        return [("grid", activate(searched, dict(zip(searched, c, strict=True)))) for c in itertools.product(*levels)]

    def check(self, config: StudyConfig) -> None:
        """Refuse a grid of more than `MAX_GRID` points."""
        for group in ("train", "sampler"):
            n = math.prod(len(distribution.grid()) for distribution in config.searched(group).values())
            if n > MAX_GRID:
                text = f"the grid has {n} points, at most {MAX_GRID}; lower `levels`, or use design sobol"
                raise PlanError(("search", group), text)

    def reach_lines(self, config: StudyConfig, trials: Sequence[Trial], joint: Mapping[Identity, Joint] | None) -> list[str]:
        """Name the ranges that have fewer whole numbers than levels."""
        return level_lines(config)


GRID = Grid()
