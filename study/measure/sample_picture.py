"""The picture of a row's samples."""

from __future__ import annotations

from torch import Tensor

from pfgm.data.dataset import DataInfo
from pfgm.data.grid import picture
from study.rows.storage import Place


def sample_picture(samples: Tensor, info: DataInfo, path: Place, labels: Tensor | None = None) -> None:
    """Write a PNG of samples (n, d) in stored units, those of known classes (n,) class by class (`pfgm.data.grid`)."""
    content = picture(samples, info, labels)
    if content is not None:
        path.write(content)
