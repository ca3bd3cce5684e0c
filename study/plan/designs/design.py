"""What the planner asks of a design.

A design says once what is true of it: which keys of the study file's ``design`` belong to it, whether its points come near
the corners of the space, and whether its rows can be rated. Nothing else in the package asks for a design by its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from study.config.designs import DESIGNS
from study.config.study import StudyConfig

if TYPE_CHECKING:
    from study.plan.points import Declared
    from study.plan.reach import Identity, Joint
    from study.plan.trial import Trial

TRIALS, SAMPLER_POINTS = 32, 8
"""What ``design`` asks for where it does not say."""


class Design(ABC):
    """A design whose points are all known before the first one is measured."""

    owns: ClassVar[tuple[str, ...]] = ()
    """Keys of ``design`` that have a meaning under it; under other designs they are refused."""
    fills_box: ClassVar[bool] = False
    """Whether its points may come near any corner of the space, so that the plan checks the corners too."""
    rated: ClassVar[bool] = True
    """Whether its rows tell how robust a parameter is; those of a search for the best do not."""

    @abstractmethod
    def points(self, config: StudyConfig, group: str) -> list[Declared]:
        """Return (role, point) of ``train`` or ``sampler`` beside the default; called where the group is searched."""

    def check(self, config: StudyConfig) -> None:  # noqa: B027  # a design may have nothing to refuse
        """Refuse a study that the design cannot plan.

        Raises:
            PlanError: names the key of the study file at fault.
        """

    def reach_lines(self, config: StudyConfig, trials: Sequence[Trial], joint: Mapping[Identity, Joint] | None) -> list[str]:
        """Return what the plan says where the space has fewer points than the design asks for."""
        return []


class Proposals(ABC):
    """What a growing design has proposed in a study, and what it learnt of it; in memory while a driver runs."""

    @abstractmethod
    def add(self, trials: Sequence[Trial]) -> None:
        """Take in trials that were proposed, by `next` or by an earlier start."""

    @abstractmethod
    def running_cells(self) -> list[str]:
        """Return the cells whose rows `next` would look at: those that had none so far."""

    @abstractmethod
    def next(self, rows: Mapping[str, Mapping[str, object]]) -> list[Trial] | None:
        """Return the trials of the next point or round, none when there is no new one; None while rows of the last are missing.

        Args:
            rows: measured rows by cell_id, with the columns that the design named.
        """

    def lines(self, rows: Mapping[str, Mapping[str, object]]) -> list[str]:
        """Return what can be said of the study once these rows are measured."""
        return []


class GrowingDesign(Design):
    """A design that proposes one point after another, or round after round, from the rows that exist."""

    def points(self, config: StudyConfig, group: str) -> list[Declared]:
        """Return no point: none but the default is known ahead."""
        return []

    def asked(self, config: StudyConfig) -> int | None:
        """Return how many points the study file asks for; None for a design of rounds, which ends by itself."""
        return config.design.trials or TRIALS

    def columns(self, config: StudyConfig) -> list[str]:
        """Return the columns of measured rows that its proposals rest on, beside ``status``."""
        return []

    @abstractmethod
    def begin(self, config: StudyConfig, joint: Mapping[Identity, Joint] | None) -> Proposals:
        """Return the proposals of a study, none so far.

        Args:
            joint: every point there is (`study.plan.reach`), where they can be counted.
        """

    @abstractmethod
    def restored(self, config: StudyConfig, rows: Iterable[Mapping[str, object]]) -> list[Trial]:
        """Return the trials of the points that earlier starts proposed, from the rows that were written down."""


def design_of(config: StudyConfig) -> Design:
    """Return the design of a study."""
    return DESIGNS[config.design.name]


def grows(name: object) -> bool:
    """Tell whether a design of this name proposes its points as it goes; False where there is no such design."""
    return isinstance(name, str) and name in DESIGNS and isinstance(DESIGNS[name], GrowingDesign)


def owners(key: str) -> list[str]:
    """Return the names of the designs to which a key of ``design`` belongs."""
    return [name for name, design in DESIGNS.items() if key in design.owns]
