"""The law of the points at t = T, and latents: coordinates that no law needs. Imports nothing of ours.

A new law is one class that maps latents to points and back.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
