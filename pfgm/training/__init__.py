"""From the loss to weights: batches, objectives, Adam, what is kept of a training in progress."""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
