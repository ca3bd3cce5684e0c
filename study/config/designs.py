"""The names of all designs; a further one is one file in `study.plan.designs` and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgm.registry import Registry

if TYPE_CHECKING:
    from study.plan.designs.design import Design

DESIGNS: Registry[Design] = Registry(
    "design",
    one_at_a_time="study.plan.designs.one_at_a_time:ONE_AT_A_TIME",
    sobol="study.plan.designs.sobol:SOBOL",
    grid="study.plan.designs.grid:GRID",
    random="study.plan.designs.random:RANDOM",
    settle="study.plan.designs.settle:SETTLE",
    tpe="study.plan.designs.tpe:TPE",
)
"""All designs, in the order of messages."""
