"""Fields of points, exactly: no network is involved. A field is a function of x (B, d) and t (B,): its mean source, (B, d)."""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
