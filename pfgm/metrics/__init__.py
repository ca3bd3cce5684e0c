"""Distances between samples and data, on un-centred samples clamped to the data's range; may import every other room.

A new metric is one card.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
