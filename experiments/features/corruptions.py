"""Do the shipped features see what is wrong with images, and the more the stronger? Six families of corruption, five strengths.

    python experiments/features/corruptions.py [--data digits|fashion_mnist|both] [--images 5000] [--out docs/features.md]

Fréchet distance of corrupted images to all images of the data set. Exits with 1 where a stronger one is not farther away.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.metrics.features.networks import feature_network
from pfgm.metrics.frechet import frechet_distance, moments

FASHION = Path("/usr/share/datasets/fashion-mnist")


def labels_of(name: str) -> Tensor:
    """Class of every image (n,)."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return torch.as_tensor(load_digits().target)
    return torch.from_numpy(
        np.frombuffer(gzip.decompress((FASHION / "train-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8).astype(np.int64)
    )


def blur(x: Tensor, sd: float, g: torch.Generator) -> Tensor:
    """Gaussian blur, sd as a share of the image's width."""
    width = sd * x.shape[-1]
    u = torch.arange(-x.shape[-1] // 2, x.shape[-1] // 2 + 1, dtype=x.dtype)
    kernel = (-u.square() / (2 * width**2)).exp()
    kernel = (kernel / kernel.sum())[None, None, None]
    pad = len(u) // 2
    rows = F.conv2d(F.pad(x, (pad, pad, 0, 0), mode="replicate"), kernel)
    return F.conv2d(F.pad(rows, (0, 0, pad, pad), mode="replicate"), kernel.mT)


def noise(x: Tensor, sd: float, g: torch.Generator) -> Tensor:
    """White noise of sd, clamped to the range."""
    return (x + sd * torch.randn(x.shape, generator=g)).clamp(-1, 1)


def dimming(x: Tensor, share: float, g: torch.Generator) -> Tensor:
    """Brightness lowered by a share, towards black (−1)."""
    return (x + 1) * (1 - share) - 1


def occlusion(x: Tensor, side: float, g: torch.Generator) -> Tensor:
    """A grey square at a random place in each image, its side as a share of the image's."""
    size = round(side * x.shape[-1])
    top, left = (torch.randint(x.shape[-1] - size + 1, (len(x), 1, 1, 1), generator=g) for _ in range(2))
    u = torch.arange(x.shape[-1])
    inside = (u[:, None] >= top) & (u[:, None] < top + size) & (u >= left) & (u < left + size)
    return torch.where(inside, torch.zeros(()), x)


def mixing(x: Tensor, share: float, g: torch.Generator) -> Tensor:
    """A share of another image over each."""
    return (1 - share) * x + share * x[torch.randperm(len(x), generator=g)]


CORRUPTIONS: dict[str, tuple[Callable[[Tensor, float, torch.Generator], Tensor], tuple[float, ...]]] = {
    "blur (sd / width)": (blur, (0.05, 0.065, 0.08, 0.1, 0.12)),
    "noise (sd)": (noise, (0.05, 0.1, 0.2, 0.4, 0.8)),
    "dimming (share)": (dimming, (0.1, 0.2, 0.35, 0.5, 0.7)),
    "occlusion (side / width)": (occlusion, (0.25, 0.375, 0.5, 0.625, 0.75)),
    "mixing (share of another)": (mixing, (0.1, 0.2, 0.3, 0.4, 0.5)),
}
DROPPED = (1, 2, 4, 6, 8)


def table(name: str, n: int, reference_n: int | None) -> list[tuple[str, tuple[float, ...], list[float]]]:
    """(family, strengths, distances; the first of them without corruption) for each family."""
    data = load_data(DataConfig(name=name))
    network = feature_network(name, data.info.shape)
    reference = moments(network(data.raw[:reference_n]))
    g = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.raw), generator=g)
    x = data.raw[order[:n]].reshape(-1, *data.info.shape)

    def distance(images: Tensor) -> float:
        return frechet_distance(*moments(network(images.flatten(1))), *reference)

    clean, rows = distance(x), []
    for family, (corrupt, strengths) in CORRUPTIONS.items():
        rows.append((family, strengths, [clean, *(distance(corrupt(x, s, g)) for s in strengths)]))
    labels = labels_of(name)[order]
    kept = [data.raw[order[labels >= k][:n]] for k in DROPPED]
    rows.append(("dropped classes (of 10)", tuple(map(float, DROPPED)), [clean, *map(distance, kept)]))
    return rows


def markdown(name: str, n: int, rows: list[tuple[str, tuple[float, ...], list[float]]]) -> str:
    """One table a data set."""
    lines = [f"### `{name}`, {n} images", "", "| family | none | weak → strong |", "|---|---|---|"]
    for family, strengths, (clean, *distances) in rows:
        steps = ", ".join(f"{s:g}: **{d:.2f}**" for s, d in zip(strengths, distances, strict=True))
        lines.append(f"| {family} | {round(clean, 2) + 0.0:.2f} | {steps} |")  # + 0.0: no "-0.00"
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["digits", "fashion_mnist", "both"], default="both")
    parser.add_argument("--images", type=int, default=5000, help="images to corrupt (default: %(default)s)")
    parser.add_argument("--reference", type=int, metavar="N", help="compare with the first N images (default: with all)")
    parser.add_argument("--out", type=Path, help="write the tables to this file")
    options = parser.parse_args()
    texts, wrong = [], []
    for name in ["digits", "fashion_mnist"] if options.data == "both" else [options.data]:
        rows = table(name, options.images, options.reference)
        texts.append(markdown(name, min(options.images, 1797) if name == "digits" else options.images, rows))
        wrong += [f"{name}: {family}" for family, _, d in rows if any(b <= a for a, b in itertools.pairwise(d))]
        print(texts[-1], flush=True)
    if options.out is not None:
        intro = (
            "# What the shipped features see\n\nFréchet distance of corrupted images to all images of their data set, in the"
            " shipped features: it must rise\nwith the strength of every corruption. Made by"
            " `python experiments/features/corruptions.py --out docs/features.md`.\n\n"
        )
        options.out.write_text(intro + "\n\n".join(texts) + "\n")
    if wrong:
        print(f"not monotone: {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
