"""Targets: within 1e-6 of direct float64 differences on cases made to break them; a training step's, as its bound says."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers.hard_fields import GAMMA, direct_logits, direct_target, hard_points, normal, twins
from torch import Tensor

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.field import target as target_module
from pfgm.field.distances import chunk_elements
from pfgm.field.empirical import mean_source, normalized_target
from pfgm.field.plane import Plane
from pfgm.field.target import Doubts, training_source, training_target
from pfgm.process.training_points import perturb

pytestmark = pytest.mark.usefixtures("one_thread")


TARGETS = pytest.mark.parametrize("target", [normalized_target, training_target])


def worst_error(x: Tensor, t: Tensor, plane: Plane | Tensor, target: Callable[..., Tensor] = training_target) -> float:
    """Largest relative error of a row of a target; infinite where a value is not finite."""
    truth = direct_target(x, t, plane[:] if isinstance(plane, Plane) else plane)
    error = ((target(x, t, plane, GAMMA).double() - truth).norm(dim=1) / truth.norm(dim=1)).max()
    return error.nan_to_num(math.inf).item()


@pytest.mark.parametrize("d", [1, 2, 9, 64, 784, 3072])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 5000.0])
@TARGETS
def test_target_against_direct_differences(target: Callable[..., Tensor], d: int, scale: float) -> None:
    """Largest relative error over rows ≤ 1e-6, on duplicates, twins 0.01 apart and points 1e-5 from a source."""
    data = twins(d, scale, gap=1e-2)
    x, t = hard_points(data, scale)
    assert worst_error(x, t, data, target) <= 1e-6


@pytest.mark.parametrize("d", [1, 2, 9, 64, 784, 3072])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 5000.0])
def test_a_target_in_several_chunks(d: int, scale: float) -> None:
    """The same where no chunk holds all sources."""
    data = twins(d, scale, gap=1e-2)
    x, t = hard_points(data, scale)
    several = Plane(torch.cat([data, data + 3 * scale, data - 3 * scale]), elements=256)
    assert len(list(several.chunks(1))) == 2
    assert worst_error(x, t, several) <= 1e-6


@pytest.mark.parametrize("d", [64, 3072])
@TARGETS
def test_twins_closer_than_the_matrix_product_resolves(target: Callable[..., Tensor], d: int) -> None:
    """Gap 1e-3 at scale 5000 about an offset of 15,000: rows are recomputed by exact differences, to 1e-6."""
    data = twins(d, 5000.0, gap=1e-3) + 15_000.0
    x, t = hard_points(data, 5000.0)
    assert worst_error(x, t, data, target) <= 1e-6


@pytest.mark.parametrize("d", [2, 3072])
@TARGETS
def test_heights_a_million_times_sigma(target: Callable[..., Tensor], d: int) -> None:
    """At (1+τ)^M = 1e6 the target is finite and accurate."""
    data = twins(d, 1.0, gap=1e-2)
    t = 0.01 * 1e6 * normal(16, seed=4).abs()
    assert worst_error(data[:16] + normal(16, d, seed=5) * t[:, None], t, data, target) <= 1e-6


def digits(offset: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """(x, t) of 2,000 training points of digits, and the sources, float32."""
    data = load_data(DataConfig(name="digits")).points[:]
    g = torch.Generator().manual_seed(0)
    x, t = perturb(data[torch.randint(len(data), (2000,), generator=g)], sigma=0.1, tau=0.03, M=121, generator=g)
    return x + offset, t, data + offset


def errors_of_float32(x: Tensor, t: Tensor, plane: Plane, n_aug: float) -> tuple[Tensor, Tensor]:
    """Relative error of each row that nobody computed again, and which rows the bound calls good."""
    x, t = x.double(), t.double()
    e_hat, _, good, _ = target_module._seen(x, t, [plane], n_aug, torch.float32)
    truth = torch.cat([x - mean_source(x, t, plane, n_aug=n_aug), t[:, None]], 1)
    return (e_hat - truth).norm(dim=1) / truth.norm(dim=1), good


CLOUDS = {
    "digits": lambda: digits(),
    "digits off the origin": lambda: digits(3.0),
    "16 coordinates": lambda: cloud(16, 4096),
    "64 coordinates": lambda: cloud(64, 3000),
    "784 coordinates": lambda: cloud(784, 1000),
}


def cloud(d: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """(x, t) of 500 training points of a normal cloud, and the sources."""
    data, g = normal(n, d), torch.Generator().manual_seed(1)
    x, t = perturb(data[torch.randint(n, (500,), generator=g)], sigma=0.05, tau=0.03, M=180, generator=g)
    return x, t, data


@pytest.mark.parametrize("n_aug", [1.0, 128.0, math.inf])
@pytest.mark.parametrize("name", CLOUDS)
def test_float32_rows_that_the_bound_calls_good_are(name: str, n_aug: float) -> None:
    """A third of the tolerance, and most rows of a batch are called good; the bound is at least 1.6 times the error."""
    x, t, data = CLOUDS[name]()
    error, good = errors_of_float32(x, t, Plane(data), n_aug)
    assert float(error[good].max()) < target_module.TOLERANCE / 3
    assert float(good.double().mean()) > (0.8 if name == "16 coordinates" else 0.99)
    _, _, _, share = target_module._seen(x.double(), t.double(), [Plane(data)], n_aug, torch.float32)
    assert float((error - 2e-9 - share * target_module.TOLERANCE / 1.6).max()) < 0


def test_sums_in_float32_would_fail() -> None:
    """Three clusters away from the centre: exact weights, but sums in float32, are off by more than 1e-6; the target is not."""
    one = twins(9, 1.0, gap=1e-2)
    x, t = hard_points(one, 1.0)
    data = torch.cat([one, one + 3.0, one - 3.0])
    weights = torch.softmax(direct_logits(x, t, data), 1)
    y_bar = (weights.float() @ data.float()).double()
    error = (y_bar - weights @ data).norm(dim=1) / torch.cat([x - weights @ data, t[:, None]], 1).norm(dim=1)
    assert float(error[t >= 1.0].max()) > 1e-6
    assert worst_error(x, t, data) <= 1e-7


@pytest.mark.parametrize("n_aug", [0.5, 1.0, 128.0, math.inf])
@pytest.mark.parametrize("d", [2, 64])
def test_mean_source_of_every_kernel(d: int, n_aug: float) -> None:
    """1e-6 of ‖(x − ȳ, t)‖ from the float64 mean source, of one chunk and of many, a part and the whole."""
    data, x = normal(3000, d), normal(40, d, seed=1)
    t = torch.linspace(0.3, 3.0, 40, dtype=torch.float64)
    exact = mean_source(x, t, data, n_aug=n_aug)
    size = torch.hypot((x - exact).norm(dim=1), t)
    for plane in (
        data,
        Plane(data),
        Plane(data, elements=300 * d),
        Plane(torch.cat([data, data + 1])).part(torch.arange(3000)),
    ):
        assert float(((training_source(x, t, plane, n_aug=n_aug) - exact).norm(dim=1) / size).max()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_have_the_dtype_of_the_points_and_autocast_changes_nothing(dtype: torch.dtype) -> None:
    data, x, t = normal(50, 9).to(dtype), normal(6, 9, seed=1).to(dtype), torch.full((6,), 0.5, dtype=dtype)
    plain = training_target(x, t, data, GAMMA)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(training_target(x, t, data, GAMMA), plain)
    assert plain.dtype == training_source(x, t, data).dtype == dtype


def test_a_plane_gives_what_its_sources_give_and_is_made_once() -> None:
    """The same bits for a tensor and a plane, the first time and the second; its sources are taken through it."""
    data, x, t = normal(500, 20).float(), normal(30, 20, seed=1).float(), torch.linspace(0.1, 2, 30)
    plane = Plane(data)
    once, kept = training_target(x, t, plane, GAMMA), plane._kept
    assert torch.equal(once, training_target(x, t, plane, GAMMA)) and plane._kept is kept
    assert torch.equal(once, training_target(x, t, data, GAMMA))
    assert torch.equal(plane[3:7], data[3:7]) and len(plane) == 500 and plane.shape == data.shape
    assert plane.dtype == torch.float32 and plane.ndim == 2 and plane.is_floating_point() and plane.device == data.device


@pytest.mark.parametrize("d", [2, 64])
@pytest.mark.parametrize("silent", [False, True])
def test_blocks_over_planes_of_their_own(d: int, silent: bool) -> None:
    """Four blocks, two of which share a plane, near duplicates in one of them: 1e-6 of each block alone, with γ of its own."""
    data = twins(d, 1.0, gap=1e-6, n=800)
    whole = Plane(data)
    planes = [whole, whole.part(torch.arange(200)), whole, whole.part(torch.arange(500, 800))]
    near = (data[:5] + data[200:205]) / 2
    x = torch.cat([near, data[:35] + 0.3 * normal(35, d, seed=3)])
    t = torch.cat([torch.full((5,), 1e-6, dtype=torch.float64), torch.linspace(0.1, 3.0, 35, dtype=torch.float64)])
    gamma = torch.tensor([5.0, 1.0, 2.0, 9.0], dtype=torch.float64).repeat_interleave(10)
    doubts = Doubts("cpu") if silent else None
    found = training_target(x, t, planes, gamma, doubts=doubts)
    source = training_source(x, t, planes, doubts=doubts)
    for k, plane in enumerate(planes):
        rows = slice(10 * k, 10 * k + 10)
        exact = normalized_target(x[rows], t[rows], plane[:], float(gamma[10 * k]))
        if not (silent and k == 0):  # five doubtful rows are more than are mended
            assert float(((found[rows] - exact).norm(dim=1) / exact.norm(dim=1)).max()) < 1e-6
        torch.testing.assert_close(source[rows], mean_source(x[rows], t[rows], plane[:]), rtol=0, atol=1e-5)
    wrong = training_target(x, t, list(reversed(planes)), gamma)
    assert float(((wrong - found).norm(dim=1) / found.norm(dim=1)).max()) > 1e-3


@pytest.mark.parametrize("d", [64, 784, 3072])
def test_a_gpu_takes_the_authors_reference_batch_in_one_chunk(d: int) -> None:
    """4,096 sources: one chunk there; on a CPU as many as its caches ask for."""
    points = torch.zeros(4096, d)
    assert len(list(Plane(points, asks=False, elements=chunk_elements("cuda")).chunks(128))) == 1
    assert len(list(Plane(points, asks=False, elements=chunk_elements("cpu")).chunks(128))) == {64: 1, 784: 4, 3072: 13}[d]


def test_refusals() -> None:
    """What the exact target refuses is refused here."""
    x, data = torch.zeros(4, 3), torch.zeros(5, 3)
    with pytest.raises(ValueError, match="gamma must be at least 0"):
        training_target(x, 1.0, data, -1.0)
    with pytest.raises(ValueError, match="every height t must be positive"):
        training_source(x, torch.tensor([1.0, 0.0, 1.0, 1.0]), data)
    with pytest.raises(ValueError, match="x has d = 3 and data d = 2"):
        training_source(x, 1.0, data[:, :2])


def test_rows_are_mended_while_doubts_say_so() -> None:
    """A pair of sources 1e-7 apart: exact while ``mends``, counted and left as they are without."""
    data = normal(300, 784)
    data[1] = data[0] + 1e-7 * torch.nn.functional.normalize(normal(784, seed=2), dim=0)
    x, t = (data[:1] + data[1:2]) / 2, torch.full((1,), 1e-7, dtype=torch.float64)
    exact, doubts = normalized_target(x, t, data, GAMMA), Doubts("cpu")
    error = {}
    for doubts.mends in (True, False):
        error[doubts.mends] = float((training_target(x, t, data, GAMMA, doubts=doubts) - exact).norm() / exact.norm())
    assert int(doubts.most) == 1
    assert error[True] < 1e-9 < 1e-6 < error[False]
