"""A study: search.yaml → plan → Ray Tune trials → rows. ``import study`` is cheap; its names load torch when first used.

The rooms, each above those that it imports: ``rows`` (what is true), ``config`` (from YAML), ``fields`` (trained and given
ones), ``plan`` (cells and trials), ``checks`` and ``load``, ``measure`` (one trial), ``host`` (this machine), ``cost``,
``cluster`` (the only room that imports ray), ``describe``, ``run``.
"""

from pfgm.registry import public_names
from pfgm.terminal import guard_start

__getattr__, __dir__, __all__ = public_names(__name__, __file__)

guard_start()
