"""What can be sampled: a trained network, an exact field, a checkpoint of the authors; and their files."""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
