"""From search.yaml to `StudyConfig`: every section strict, every mistake one line with its place. Imports `rows` and below.

A new section is one model in `study.config.sections`.
"""

from pfgm.registry import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
