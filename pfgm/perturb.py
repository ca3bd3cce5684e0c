"""The former name of `pfgm.process.training_points`."""

from pfgm.process.training_points import *  # noqa: F403
