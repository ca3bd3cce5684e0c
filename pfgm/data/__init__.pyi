from pfgm.data.dataset import IMAGE_RANGE as IMAGE_RANGE
from pfgm.data.dataset import DataInfo as DataInfo
from pfgm.data.dataset import Dataset as Dataset
from pfgm.data.dataset import load_data as load_data
from pfgm.data.errors import DataError as DataError
from pfgm.data.points import Points as Points
from pfgm.registry import READERS as READERS
