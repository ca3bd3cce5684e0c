"""Feature networks, the distances on their features, and what is kept of a data set: against independent computations."""

import json
import math
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import energy_distance as scipy_energy_distance

from pfgm.config import DataConfig, EvaluateConfig
from pfgm.data.dataset import load_data
from pfgm.metrics import reference as reference_module
from pfgm.metrics.evaluator import Evaluator
from pfgm.metrics.features.classifiers import HERE, shipped_classifier
from pfgm.metrics.features.networks import check_features, default_features, feature_network
from pfgm.metrics.frechet import frechet_distance, moments
from pfgm.metrics.kernels import energy_distance, kernel_distance, unbiased_mmd2
from pfgm.metrics.neighbours import neighbour_gap
from pfgm.metrics.reference import FeatureStatistics, data_radii, feature_statistics, streamed_moments

FASHION = Path("/usr/share/datasets/fashion-mnist")
with_fashion = pytest.mark.skipif(not FASHION.is_dir(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist")


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("k", [64, 192, 768])
def test_frechet_agrees_with_the_eigenvalues_of_the_product(k):
    """tr(S1 + S2) − 2 Σ √λ(S1 S2), the non-symmetric product's eigenvalues by LAPACK; n > k samples."""
    x, y = normal(k + 300, k, 0), normal(k + 200, k, 1) @ (torch.eye(k, dtype=torch.float64) + 0.02 * normal(k, k, 2)) + 0.1
    (m_1, s_1), (m_2, s_2) = moments(x), moments(y)
    roots = np.sqrt(np.clip(np.linalg.eigvals((s_1 @ s_2).numpy()).real, 0, None)).sum()
    expected = float((m_1 - m_2).square().sum() + s_1.trace() + s_2.trace()) - 2 * roots
    assert frechet_distance(m_1, s_1, m_2, s_2) == pytest.approx(expected, rel=1e-6)


def test_streamed_moments_are_the_plain_ones(monkeypatch):
    """A mean 10^4 times the spread: the sums lose nothing, because they are taken about a point near the mean."""
    monkeypatch.setattr(reference_module, "CHUNK", 37)
    x = normal(500, 6, 0) + 1e4
    streamed = streamed_moments(lambda start: x[start : start + 37], len(x))
    torch.testing.assert_close(streamed.mean, x.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(streamed.covariance, torch.cov(x.T), rtol=1e-9, atol=1e-12)


def naive_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate by loops."""
    m, d = x.shape

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / d + 1) ** 3)

    pairs = [(i, j) for i in range(m) for j in range(m)]
    within = sum(k(z[i], z[j]) for z in (x, y) for i, j in pairs if i != j) / (m * (m - 1))
    return within - 2 * sum(k(x[i], y[j]) for i, j in pairs) / m**2


def test_kid_is_the_mean_over_blocks_of_the_unbiased_estimate():
    x, y = normal(53, 5, 0), normal(60, 5, 1) + 0.5
    blocks = [naive_mmd2(x[k : k + 10].numpy(), y[k : k + 10].numpy()) for k in range(0, 50, 10)]
    kid = kernel_distance(x, y)
    assert kid.kid == pytest.approx(np.mean(blocks), rel=1e-10)
    assert kid.standard_error == pytest.approx(np.std(blocks, ddof=1) / math.sqrt(5), rel=1e-10)
    with pytest.raises(ValueError, match="give at least 10"):
        kernel_distance(x[:9], y)


def test_kid_is_unbiased_and_its_error_honest():
    """Equal laws, 200 times 500 points: mean 0 within 4 standard errors, |KID| inside its own 95 % interval in 89 to 100 %.
    A bias of a fifth of the distance between N(0, I) and N(0.1, I) would be seen."""
    found = [kernel_distance(normal(500, 8, 2 * k), normal(500, 8, 2 * k + 1)) for k in range(200)]
    values = np.array([f.kid for f in found])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(200)
    inside = np.mean([abs(f.kid) < 2.78 * f.standard_error for f in found])  # t with 4 degrees of freedom
    assert 0.89 < inside < 1.0
    shifted = np.mean([kernel_distance(normal(500, 8, k) + 0.1, normal(500, 8, k + 900)).kid for k in range(20)])
    assert abs(values.mean()) < shifted / 5


def test_energy_distance_against_scipy_and_a_closed_form():
    x, y = normal(300, 1, 0), normal(200, 1, 1) + 1
    assert energy_distance(x, y) == pytest.approx(scipy_energy_distance(x[:, 0].numpy(), y[:, 0].numpy()), rel=1e-9)
    assert energy_distance(x, x) == 0.0
    point_1, point_2 = torch.zeros(3, 4), torch.full((5, 4), 2.0)
    assert energy_distance(point_1, point_2) == pytest.approx(math.sqrt(2 * 4.0))  # √(2 ‖a − b‖), ‖a − b‖ = 4


def test_gap_tells_memorising_from_learning():
    train, test, fresh = (normal(800, 6, k) for k in range(3))
    assert neighbour_gap(fresh, train, test) == pytest.approx(1.0, abs=0.08)
    assert neighbour_gap(train[:400] + 1e-3 * normal(400, 6, 9), train, test) < 0.1
    assert neighbour_gap(fresh, train[:300], test) == pytest.approx(1.0, abs=0.1), "as many of the one as of the other"


def test_who_may_use_which_features():
    assert default_features("digits", (1, 8, 8)) == "digits"
    assert default_features("cifar10", (3, 32, 32)) == "random"
    assert default_features("npz", (7,)) == "pixels"
    for name, shape, message in (
        ("digits", (3, 32, 32), "needs 8 × 8 grey images.*use random or inception"),
        ("fashion_mnist", (7,), "needs 28 × 28 grey images.*use pixels"),
        ("inception", (7,), "inception needs images"),
        ("random", (7,), "random needs images"),
        ("inception", (2, 8, 8), "grey or RGB"),
        ("clip", (3, 8, 8), "use one of digits"),
    ):
        with pytest.raises(ValueError, match=message):
            check_features(name, shape)
    with pytest.raises(ValueError, match="belongs to features inception"):
        check_features("random", (3, 8, 8), "weights.pth")


def test_random_features_are_fixed_and_see_corruption():
    network = feature_network("random", (3, 16, 16))
    x = normal(400, 768, 0).float().cumsum(1).tanh()
    assert torch.equal(network(x), feature_network("random", (3, 16, 16))(x))
    assert network(x[:2]).shape == (2, 512)
    own = moments(network(x))
    distances = [frechet_distance(*moments(network(x + s * normal(400, 768, 1).float())), *own) for s in (0.1, 0.3, 1.0)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_fashion_features_are_the_shipped_ones():
    facts = json.loads((HERE / "fashion_mnist_features.json").read_text())
    assert facts["test_accuracy"] >= 0.92
    assert 300_000 < facts["parameters"] < 400_000
    assert feature_network("fashion_mnist", (1, 28, 28))(torch.zeros(3, 784)).shape == (3, 192)


@with_fashion
def test_fashion_features_classify_test_images():
    import gzip

    images = np.frombuffer(gzip.decompress((FASHION / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((FASHION / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    x = torch.from_numpy(images.reshape(-1, 784)[:2000].astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        guesses = shipped_classifier("fashion_mnist").logits(x).argmax(1).numpy()
    facts = json.loads((HERE / "fashion_mnist_features.json").read_text())
    assert np.mean(guesses == labels[:2000]) == pytest.approx(facts["test_accuracy"], abs=0.02)


class Kept(dict):
    """A cache in memory."""

    def load(self, name: str) -> bytes | None:
        return self.get(name)

    def save(self, name: str, content: bytes) -> None:
        self[name] = content


def test_statistics_are_computed_once_and_mended(monkeypatch):
    data, cache = load_data(DataConfig(holdout=0.2)), Kept()
    network = feature_network("digits", (1, 8, 8))
    first = feature_statistics(data, network, 100, cache)
    (name,) = cache
    monkeypatch.setattr(reference_module, "_feature_statistics", None)  # computing again would fail
    again = feature_statistics(data, network, 100, cache)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    monkeypatch.undo()
    cache[name] = cache[name][:-1]
    mended = feature_statistics(data, network, 100, cache)
    assert torch.equal(mended.mean, first.mean)
    assert len(cache[name]) > 1000
    feature_statistics(data, network, 120, cache)
    assert len(cache) == 2, "anchors are for one number of samples"
    assert isinstance(first, FeatureStatistics)
    feature_statistics(replace(data, test=data.raw), network, 100, cache)
    assert len(cache) == 3, "and for one set of held-out data"
    assert first.test is not None
    torch.testing.assert_close(first.test.mean, moments(network(data.test)).mean)


def test_statistics_of_data_do_not_depend_on_the_cache():
    data = load_data(DataConfig(name="rings", n=300))
    x = normal(120, 2, 0).float()
    config = EvaluateConfig(samples=120, metrics=("fid", "kid", "precision_recall", "neighbours", "energy"))
    cache = Kept()
    rows = [Evaluator(data, config, cache=c).distances(x, torch.ones(120)) for c in (None, cache, cache)]
    assert rows[0] == rows[1] == rows[2]
    assert len(cache) == 4  # statistics, kept features, radii, own distance
    assert torch.equal(data_radii(data.raw[:], ("other", "key"), cache), data_radii(data.raw[:], ("other", "key"), cache))


def test_test_split_and_features_space_fill_their_columns():
    data = load_data(DataConfig(holdout=0.25))
    few = load_data(DataConfig(holdout=0.03))
    config = EvaluateConfig(samples=200, metrics=("fid", "kid", "precision_recall", "neighbours"), pr_space="features")
    held_out = data.test[:200] + 1e-3 * normal(200, 64, 0).float()
    row = Evaluator(data, config).distances(held_out, torch.ones(200))
    assert row["metric_fid_test"] < row["metric_fid"], "the samples are the held-out digits themselves"
    assert row["metric_n_test"] == 449
    scarce = Evaluator(few, config).distances(few.raw[:200], torch.ones(200))
    assert "metric_fid_test" not in scarce, "54 points have no covariance of 64 features"
    assert scarce["metric_nn_gap"] > 0
    assert row["metric_nn_gap"] > 2
    assert (row["metric_pr_space"], row["metric_pr_k"], row["metric_pr_n"]) == ("features", 3, 200)
    assert row["metric_precision"] > 0.8
    assert abs(row["metric_kid"]) < 4 * row["metric_kid_se"]
    assert "metric_fid_test" not in Evaluator(load_data(DataConfig()), config).distances(data.test[:200], torch.ones(200))


INCEPTION = """
import sys, torch
from pfgm.metrics.features.networks import feature_network
from pfgm.metrics.features.inception import _library

assert "torchvision" not in sys.modules and "torch_fidelity" not in sys.modules
FeatureExtractorInceptionV3 = _library().FeatureExtractorInceptionV3
assert "torchvision" not in sys.modules and "torch_fidelity" not in sys.modules, "an import of the whole stays a real one"
path = sys.argv[1]
torch.manual_seed(0)
states = {}
original = FeatureExtractorInceptionV3.load_state_dict
FeatureExtractorInceptionV3.load_state_dict = lambda self, state: states.update(self.state_dict())
torch.save({}, path)
FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], path)  # random weights: its own initial ones
FeatureExtractorInceptionV3.load_state_dict = original
torch.save({name: value.clone() for name, value in states.items()}, path)

images = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8)
library = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], path)
theirs = library(images)[0]
network = feature_network("inception", (3, 20, 20), weights=path)
ours = network((images.float() / 127.5 - 1).flatten(1))
assert torch.equal(ours, theirs), (ours - theirs).abs().max()
assert ours.shape == (2, 2048) and float(ours.std()) > 0
assert network.label.startswith("inception-") and len(network.label) == 18, network.label
grey = feature_network("inception", (1, 20, 20), weights=path)((images[:, :1].float() / 127.5 - 1).flatten(1))
assert torch.equal(grey, library(images[:, :1].expand(-1, 3, -1, -1))[0])

