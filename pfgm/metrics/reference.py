"""What samples are compared with: statistics of a data set, computed once per (data, features, number of samples) and kept.

Moments are summed in float64 over chunks, so the memory does not grow with the data; bootstraps and halves are of at most
`MAX_DRAWN` points, single features are kept of `N_KEPT`. Every Fréchet distance comes with three anchors for the same data,
features and number n of samples: `floor`, n points of a bootstrap of the data; `half`, one random half of the data against the
other; `gaussian`, n samples of the full-covariance Gaussian fitted to the points themselves (where points or coordinates are at
most `MAX_GAUSSIAN_DIM`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from pfgm.data.dataset import Dataset
from pfgm.data.points import Points
from pfgm.field.sources import Sources
from pfgm.flow.packed import Damaged, pack_tensors, unpack_tensors
from pfgm.metrics.features.networks import FeatureNetwork
from pfgm.metrics.frechet import Moments, frechet_distance, moments
from pfgm.metrics.neighbours import K_NEAREST, median_own_distance, own_distance

logger = logging.getLogger(__name__)

N_BOOTSTRAP, N_HALVES, N_GAUSSIANS = 10, 5, 3
N_ANCHORS = N_BOOTSTRAP + N_HALVES + N_GAUSSIANS
"""Fréchet distances of the three anchors."""
MAX_DRAWN = 100_000
"""Most points that bootstraps and halves are drawn from; the moments are of all."""
N_KEPT = 10_000
"""Most points whose single features are kept, for distances by kernels."""
MAX_GAUSSIAN_DIM = 4096
"""Most coordinates, or points, of the Gaussian anchor: the smaller number is the rank of its covariance."""
CHUNK = 4096


class Cache(Protocol):
    """A place that keeps bytes by name, beyond this process."""

    def load(self, name: str) -> bytes | None:
        """Return what was saved under ``name``, if anything."""

    def save(self, name: str, content: bytes) -> None:
        """Keep ``content`` under ``name``."""


class FeatureStatistics(NamedTuple):
    """Moments of the data's features, those of held-out data (empty without), anchors (3,)."""

    mean: Tensor
    covariance: Tensor
    test_mean: Tensor
    test_covariance: Tensor
    anchors: Tensor  # floor, half, gaussian; NaN: not computed

    @property
    def train(self) -> Moments:
        """Mean and covariance over the training data."""
        return Moments(self.mean, self.covariance)

    @property
    def test(self) -> Moments | None:
        """Mean and covariance over held-out data, where there are any."""
        return Moments(self.test_mean, self.test_covariance) if len(self.test_mean) else None


class KeptFeatures(NamedTuple):
    """Features of some points of the data, in random order (m, k)."""

    features: Tensor


class Radii(NamedTuple):
    """Balls of precision and recall: distance of each point to its k-th nearest other (m,)."""

    radius: Tensor


class OwnDistance(NamedTuple):
    """Median distance of the data's points to their nearest other one, shape ()."""

    median: Tensor


def feature_statistics(
    data: Dataset, network: FeatureNetwork, n: int, cache: Cache | None = None, anchors: bool = True
) -> FeatureStatistics:
    """Statistics of the data under a feature network, with anchors for ``n`` samples; without ``anchors``, nothing is kept."""
    if not anchors:
        return _feature_statistics(data, network, n, anchors=False)
    drawn = [N_BOOTSTRAP, N_HALVES, N_GAUSSIANS, MAX_DRAWN, MAX_GAUSSIAN_DIM]
    key = (data.info.hash, _hash_of(data.test), network.label, n, drawn)
    return kept(cache, "features", key, FeatureStatistics, lambda: _feature_statistics(data, network, n))


def kept_features(data: Dataset, network: FeatureNetwork, cache: Cache | None = None) -> Tensor:
    """Features of at most `N_KEPT` points of the data, in random order, shape (m, k)."""

    def compute() -> KeptFeatures:
        order = torch.randperm(len(data.raw), generator=torch.Generator().manual_seed(1))[:N_KEPT]
        return KeptFeatures(network(data.raw[order]).float())

    return kept(cache, "kept", (data.info.hash, network.label, N_KEPT), KeptFeatures, compute).features


def _hash_of(points: Points | None) -> str | None:
    """Content of held-out points; the data's own hash is of what is trained on."""
    if points is None:
        return None
    digest = hashlib.sha256()
    points.feed(digest)
    return digest.hexdigest()


def data_radii(points: Sources, key: tuple[object, ...], cache: Cache | None = None) -> Tensor:
    """Distance of each point (m, d) to its `K_NEAREST`-th nearest other, shape (m,); ``key`` names the points."""
    return kept(cache, "radii", (*key, K_NEAREST), Radii, lambda: Radii(own_distance(points, K_NEAREST))).radius


