"""From the loss to weights: batches, objectives, Adam, what is kept of a training; imports `process`, `networks` and below.

A new objective is an `Objective`, three functions, and one line in `OBJECTIVES`.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