for content, message in ((b"hello", "does not hold plain tensors"), (None, "cannot read")):
    bad = path + ".bad"
    if content is not None:
        open(bad, "wb").write(content)
    try:
        feature_network("inception", (3, 20, 20), weights=bad if content is not None else path + ".none")
    except ValueError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
torch.save({"a": torch.zeros(1)}, path + ".other")
try:
    feature_network("inception", (3, 20, 20), weights=path + ".other")
except ValueError as error:
    assert "are not Inception-v3's" in str(error), error
else:
    raise AssertionError("foreign weights")
torch.save(torch.nn.Linear(1, 1), path + ".pickle")  # an object: must not be unpickled
try:
    feature_network("inception", (3, 20, 20), weights=path + ".pickle")
except ValueError as error:
    assert "plain tensors" in str(error), error
else:
    raise AssertionError("a pickled object")
print("same")
"""


@pytest.mark.slow
def test_inception_gives_torch_fidelitys_own_features(tmp_path):
    """On a weight file of random values, in a process of its own, which never imports torchvision."""
    pytest.importorskip("importlib.metadata").version("torch-fidelity")
    command = [sys.executable, "-W", "ignore", "-c", INCEPTION, str(tmp_path / "weights.pth")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip().endswith("same"), done.stderr[-3000:]


KID = """
import torch
if not torch.cuda.is_available():  # torch-fidelity's KID alone, which the product does not use: its package imports torchvision
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
torch.manual_seed(0)
from torch_fidelity.metric_kid import kid_features_to_metric
from pfgm.metrics.kernels import kernel_distance
x, y = torch.randn(1000, 64), 1.1 * torch.randn(1000, 64)
kernel = dict(kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)
fidelity = kid_features_to_metric(x, y, kid_subsets=40, kid_subset_size=200, rng_seed=0, verbose=False, **kernel)
own = kernel_distance(x, y)
assert abs(own.kid - fidelity["kernel_inception_distance_mean"]) < 3 * own.standard_error, (own, fidelity)
print("same")
"""


@pytest.mark.slow
def test_kernel_distance_agrees_with_torch_fidelitys_own():
    """Within three of its standard errors, 1,000 points of 64 features, their spread a tenth apart."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", KID], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip().endswith("same"), done.stderr[-3000:]


