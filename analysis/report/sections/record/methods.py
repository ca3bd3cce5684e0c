"""Say how the numbers were made, and what they cannot say."""

from __future__ import annotations

from analysis.report.blocks import Items, Section, Text
from analysis.report.study import Study
from analysis.rows.meta import is_given, settles
from study.rows.records import STATUSES


def section(study: Study) -> Section:
    """Say how the numbers were made, and what they cannot say."""
    points = (
        "Unit: one sampling (sample seed) of the field that was given; intervals hold for this field, not for others."
        if is_given(study.frame)
        else "Unit: the trained field (training point × train seed). Rows of one field depend on each other: averaged first.",
        "Means of FID, distances and NFE are geometric, with Student-t intervals on the log; shares are averaged as they are.",
        "one_at_a_time: training parameters compare fields, the variance of a configuration moderated by the study's; sampler"
        " parameters compare each unit with itself at the default sampler point.",
        "sobol, grid, random: marginal effects in quantile bins; the reference is the bin that holds the"
        " default. tpe is not rated.",
        "settle: as one_at_a_time, with bounds that hold at every look; the upper ones are not corrected for several values,"
        " because a parameter is robust only where all of them are inside."
        if settles(study.frame)
        else "Bounds are simultaneous at 95 % over the values of one parameter (Bonferroni), not over parameters.",
        "A failed, diverged, step-limited or timed-out cell counts as outside the tolerance at its value.",
        "Values of FID compare only for equal features and sample count; FID against the training data rewards"
        " memorising, so read"
        " precision, recall and the nearest-neighbour ratio beside it.",
        "Only tested values are rated. Another data set, network or training length may rate differently.",
    )
    statuses = Text(f"Statuses: {', '.join(STATUSES)}, and pending for a planned cell without a row.")
    return Section("methods", "Methods and limits", (Items(points), statuses))
