"""The synthetic study under the name that the tests use."""

from analysis.testing import Truth, write_study

__all__ = ["Truth", "write_study"]
