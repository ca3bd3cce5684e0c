"""Make synthetic studies with a known truth, for tests and benchmarks.

Imports `rows` alone. A new kind of truth is one field of `Truth`.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
