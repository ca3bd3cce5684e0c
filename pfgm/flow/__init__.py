"""What can be sampled: a trained network, an exact field, the authors' checkpoints; and their files. Imports all but `metrics`.

A new flow is one class with `mean_source` and ``process`` (`pfgm.flow.base.Flow`).
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
