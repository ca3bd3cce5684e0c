"""Named data sets, in the units a field is trained in: readers behind one registry, points as they are stored.

``load_data`` reads, checks and centres; ``python -m pfgm.data describe NAME|PATH`` tells what is in a data set. The names
below load torch when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pfgm.data.dataset import IMAGE_RANGE as IMAGE_RANGE
    from pfgm.data.dataset import DataInfo as DataInfo
    from pfgm.data.dataset import Dataset as Dataset
    from pfgm.data.dataset import load_data as load_data
    from pfgm.data.errors import DataError as DataError
    from pfgm.data.points import Points as Points
    from pfgm.data.registry import READERS as READERS

_HOMES = {
    "IMAGE_RANGE": "dataset",
    "READERS": "registry",
    "DataError": "errors",
    "DataInfo": "dataset",
    "Dataset": "dataset",
    "Points": "points",
    "load_data": "dataset",
}
__all__ = ["IMAGE_RANGE", "READERS", "DataError", "DataInfo", "Dataset", "Points", "load_data"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"pfgm.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'pfgm.data' has no attribute '{name}'")
