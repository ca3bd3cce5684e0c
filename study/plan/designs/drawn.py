"""What the designs sobol and random share: points drawn from the space, each by its own sequence in the unit cube."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from study.config.group import activate
from study.config.study import StudyConfig
from study.plan.designs.design import SAMPLER_POINTS, TRIALS, Design
from study.plan.identity import digest
from study.plan.points import Declared
from study.plan.reach import drawn_lines

if TYPE_CHECKING:
    from study.plan.reach import Identity, Joint
    from study.plan.trial import Trial


class Drawn(Design):
    """A point of the unit cube becomes a point of the space by the quantile function of every parameter."""

    owns = ("trials", "sampler_points")
    fills_box = True

    @abstractmethod
    def sequence(self, seed: int, dim: int, n: int) -> list[list[float]]:
        """Return the first n ≥ 1 points of a sequence in [0, 1)^dim; a longer one begins with the same points."""

    def points(self, config: StudyConfig, group: str) -> list[Declared]:
        """Return the drawn points; with the default they are as many as the study file asks for."""
        searched = config.searched(group)
        n = asked(config, group) - 1
        seed = int(digest([config.design.seed, group], 8), 16)
        drawn = self.sequence(seed, len(searched), n) if n else []
        return [
            (config.design.name, activate(searched, {key: d.value(x) for (key, d), x in zip(searched.items(), u, strict=True)}))
            for u in drawn
        ]

    def reach_lines(self, config: StudyConfig, trials: Sequence[Trial], joint: Mapping[Identity, Joint] | None) -> list[str]:
        """Name the groups in which draws repeat."""
        trained = len({trial.point_id for trial in trials})
        sampled = max((len(trial.sampler_points) for trial in trials), default=0)
        return [
            *drawn_lines("train", "trials", trained, asked(config, "train"), config.search_train),
            *drawn_lines("sampler", "sampler_points", sampled, asked(config, "sampler"), config.search_sampler),
        ]


def asked(config: StudyConfig, group: str) -> int:
    """Return how many points of a group the study file asks for, the default included."""
    design = config.design
    return (design.trials or TRIALS) if group == "train" else (design.sampler_points or SAMPLER_POINTS)
