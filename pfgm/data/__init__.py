"""Named data sets, in the units a field is trained in: readers behind one registry, points as they are stored.

``load_data`` reads, checks and centres; ``python -m pfgm.data describe NAME|PATH`` tells what is in a data set.
"""

from pfgm.data.dataset import IMAGE_RANGE, DataInfo, Dataset, load_data
from pfgm.data.errors import DataError
from pfgm.data.points import Points
from pfgm.data.registry import READERS

__all__ = ["IMAGE_RANGE", "READERS", "DataError", "DataInfo", "Dataset", "Points", "load_data"]