def own_median(data: Dataset, points: Sources, cache: Cache | None = None) -> float:
    """`median_own_distance` of the data, whose decoded points are ``points``."""
    made = kept(cache, "own", (data.info.hash,), OwnDistance, lambda: OwnDistance(torch.tensor(median_own_distance(points))))
    return float(made.median)


S = TypeVar("S", FeatureStatistics, KeptFeatures, Radii, OwnDistance)


def kept(cache: Cache | None, kind: str, key: tuple[object, ...], made: type[S], compute: Callable[[], S]) -> S:
    """A statistic from the cache, else computed and put there; a damaged entry is made again."""
    name = f"{kind}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.tensors"
    content = None if cache is None else cache.load(name)
    if content is not None:
        try:
            return made(**unpack_tensors(content))
        except (Damaged, TypeError) as error:
            logger.warning("%s: %s; it is computed again", name, error)
    statistic = compute()
    if cache is not None:
        cache.save(name, pack_tensors(statistic._asdict()))
    return statistic


def _feature_statistics(data: Dataset, network: FeatureNetwork, n: int, anchors: bool = True) -> FeatureStatistics:
    g = torch.Generator().manual_seed(0)
    total = len(data.raw)
    keep = torch.ones(total, dtype=torch.bool)
    if total > MAX_DRAWN:
        keep[torch.randperm(total, generator=g)[MAX_DRAWN:]] = False
    features: list[Tensor] = []

    def part(start: int) -> Tensor:
        made = network(data.raw[start : start + CHUNK])
        features.append(made[keep[start : start + CHUNK].to(made.device)])
        return made

    train = streamed_moments(part, total)
    test = Moments(torch.empty(0), torch.empty(0))
    if data.test is not None:
        held_out = data.test
        test = streamed_moments(lambda start: network(held_out[start : start + CHUNK]), len(held_out))
    found = _anchors(data, network, n, torch.cat(features), train, g) if anchors else (math.nan,) * 3
    return FeatureStatistics(*train, *test, torch.tensor(found, dtype=torch.float64))


def streamed_moments(part: Callable[[int], Tensor], n: int) -> Moments:
    """`Moments` of ``n`` rows in parts of `CHUNK`, float64; the sums of a covariance are about the first part's mean."""
    centre = total = outer = torch.empty(0)
    for start in range(0, n, CHUNK):
        x = part(start).double()
        if n < x.shape[1]:
            return moments(torch.cat([x, *(part(later).double() for later in range(CHUNK, n, CHUNK))]))
        if start == 0:
            centre = x.mean(0)
            total, outer = torch.zeros_like(centre), torch.zeros(len(centre), len(centre), dtype=x.dtype, device=x.device)
        x = x - centre
        total += x.sum(0)
        outer.addmm_(x.T, x)
    return Moments(centre + total / n, (outer - torch.outer(total, total) / n) / (n - 1))


def _anchors(
    data: Dataset, network: FeatureNetwork, n: int, features: Tensor, train: Moments, g: torch.Generator
) -> tuple[float, float, float]:
    """floor, half and gaussian: see the module's docstring."""
    total = len(features)

    def of(rows: Tensor) -> Moments:
        rows = rows.to(features.device)
        return streamed_moments(lambda start: features[rows[start : start + CHUNK]], len(rows))

    bootstrap = [frechet_distance(*of(torch.randint(total, (n,), generator=g)), *train) for _ in range(N_BOOTSTRAP)]
    halves = []
    for _ in range(N_HALVES):
        order = torch.randperm(total, generator=g)
        halves.append(frechet_distance(*of(order[: total // 2]), *of(order[total // 2 :])))
    return _mean(bootstrap), _mean(halves), _gaussian_anchor(data, network, n, train, g)


def _gaussian_anchor(data: Dataset, network: FeatureNetwork, n: int, train: Moments, g: torch.Generator) -> float:
    if min(data.info.dim, len(data.raw)) > MAX_GAUSSIAN_DIM:
        return math.nan
    mean, spread = streamed_moments(lambda start: data.raw[start : start + CHUNK], len(data.raw))
    if len(spread) == len(mean):
        values, vectors = torch.linalg.eigh(spread)
        spread = (vectors * values.clamp(min=0).sqrt()).T
    distances = []
    for _ in range(N_GAUSSIANS):
        noise = torch.randn(n, len(spread), generator=g, dtype=torch.float64).to(spread)
        x = (mean + noise @ spread).float()
        x = x if data.info.bounds is None else x.clamp(*data.info.bounds)
        distances.append(frechet_distance(*moments(network(x)), *train))
    return _mean(distances)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
