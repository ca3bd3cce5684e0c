"""The former name of `pfgm.field.analytic`."""

from pfgm.field.analytic import *  # noqa: F403
