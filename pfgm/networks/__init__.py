"""Networks: (x, t) to (B, d + 1) numbers; imports `config` alone.

A new network is one file with a card, and one line in the registry.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
