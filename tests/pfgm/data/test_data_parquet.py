"""Pictures in Parquet, as on the Hugging Face Hub."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.data.errors import DataError

pytestmark = pytest.mark.usefixtures("cache")


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def stored(data) -> np.ndarray:
    return data.raw.stored.numpy().reshape(-1, *data.info.shape)


def encoded(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def table(images: list[np.ndarray], column: str = "image", structs: bool = True) -> pa.Table:
    values = [{"bytes": encoded(i), "path": f"{k}.png"} if structs else encoded(i) for k, i in enumerate(images)]
    return pa.table({"label": pa.array(range(len(images))), column: values})


def from_parquet(path, **keys):
    return load_data(DataConfig(name="parquet", path=str(path), **keys))


@pytest.mark.parametrize("structs", [True, False])
def test_parquet_of_structs_and_of_bytes(tmp_path, structs):
    images = [pixels(8, 8, 3, seed) for seed in range(6)]
    pq.write_table(table(images, structs=structs), tmp_path / "a.parquet", row_group_size=4)
    data = from_parquet(tmp_path / "a.parquet")
    assert np.array_equal(stored(data), np.stack(images).transpose(0, 3, 1, 2))
    assert data.test is None
    assert from_parquet(tmp_path / "a.parquet", size=4, channels=1).info.shape == (1, 4, 4)


def test_parquet_splits_are_told_apart_by_name(tmp_path):
    images = [pixels(8, 8, 1, seed) for seed in range(12)]
    (tmp_path / "data").mkdir()
    pq.write_table(table(images[:4]), tmp_path / "data" / "train-00000-of-00002.parquet")
    pq.write_table(table(images[4:8]), tmp_path / "data" / "train-00001-of-00002.parquet")
    pq.write_table(table(images[8:]), tmp_path / "data" / "test-00000-of-00001.parquet")
    data = from_parquet(tmp_path)
    assert np.array_equal(stored(data)[:, 0], np.stack(images[:8]))
    assert len(data.test) == 4
    with pytest.raises(DataError, match=r"data\.holdout: parquet comes with a test split"):
        from_parquet(tmp_path, holdout=0.2)


def test_unusable_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(table([pixels(8, 8)] * 4, column="img"), path)
    with pytest.raises(DataError, match=r"data\.column: image is not there in .*; say column: img"):
        from_parquet(path)
    with pytest.raises(DataError, match=r"data\.column: label is int64 in .*; say column: img"):
        from_parquet(path, column="label")
    rows = [{"bytes": encoded(pixels(8, 8)), "path": None}] * 4 + [{"bytes": None, "path": "x.png"}, None]
    pq.write_table(pa.table({"image": rows}), path)
    with pytest.raises(
        DataError, match=r"2 of 6 pictures .* a.parquet row 4: no bytes, only the path 'x.png'; a.parquet row 5: null"
    ):
        from_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        from_parquet(path)
    with pytest.raises(DataError, match=r"no \.parquet file at"):
        from_parquet(tmp_path / "none")
    with pytest.raises(DataError, match="needs a file or a folder"):
        load_data(DataConfig(name="parquet"))
