"""What a network learns and how its output is read: kernel, training levels, clock of the ODE, one process a class.

A new process is a class and one line in the registry.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
