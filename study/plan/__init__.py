"""Which cells there are, their names and their order."""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
