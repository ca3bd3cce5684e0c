"""Many pictures → one array (N, C, H, W), cached; all that cannot be used are named together, and none is left out.

Two passes: the headers, which tell what size and channels the data set has, and the pixels.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import BinaryIO

import numpy as np
from PIL import Image

from pfgm.config import DataConfig
from pfgm.data.errors import DataError, Unlike
from pfgm.data.pictures.cache import Decoded
from pfgm.data.pictures.picture import BadPicture, Look, Wanted, decode, fitted_size, look
from pfgm.data.pictures.progress import progress

logger = logging.getLogger(__name__)

NAMED = 10
"""Pictures that an error names before it counts the rest."""
SIZE = 32
"""Sides to which pictures of many sizes are brought where nothing is said, in pixels."""
BLOCK = 128
"""Pictures that are decoded together, a few at a time."""

Picture = tuple[str, Callable[[], BinaryIO]]
"""A name, and a function that opens it."""
Pictures = Callable[[], Iterable[Picture]]
"""All pictures in their order; asked for twice."""


def decoded(pictures: Pictures, config: DataConfig, note: str = "") -> Decoded:
    """Look at every header, and be ready to decode.

    Args:
        pictures: the pictures; the same ones in the same order whenever they are asked for.
        config: size, crop and channels.
        note: what else to say of them.
    Raises:
        DataError: pictures that cannot be used. Those whose pixels are broken are found by the blocks, which then raise it.
    """
    crop = config.crop == "center" if config.crop is not None else config.size is not None
    names: list[str] = []
    seen: list[Look | BadPicture] = []
    for name, open_it in pictures():
        names.append(name)
        seen.append(_looked(open_it))
    if not names:
        raise DataError("data.path", f"no pictures in {config.path}; PNG, JPEG, GIF, BMP, WebP, TIFF and PPM are read")
    wanted = Wanted(config.size, crop, config.channels or _channels(names, seen, config))
    shapes = [_shape(item, config.size, crop) for item in seen]
    common = Counter(shape for shape in shapes if isinstance(shape, tuple)).most_common(1)
    if not common:
        raise _refusal([(n, str(b)) for n, b in zip(names, shapes, strict=True)], len(names), config)
    shape = common[0][0]
    bad = {n: reason for n, s in zip(names, shapes, strict=True) if (reason := _unlike(s, shape)) is not None}
    looks = [item for item in seen if isinstance(item, Look)]
    return Decoded(
        (len(names), wanted.channels, *shape),
        _blocks(pictures, wanted, bad, len(names), config, all(isinstance(shape, tuple) for shape in shapes)),
        lambda: _how(looks, wanted, shape, note),
    )


def _looked(open_it: Callable[[], BinaryIO]) -> Look | BadPicture:
    try:
        with warnings.catch_warnings(), open_it() as handle:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            return look(handle)
    except BadPicture as error:
        return error


def _channels(names: Sequence[str], seen: Sequence[Look | BadPicture], config: DataConfig) -> int:
    grey = [item.grey for item in seen if isinstance(item, Look)]
    if len(set(grey)) > 1:
        example = next(n for n, item in zip(names, seen, strict=True) if isinstance(item, Look) and item.grey)
        raise Unlike(
            "data.channels",
            f"{config.path} has {sum(grey)} grey ({example}, …) and {len(grey) - sum(grey)} colour pictures;"
            " say channels: 3 to repeat grey, or channels: 1 to make all grey",
            {"channels": 3},
        )
    return 1 if all(grey) and grey else 3


def _shape(item: Look | BadPicture, size: int | None, crop: bool) -> tuple[int, int] | BadPicture:
    if isinstance(item, BadPicture):
        return item
    try:
        return fitted_size(item, size, crop)
    except BadPicture as error:
        return error


def _unlike(shape: tuple[int, int] | BadPicture, common: tuple[int, int]) -> str | None:
    if isinstance(shape, BadPicture):
        return str(shape)
    if shape != common:
        return f"{shape[1]} × {shape[0]}, most are {common[1]} × {common[0]}; data.size brings all to one size"
    return None


def _blocks(
    pictures: Pictures, wanted: Wanted, bad: dict[str, str], total: int, config: DataConfig, sized: bool
) -> Iterator[np.ndarray]:
    """Decoded pictures in their order; at the end, or before, an error if any of them is bad.

    Args:
        bad: why pictures are bad by their headers, by name.
        sized: whether their sizes are all that is wrong with these.
    """
    unlike, bad, done = len(bad), dict(bad), 0

    def one(picture: Picture) -> np.ndarray | None:
        if picture[0] in bad:
            return None
        try:
            with picture[1]() as handle:
                return decode(handle, wanted)
        except BadPicture as error:
            bad[picture[0]] = str(error)
        return None

    stream = iter(pictures())
    threads = min(8, os.cpu_count() or 1)  # Pillow decodes and resizes outside the interpreter's lock
    with ThreadPoolExecutor(threads) as pool, progress("decoding pictures", total) as tell:
        while block := list(islice(stream, BLOCK)):
            made = [pixels for pixels in pool.map(one, block) if pixels is not None]
            done += len(block)
            tell(done)
            if not bad:
                yield np.stack(made)
    if bad or done != total:
        refusal = _refusal(sorted(bad.items()), total, config)
        raise Unlike("data.path", refusal.text, {"size": SIZE}) if sized and len(bad) == unlike else refusal


def _refusal(bad: Sequence[tuple[str, str]], total: int, config: DataConfig) -> DataError:
    named = "; ".join(f"{printable(name)}: {reason}" for name, reason in bad[:NAMED])
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return DataError(
        "data.path", f"{len(bad)} of {total} pictures in {config.path} cannot be used; convert or remove them: {named}{more}"
    )


def shortened(names: Sequence[str]) -> str:
    """The first names of files, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(printable(name) for name in names[:NAMED]) + more


def printable(name: str) -> str:
    """A file's name may hold line breaks, and bytes that are no text."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _how(looks: Sequence[Look], wanted: Wanted, shape: tuple[int, int], note: str) -> str:
    """Say in one sentence what was done."""
    parts = [f"{len(looks)} pictures"]
    if wanted.crop:
        parts.append("centre squares cut out" if any(s.width != s.height for s in looks) else "square as they are")
    sides = [min(s.width, s.height) for s in looks]
    if wanted.size is not None and any(side != wanted.size for side in sides):
        parts.append(f"resized to {shape[1]} × {shape[0]} by Lanczos' filter from {min(sides)} to {max(sides)} pixels")
        if enlarged := sum(side < wanted.size for side in sides):
            parts.append(f"{enlarged} of them enlarged")
    changes = Counter(change for s in looks for change in s.changes)
    grey = sum(s.grey for s in looks)
    changes["grey repeated as RGB"] = grey if wanted.channels == 3 else 0
    changes["colour made grey"] = len(looks) - grey if wanted.channels == 1 else 0
    parts += [f"{change} in {n}" for change, n in changes.items() if n]
    return ", ".join(parts + ([note] if note else []))
