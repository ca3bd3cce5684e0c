"""From search.yaml to `StudyConfig`: every section strict, every mistake one line with its place."""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
