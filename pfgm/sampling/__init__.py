"""From latents to samples and back: solvers, likelihood, disturbances; imports `process`, `prior` and what is below.

A new solver is one function and one line.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
