"""Poisson flow generative models: data points are charges, a network learns their field in one more dimension.

``import pfgm`` is cheap; its names load torch when they are first used. The rooms, each above those that it imports:
``registry``, ``terminal``, ``memory``, ``rules``, ``config``; ``prior`` (the law at the top, latents), ``field`` (exact
arithmetic with points), ``data``, ``networks``, ``process`` (kernel, training levels, clock), ``sampling`` (latents to samples
and back), ``training``, ``flow`` (what can be sampled, and its files), ``metrics``.
"""

from pfgm.registry import public_names
from pfgm.terminal import guard_start

__getattr__, __dir__, __all__ = public_names(__name__, __file__)

guard_start()
