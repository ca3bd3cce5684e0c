"""The plan: which cells a study measures, a pure function of the study file and its data.

A *cell* is (training point, train seed, sampler point, sample seed). A *trial* is one field — a training point and a train
seed — with all its sampler points and sample seeds. A design of `study.plan.designs` says which points there are.

It is made once, when a study is loaded; the driver hands it on to the `study.plan.worklist.Worklist`.
"""

from __future__ import annotations

from study.config.study import StudyConfig
from study.plan.designs.design import GrowingDesign, design_of
from study.plan.heights import check_extremes
from study.plan.points import points
from study.plan.trial import Trial, make_trial, train_seeds


def make_plan(config: StudyConfig) -> list[Trial]:
    """Return all trials of a study; none for a design that proposes its points as it goes.

    Raises:
        ConfigError: a point implies absurd heights, or is invalid on these data.
    """
    design = design_of(config)
    training, sampling = points(config, "train"), points(config, "sampler")
    check_extremes(config, [p for _, p in training], corners=design.fills_box)
    if isinstance(design, GrowingDesign):
        return []
    return [
        make_trial(config, role, point, seed, sampling)
        for index, (role, point) in enumerate(training)
        for seed in train_seeds(config, role, index)
    ]
