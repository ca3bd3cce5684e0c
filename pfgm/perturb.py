"""The former name of `pfgm.process.training_points` and `pfgm.rules`."""

from pfgm.process.training_points import perturb
from pfgm.rules import height_max, rule_height, rule_M, rule_R_max, rule_T

__all__ = ["height_max", "perturb", "rule_M", "rule_R_max", "rule_T", "rule_height"]
