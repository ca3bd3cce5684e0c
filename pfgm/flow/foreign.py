"""What checkpoints of other people's code have in common: the data that they are of, and the refusal of tensors by name."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch

from pfgm.data.dataset import DataInfo
from pfgm.mistakes import Mistake

N_SHOWN, MAX_WORDS = 3, 200


def info_of_checkpoint(info: DataInfo | None, shape: tuple[int, ...], sd: float = float("nan")) -> DataInfo:
    """The facts of a checkpoint's data: ``info``, if it can be that of images of ``shape``, not centred.

    Args:
        info: of the data that were given; None: of images about which nothing else is known.
        shape: of the images that the network takes.
        sd: root mean square of their coordinates, where ``info`` does not tell it.
    Raises:
        Mistake: data that are centred.
        ValueError: data of another shape.
    """
    if info is None:
        unknown = float("nan")
        return DataInfo(
            name="images", shape=shape, mean=torch.zeros(prod(shape)), bounds=(-1.0, 1.0), n=0, mean_norm=unknown, sd=sd,
            hash="", center=False,
        )  # fmt: skip
    if info.center:
        raise Mistake("data.center", "the authors' checkpoints are trained on data that are not centred; set center: false")
    if info.shape != shape:
        raise ValueError(
            f"data: the checkpoint is of items of shape {shape}, those of {info.name} have {info.shape};"
            " give the data it was trained on"
        )
    return info


def one_line(text: object) -> str:
    """What a file says, fit for an error: one line of at most `MAX_WORDS` printable characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))[:MAX_WORDS]


def refuse(path: Path, what: str, names: Sequence[str], cure: str) -> None:
    """Raise a ValueError that names some of ``names``, if there are any."""
    if names:
        more = f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else ""
        raise ValueError(f"{path}: {what} {', '.join(map(one_line, names[:N_SHOWN]))}{more}; {cure}")
