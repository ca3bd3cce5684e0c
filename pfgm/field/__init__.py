"""Fields of points, exactly, without a network; imports nothing of ours but `memory`.

A new field is one function of x (B, d) and t (B,) in a file of its own: its mean source has shape (B, d).
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
