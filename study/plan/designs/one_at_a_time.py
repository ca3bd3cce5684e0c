"""The design one_at_a_time: from the default point, an arm for every parameter that varies it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from study.config.study import StudyConfig
from study.plan.designs.design import Design
from study.plan.points import Declared
from study.plan.reach import level_lines
from study.plan.role import Role

if TYPE_CHECKING:
    from study.plan.reach import Identity, Joint
    from study.plan.trial import Trial


class OneAtATime(Design):
    """Every level of a parameter, the others at their defaults."""

    owns = ("arm_seeds",)

    def points(self, config: StudyConfig, group: str) -> list[Declared]:
        """Return the arms, one parameter after another."""
        return [
            (Role.arm(key), config.group(group).moved(key, value))
            for key, distribution in config.searched(group).items()
            for value in distribution.grid()
        ]

    def reach_lines(self, config: StudyConfig, trials: Sequence[Trial], joint: Mapping[Identity, Joint] | None) -> list[str]:
        """Name the ranges that have fewer whole numbers than levels."""
        return level_lines(config)


ONE_AT_A_TIME = OneAtATime()
