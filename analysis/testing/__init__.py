"""Synthetic studies with a known truth, for tests, benchmarks, and trying a statistic before trusting it."""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