def test_inception_without_its_library_is_one_line_with_the_cure(monkeypatch):
    from pfgm.metrics.features import inception

    inception._library.cache_clear()
    monkeypatch.delitem(sys.modules, inception.LIBRARY, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package torch-fidelity; pip install torch-fidelity"):
        inception.inception_network((3, 20, 20), None)
    inception._library.cache_clear()


def test_blocks_agree_with_one_gram_matrix():
    x, y = normal(40, 3, 0), normal(40, 3, 1)
    assert float(unbiased_mmd2(x, y)) == pytest.approx(naive_mmd2(x.numpy(), y.numpy()), rel=1e-10)


NEIGHBOURS = """
import resource, torch
torch.set_num_threads(1)
from pfgm.metrics import nearest_distance, precision_recall
x, y = (torch.randn(n, 24, generator=torch.Generator().manual_seed(n)) for n in (1500, 50_000))
radius = torch.full((len(y),), 4.0, dtype=torch.float64)
precision_recall(x, y[:3000], radius_data=radius[:3000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest_distance(y[:1500], y, 3, torch.arange(1500))
found = precision_recall(x, y, radius_data=radius)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, found.precision, found.coverage)
"""


def test_memory_of_neighbours_is_bounded():
    """Blocks against 50,000 points: at most 256 MB beyond what 3,000 take; blocks of whole columns would be 600 MB."""
    done = subprocess.run([sys.executable, "-c", NEIGHBOURS], capture_output=True, text=True, timeout=500, check=True)
    grown, precision, coverage = map(float, done.stdout.split())
    assert grown <= 256
    assert 0.5 < precision <= 1
    assert 0.1 < coverage <= 1


@pytest.mark.parametrize(("name", "images"), [("digits", 800), ("fashion_mnist", 300)])
def test_shipped_features_order_six_corruptions(name, images, monkeypatch, capsys):
    """Blur, noise, dimming, occlusion, mixing, dropped classes: each stronger step is farther from the data."""
    if name == "fashion_mnist" and not FASHION.is_dir():
        pytest.skip("no Fashion-MNIST: apt-get install dataset-fashion-mnist")
    script = Path(__file__).resolve().parents[3] / "experiments/features/corruptions.py"
    monkeypatch.setattr(sys, "argv", [script.name, "--data", name, "--images", str(images), "--reference", "2000"])
    code = runpy.run_path(str(script))["main"]()
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out.count("**") == 2 * 6 * 5
