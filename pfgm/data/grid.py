"""Pictures of samples: a grid of the first images, or a scatter of points in the plane."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pfgm.data.dataset import DataInfo

N_IMAGES, PAPER, INK = 64, 255, 40
N_CLASSES, PER_CLASS = 20, 10
"""Classes that are shown, a row each, and samples of each."""
PLANE_PIXELS, PLANE_SPAN = 320, 4.0
"""A scatter shows the mean ± PLANE_SPAN data sd."""


def picture(samples: Tensor, info: DataInfo, labels: Tensor | None = None) -> bytes | None:
    """Return a PNG of samples (n, d) in stored units: grey or RGB images as a grid, 2-D points as dots; None for others.

    Args:
        labels: the class of each sample (n,): the grid then has a row for each class, in their order.
    """
    if len(info.shape) == 3 and info.shape[0] in (1, 3):
        rows, columns = _chosen(len(samples), labels)
        images = samples[rows.clamp(min=0)].reshape(-1, *info.shape).nan_to_num(-1.0).numpy()
        pixels = _grid(images, columns, (rows >= 0).tolist())
    elif info.dim == 2:
        pixels = _scatter(samples.numpy(), info)
    else:
        return None
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def _chosen(n: int, labels: Tensor | None) -> tuple[Tensor, int]:
    """Numbers of the samples that are shown, row by row (−1: an empty place), and how many a row has."""
    present = [] if labels is None else labels.unique().tolist()
    if labels is None or len(present) < 2:
        shown = torch.arange(min(n, N_IMAGES))
        return shown, math.ceil(math.sqrt(len(shown)))
    by_class = [(labels == label).nonzero().flatten()[:PER_CLASS] for label in present[:N_CLASSES]]
    columns = max(len(rows) for rows in by_class)
    return torch.cat([F.pad(rows, (0, columns - len(rows)), value=-1) for rows in by_class]), columns


def _grid(images: np.ndarray, columns: int, there: list[bool]) -> np.ndarray:
    """(n, C, H, W) in [−1, 1] → one uint8 picture, items enlarged to about 32 pixels, a line of paper between them."""
    n, channels, height, width = images.shape
    zoom = max(1, 32 // max(height, width))
    rows = math.ceil(n / columns)
    h, w = height * zoom + 2, width * zoom + 2
    picture = np.full((rows * h, columns * w, channels), PAPER, np.uint8)
    values = np.clip((images + 1) * 127.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    for k, image in enumerate(values):
        if not there[k]:
            continue
        top, left = divmod(k, columns)[0] * h + 1, divmod(k, columns)[1] * w + 1
        picture[top : top + h - 2, left : left + w - 2] = image.repeat(zoom, 0).repeat(zoom, 1)
    return picture[:, :, 0] if channels == 1 else picture


def _scatter(points: np.ndarray, info: DataInfo) -> np.ndarray:
    picture = np.full((PLANE_PIXELS, PLANE_PIXELS), PAPER, np.uint8)
    finite = points[np.isfinite(points).all(1)]
    place = (finite - info.mean.numpy()) / (2 * PLANE_SPAN * info.sd) + 0.5
    inside = place[((place >= 0) & (place < 1)).all(1)]
    column, row = (inside * PLANE_PIXELS).astype(int).T
    picture[PLANE_PIXELS - 1 - row, column] = INK
    return picture
