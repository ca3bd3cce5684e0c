"""Pictures of samples: a grid of the first images, or a scatter of points in the plane."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image
from torch import Tensor

from pfgm.data.dataset import DataInfo

N_IMAGES, PAPER, INK = 64, 255, 40
PLANE_PIXELS, PLANE_SPAN = 320, 4.0
"""A scatter shows the mean ± PLANE_SPAN data sd."""


def picture(samples: Tensor, info: DataInfo) -> bytes | None:
    """Return a PNG of samples (n, d) in stored units: grey or RGB images as a grid, 2-D points as dots; None for others."""
    if len(info.shape) == 3 and info.shape[0] in (1, 3):
        pixels = _grid(samples[:N_IMAGES].reshape(-1, *info.shape).nan_to_num(-1.0).numpy())
    elif info.dim == 2:
        pixels = _scatter(samples.numpy(), info)
    else:
        return None
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def _grid(images: np.ndarray) -> np.ndarray:
    """(n, C, H, W) in [−1, 1] → one uint8 picture, items enlarged to about 32 pixels, a line of paper between them."""
    n, channels, height, width = images.shape
    zoom = max(1, 32 // max(height, width))
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    h, w = height * zoom + 2, width * zoom + 2
    picture = np.full((rows * h, columns * w, channels), PAPER, np.uint8)
    values = np.clip((images + 1) * 127.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    for k, image in enumerate(values):
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
