"""Rows of a study → statistics → plots → report. Needs no torch and no ray: it runs on a laptop that has neither.

Names are imported on first use, so that ``import analysis`` costs nothing. The rooms, each above those that it imports:

* ``rows``: a study as a frame;
* ``statistics``: frame → frame of numbers;
* ``robustness``: what one parameter does;
* ``theory``: what papers and exact fields predict;
* ``plots``: frame → Axes;
* ``report``: a study in words;
* beside them ``testing`` (studies with a known truth) and ``power`` (what more seeds would tell).
"""

from pfgm.registry import public_names
from pfgm.terminal import guard_start

__getattr__, __dir__, __all__ = public_names(__name__, __file__)

guard_start()
