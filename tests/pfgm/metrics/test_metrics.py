"""Metrics against closed forms and independent computations."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree
from sklearn.datasets import load_digits

import pfgm.metrics.features.classifiers as classifiers
import pfgm.metrics.neighbours as neighbours
from pfgm.config import DataConfig, EvaluateConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.flow.trained import Field
from pfgm.metrics.evaluator import Evaluator
from pfgm.metrics.features.networks import feature_network
from pfgm.metrics.frechet import Moments, frechet_at_infinity, frechet_distance, moments
from pfgm.metrics.kernels import energy_distance
from pfgm.metrics.neighbours import nearest_distance, neighbour_statistics, own_distance, precision_recall
from pfgm.metrics.sliced import sliced_wasserstein
from pfgm.training.trainer import Trainer


def normal(n: int, k: int, seed: int) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(k: int, seed: int) -> np.ndarray:
    a = np.random.default_rng(seed).standard_normal((k, k + 3))
    return a @ a.T / k


def test_frechet_of_equal_covariances_is_the_mean_gap():
    c = covariance(20, 0)
    m = np.random.default_rng(1).standard_normal(20)
    assert frechet_distance(m, c, np.zeros(20), c) == pytest.approx(float(m @ m), rel=1e-9)


@pytest.mark.parametrize(("n_1", "n_2"), [(20, 30), (20, 200), (200, 30), (90, 20)])
def test_frechet_of_fewer_points_than_features_is_that_of_their_covariances(n_1, n_2):
    """60 features, fewer points on one side or both: the same number as by (60, 60) covariances, and of equal points zero."""
    x, y = normal(n_1, 60, 3), 1.5 * normal(n_2, 60, 4) + 0.2
    through_covariances = frechet_distance(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    found = frechet_distance(*moments(x), *moments(y))
    assert (moments(x).covariance.shape[0] < 60) == (n_1 < 60)
    assert found == pytest.approx(through_covariances, rel=1e-6)
    assert found != pytest.approx(frechet_distance(*moments(x), *moments(y[: n_2 // 2])), rel=1e-2)
    assert frechet_distance(*moments(x), *moments(x)) == pytest.approx(0, abs=1e-6 * float(x.square().sum()))


WIDE = """
import resource, torch
from pfgm.metrics.frechet import Moments, frechet_at_infinity, frechet_distance, moments
x, y = (torch.randn(60, 20_000, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
frechet_distance(*moments(x[:, :100]), *moments(y[:, :100]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(frechet_distance(*moments(x), *moments(y)), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_wide_points_take_little_memory():
    """60 points of 20,000 coordinates: a covariance of them would be 3.2 GB, their rows are 10 MB."""
    done = subprocess.run([sys.executable, "-c", WIDE], capture_output=True, text=True, timeout=500, check=True)
    distance, grown = map(float, done.stdout.split())
    assert 1e4 < distance < 5e4
    assert grown < 400


def test_frechet_of_commuting_covariances():
    """Σ₁ = Q diag(a) Qᵀ, Σ₂ = Q diag(b) Qᵀ: Σ (√a − √b)²."""
    rng = np.random.default_rng(2)
    q, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    a, b = rng.uniform(0, 3, 30), rng.uniform(0, 3, 30)
    got = frechet_distance(np.zeros(30), q @ np.diag(a) @ q.T, np.zeros(30), q @ np.diag(b) @ q.T)
    assert got == pytest.approx(float(((np.sqrt(a) - np.sqrt(b)) ** 2).sum()), rel=1e-9)


@pytest.mark.parametrize("k", [2, 64, 256])
def test_frechet_agrees_with_a_matrix_square_root(k):
    c_1, c_2 = covariance(k, 3), covariance(k, 4)
    expected = np.trace(c_1 + c_2 - 2 * np.real(sqrtm(c_1 @ c_2)))
    assert frechet_distance(np.zeros(k), c_1, np.zeros(k), c_2) == pytest.approx(expected, rel=1e-6)


def test_frechet_at_infinity_has_a_tenth_of_the_error_of_few_samples():
    """200 samples of the reference's own law, 16 features: the distance is 0, and all that is measured is the error."""
    g = torch.Generator().manual_seed(0)
    law = Moments(torch.zeros(16, dtype=torch.float64), torch.eye(16, dtype=torch.float64))
    drawn = [torch.randn(200, 16, generator=g, dtype=torch.float64) for _ in range(40)]
    plain = np.mean([frechet_distance(*moments(x), *law) for x in drawn])
    halves, found = zip(*(frechet_at_infinity(x, law) for x in drawn), strict=True)
    assert plain > 0.4 and np.mean(halves) == pytest.approx(2 * plain, rel=0.1)
    assert abs(np.mean(found)) < 0.1 * plain
    assert frechet_at_infinity(drawn[0][:33], law)[1] is None and frechet_at_infinity(drawn[0][:34], law)[1] is not None


def test_frechet_refuses_bad_input():
    with pytest.raises(ValueError, match="covariances"):
        frechet_distance(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(np.array([np.nan, 0]), np.eye(2), np.zeros(2), np.eye(2))


def test_moments_are_unbiased_float64():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    mean, cov = moments(x)
    np.testing.assert_allclose(cov.numpy(), np.cov(x.double().numpy().T), rtol=1e-10)
    assert mean.dtype == torch.float64
    assert moments(torch.randn(9, 1))[1].shape == (1, 1)


def test_nearest_distance_agrees_with_a_tree():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((1500, 3)), rng.standard_normal((700, 3))
    expected = cKDTree(y).query(x, k=4)[0]
    got = nearest_distance(torch.tensor(x), torch.tensor(y), k=4)
    np.testing.assert_allclose(got.numpy(), expected[:, 3], rtol=1e-7)
    own = own_distance(torch.tensor(y))
    np.testing.assert_allclose(own.numpy(), cKDTree(y).query(y, k=2)[0][:, 1], rtol=1e-7)


def test_precision_and_recall_brute_force_and_extremes():
    rng = np.random.default_rng(6)
    data, samples = rng.standard_normal((300, 2)), rng.standard_normal((200, 2)) * 0.5 + 0.3
    r_data = cKDTree(data).query(data, k=4)[0][:, 3]
    r_samples = cKDTree(samples).query(samples, k=4)[0][:, 3]
    gap = np.linalg.norm(samples[:, None] - data[None], axis=2)
    expected = ((gap <= r_data[None]).any(1).mean(), (gap <= r_samples[:, None]).any(0).mean())
    inside = gap <= r_data[None]
    expected += (inside.sum(1).mean() / 3, inside.any(0).mean())
    assert precision_recall(torch.tensor(samples), torch.tensor(data)) == pytest.approx(expected)
    same = torch.tensor(data)
    assert precision_recall(same, same)[:2] == (1.0, 1.0)
    assert precision_recall(same, same).coverage == 1.0
    assert precision_recall(same + 100, same) == (0.0, 0.0, 0.0, 0.0)


def test_blocks_do_not_change_distances(monkeypatch):
    """Small blocks of columns, several chunks of rows: the same neighbours, balls and distances."""
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(2100, 300, generator=g), torch.randn(900, 300, generator=g)
    whole = nearest_distance(x, y, 3), own_distance(y, 2), precision_recall(x, y), energy_distance(x, y)
    monkeypatch.setattr(neighbours, "BLOCK_ELEMENTS", 300)
    pieces = nearest_distance(x, y, 3), own_distance(y, 2), precision_recall(x, y), energy_distance(x, y)
    for a, b in zip(whole, pieces, strict=True):
        torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="give more points"):
        own_distance(y[:2], 2)


def test_memorising_and_outliers_are_seen():
    data = torch.randn(500, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    copies = neighbour_statistics(data + 1e-6, data)
    assert copies.ratio < 0.01
    far = data.clone()
    far[:50] += 20
    assert float(neighbour_statistics(far, data).outliers.double().mean()) == pytest.approx(0.1)
    twins = torch.cat([data, data])
    assert math.isnan(neighbour_statistics(data, twins).ratio), "no scale where every point has a twin"


def test_sliced_wasserstein_of_a_shift():
    """A shift by s in d dimensions: E over directions of (u·s)² = ‖s‖²/d; 256 directions, within 15 %."""
    x = torch.randn(800, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert sliced_wasserstein(x + 1.0, x) == pytest.approx(1.0, rel=0.15)
    assert sliced_wasserstein(x, x) == 0.0
    assert sliced_wasserstein(x, x[torch.randperm(800)]) == pytest.approx(0.0, abs=1e-12)
    assert sliced_wasserstein(x[:400], x) > 0


def test_digits_features_are_the_shipped_ones():
    facts = json.loads((classifiers.HERE / "digits_features.json").read_text())
    assert facts["test_accuracy"] >= 0.98
    digits = load_digits()
    x, labels = torch.tensor(digits.data / 8 - 1), torch.tensor(digits.target)
    held_out = torch.arange(len(x)) % 5 == 0
    network = classifiers.shipped_classifier("digits")
    accuracy = float((network.logits(x[held_out]).argmax(1) == labels[held_out]).double().mean())
    assert accuracy == pytest.approx(facts["test_accuracy"], abs=0.003)
    assert feature_network("digits", (1, 8, 8))(x).shape == (1797, 64)


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_damaged_features_are_refused(tmp_path, monkeypatch, name):
    for file in (f"{name}_features.safetensors", f"{name}_features.json"):
        (tmp_path / file).write_bytes((classifiers.HERE / file).read_bytes())
    content = (tmp_path / f"{name}_features.safetensors").read_bytes()
    (tmp_path / f"{name}_features.safetensors").write_bytes(content[:-1] + b"x")
    monkeypatch.setattr(classifiers, "HERE", tmp_path)
    classifiers.shipped_classifier.cache_clear()
    with pytest.raises(ValueError, match="does not match its hash"):
        classifiers.shipped_classifier(name)
    monkeypatch.undo()
    classifiers.shipped_classifier.cache_clear()


def test_distance_rises_with_corruption():
    """The shipped features see noise and a missing class, each the more the stronger."""
    data = load_data(DataConfig())
    evaluator = Evaluator(data, EvaluateConfig(metrics=("fid",)))
    raw = data.raw[:]
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(raw.shape, generator=g)

    def distance(x: torch.Tensor) -> float:
        return frechet_distance(*moments(evaluator.network(x)), *evaluator.reference.train)

    noisy = [distance((raw + s * noise).clamp(-1, 1)) for s in (0.0, 0.1, 0.3, 0.6)]
    assert noisy == sorted(noisy)
    order = torch.as_tensor(load_digits().target).argsort()
    missing = [distance(raw[order[k:]]) for k in (0, 180, 700)]
    assert missing == sorted(missing)
    floor, half, gaussian = evaluator.reference.anchors.tolist()
    assert 0.05 < floor < half < 1 < 10 < gaussian < 40


def small_field(steps: int = 30) -> tuple:
    data = load_data(DataConfig(name="rings", n=300))
    trainer = Trainer(data, NetworkConfig(width=32, depth=1), TrainConfig(steps=steps, sigma=0.03, batch_size=64), seed=0)
    list(trainer.run())
    return data, Field.from_trainer(trainer)


def test_evaluation_row():
    data, field = small_field()
    metrics = ("fid", "precision_recall", "neighbours", "solver_error", "sliced_wasserstein")
    measurement = Evaluator(data, EvaluateConfig(samples=120, metrics=metrics, solver_error_samples=50)).of(field)
    errors = []
    for rtol in (1e-1, 1e-3, 1e-5):
        row = measurement.at(SamplerConfig(rtol=rtol, batch_size=60), seed=0).row
        assert row["status"] == "complete"
        assert row["metric_features"] == "pixels"
        errors.append(row["metric_solver_error"])
    assert errors[0] > errors[1] > errors[2] > 0
    assert sum(key[0] == "solution" for key in measurement.kept) == 1, "one reference solution serves every tolerance"
    assert 0 < row["diag_coverage"] < 1
    assert row["diag_prior_truncated"] == 0
    cut = measurement.at(SamplerConfig(rtol=1e-3, max_radius_ratio=5.0, batch_size=60), seed=0).row
    assert cut["diag_prior_truncated"] == pytest.approx(1 / np.sqrt(26))  # P(R > 5 T) = 1/√(1 + 25) in the plane


def test_same_latents_give_the_same_row():
    data, field = small_field(5)
    config = EvaluateConfig(samples=60, metrics=("fid", "sliced_wasserstein"))
    rows = [Evaluator(data, config).of(field).at(SamplerConfig(solver="heun2", steps=4), seed=1).row for _ in range(2)]
    kept = [{k: v for k, v in row.items() if not k.endswith("_s")} for row in rows]
    assert kept[0] == kept[1]


def test_a_diverged_solve_is_a_row_without_metrics():
    data, field = small_field(5)
    for p in field.network.parameters():
        p.fill_(torch.nan)
    evaluator = Evaluator(data, EvaluateConfig(samples=60, metrics=("fid", "neighbours")))
    measured = evaluator.of(field).at(SamplerConfig(solver="euler", steps=3), seed=0)
    assert measured.row["status"] == "diverged"
    assert measured.row["metric_nonfinite_fraction"] == 1.0
    assert "metric_fid" not in measured.row
    assert measured.row["cost_nfe"] == 4, "three steps and a denoise: a solve of fixed steps is looked at once, at its end"
