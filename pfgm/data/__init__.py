"""Named data sets, in the units a field is trained in; imports `config`, `rules` and the plumbing.

``load_data`` reads, checks and centres; ``python -m pfgm.data describe NAME|PATH`` tells what is in a data set. The names
below load torch when they are first used. A new reader is one file in ``readers`` and one line in `pfgm.registry`.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
