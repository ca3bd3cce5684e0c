"""Exact fields: the error of starting at a finite T, mixtures against brute force for any n_aug, studies without a network."""

from __future__ import annotations

import csv
import math
import resource
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers.folder import Folder, same_rows
from torch import Tensor

from analysis import load_study, plot_theory_curves, summarize, theory_curves, write_report
from analysis.report.sections.record.runnable import run_yaml
from analysis.theory.laws import data_moments, prior_error
from pfgm.config import DataConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.field.analytic import GaussianMixture, PointCharges
from pfgm.field.empirical import mean_source
from pfgm.flow.exact import ExactField, exact_field, exact_train
from pfgm.process.kernel import kernel_noise
from pfgm.process.make import make_process
from pfgm.sampling.integrate import integrate
from study.config.yaml_source import ConfigError
from study.load import load_study_config
from study.plan.make import make_plan
from study.plan.worklist import Worklist

F64 = torch.float64
N_AUG = (1.0, 8.0, 128.0, 3e6, math.inf)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def field_of(kind: str, n_aug: float = 1.0, **data: Any) -> tuple[ExactField, Dataset]:
    loaded = load_data(DataConfig(**{"name": "gaussians", **data}))
    return exact_field(kind, loaded, exact_train(n_aug, loaded.info)), loaded


def mixture(d: int, n_aug: float) -> GaussianMixture:
    """Two components, weights 1 : 3, full covariances."""
    g = generator(d)
    factor = torch.randn(2, d, d, dtype=F64, generator=g) / math.sqrt(d)
    covariances = 0.3 * factor @ factor.mT + 0.1 * torch.eye(d, dtype=F64)
    means = torch.randn(2, d, dtype=F64, generator=g) / math.sqrt(d)
    return GaussianMixture(means, covariances, torch.tensor([1.0, 3.0]), n_aug=n_aug)


@pytest.fixture(scope="module", params=[1, 2, 8, 64], ids=str)
def drawn(request: pytest.FixtureRequest) -> tuple[int, Tensor, Tensor]:
    """(d, 200,000 data points of `mixture`, which know of no n_aug, and their squares)."""
    y = mixture(request.param, 1.0).sample(200_000, generator(1))
    return request.param, y, y.square()


@pytest.mark.parametrize("n_aug", N_AUG)
def test_mixture_against_brute_force(drawn: tuple[int, Tensor, Tensor], n_aug: float) -> None:
    """Density and mean source from 200,000 data points, within four standard errors where the density's is at most 2 %.

    p_t(x) = E_y[kernel(x − y)] and ȳ = E_y[y kernel]/E_y[kernel]; components 20 % wider are seen to fail.
    """
    d, y, y_squared = drawn
    law, t = mixture(d, n_aug), 8.0 if d == 64 else 2.0
    x = law.sample(6, generator(2)) + kernel_noise(d, torch.full((6,), 0.5 * t, dtype=F64), math.inf, generator(3))
    assert law._vectors is not None
    spread = (law._vectors * law._values[:, None]) @ law._vectors.mT
    wider = GaussianMixture(law.means, 1.2 * spread, law.weights, n_aug=n_aug)
    tested, wrong = 0, 0.0
    for point in x:
        log_kernel = PointCharges(point[None], n_aug=n_aug).log_prob(y, t)  # symmetric in its two points
        kernel = (log_kernel - log_kernel.max()).exp()
        p, error = float(kernel.mean()), float(kernel.std()) / math.sqrt(len(y))
        if error > 0.02 * p:
            continue
        tested += 1
        log_p = math.log(p) + float(log_kernel.max())
        assert abs(law.log_prob(point[None], t).item() - log_p) < 4 * error / p
        w = kernel / kernel.sum()
        y_bar = w @ y
        deviation = (w.square() @ y_squared - 2 * y_bar * (w.square() @ y) + y_bar.square() * w.square().sum()).sqrt()
        assert ((law.mean_source(point[None], t)[0] - y_bar).abs() / deviation).max() < 4
        wrong = max(wrong, abs(wider.log_prob(point[None], t).item() - log_p) * p / error)
    assert tested >= 3
    assert wrong > 4


@pytest.mark.parametrize(("means", "variances", "t"), [((-0.3, 3.0), (100.0, 0.0), 0.05), ((-0.5, 4.0), (25.0, 0.01), 0.1)])
def test_mixture_of_a_wide_and_a_narrow_component(means: tuple[float, ...], variances: tuple[float, ...], t: float) -> None:
    """Seen from near the wide one in d = 64, where the narrow one weighs most: density and ȳ of the two laws by themselves.

    With a grid that ends by the nearest component log p was off by 22, and ȳ by 3.
    """
    d, n_aug = 64, 128.0
    centres = torch.zeros(2, d, dtype=F64)
    centres[:, 0] = torch.tensor(means)
    spread = torch.tensor(variances, dtype=F64)
    both = GaussianMixture(centres, spread, n_aug=n_aug)
    alone = [GaussianMixture(centres[k : k + 1], spread[k : k + 1], n_aug=n_aug) for k in range(2)]
    x = torch.zeros(1, d, dtype=F64)
    logs = torch.cat([law.log_prob(x, t) for law in alone]) - math.log(2)
    torch.testing.assert_close(both.log_prob(x, t)[0], logs.logsumexp(0), rtol=1e-9, atol=0.0)
    y_bar = torch.softmax(logs, 0) @ torch.cat([law.mean_source(x, t) for law in alone])
    torch.testing.assert_close(both.mean_source(x, t)[0], y_bar, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 8, 64])
def test_mean_source_is_the_score_where_the_kernel_is_gaussian(d: int) -> None:
    """x − ȳ = −t² ∇ log p_t at n_aug = ∞, the gradient by central differences: to 1e-6."""
    law, t, h = mixture(d, math.inf), 0.7, 1e-5
    x = law.sample(4, generator(4))
    steps = h * torch.eye(d, dtype=F64)
    score = torch.stack([(law.log_prob(p + steps, t) - law.log_prob(p - steps, t)) / (2 * h) for p in x])
    torch.testing.assert_close(x - law.mean_source(x, t), -(t**2) * score, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("law", ["mixture", "charges"])
@pytest.mark.parametrize("n_aug", N_AUG)
def test_density_follows_the_flow_for_every_n_aug(n_aug: float, law: str) -> None:
    """d log p/d log t along the flow is −div_x(x − ȳ): it ties density and mean source together; another n_aug fails."""
    d, t, h = 3, 0.6, 1e-4
    known = mixture(d, n_aug) if law == "mixture" else PointCharges(mixture(d, 1.0).sample(5, generator(5)), n_aug=n_aug)
    other = PointCharges(mixture(d, 1.0).sample(5, generator(5)), n_aug=2.0 * n_aug if math.isfinite(n_aug) else 4.0)
    x = torch.randn(4, d, dtype=F64, generator=generator(6))

    def rate(source: Any) -> Tensor:
        offset = x - source(x, t)
        return (known.log_prob(x + h * offset, t * math.exp(h)) - known.log_prob(x - h * offset, t * math.exp(-h))) / (2 * h)

    divergence = torch.stack(
        [torch.autograd.functional.jacobian(lambda z: z - known.mean_source(z[None], t)[0], p).trace() for p in x]
    )
    torch.testing.assert_close(rate(known.mean_source), -divergence, rtol=1e-5, atol=1e-6)
    if n_aug < 1e6 and law == "charges":
        assert not torch.allclose(rate(other.mean_source), -divergence, rtol=1e-3, atol=1e-3)


def test_large_n_aug_is_a_gaussian_kernel() -> None:
    x = torch.randn(8, 4, dtype=F64, generator=generator(7))
    many, gaussian = mixture(4, 1e8), mixture(4, math.inf)
    torch.testing.assert_close(many.log_prob(x, 0.5), gaussian.log_prob(x, 0.5), rtol=0, atol=1e-5)
    torch.testing.assert_close(many.mean_source(x, 0.5), gaussian.mean_source(x, 0.5), rtol=0, atol=1e-5)


def test_heights_of_a_batch_may_differ_at_infinity() -> None:
    law, x = mixture(2, math.inf), torch.randn(5, 2, dtype=F64, generator=generator(8))
    t = torch.tensor([0.1, 3.0, 0.1, 50.0, 0.7], dtype=F64)
    one = torch.cat([law.mean_source(x[i : i + 1], float(t[i])) for i in range(5)])
    torch.testing.assert_close(law.mean_source(x, t), one)
    each = torch.cat([law.log_prob(x[i : i + 1], float(t[i])) for i in range(5)])
    torch.testing.assert_close(law.log_prob(x, t), each)


def test_data_of_any_scale_have_an_exact_field() -> None:
    """T: rule follows the data: ten times as large, ten times as high."""
    info = load_data(DataConfig(name="digits")).info
    large, small = (replace(info, sd=info.sd * f, mean_norm=info.mean_norm * f) for f in (1.0, 0.01))
    T = [make_process(exact_train(1.0, i), i).rule_T for i in (large, small)]
    assert T[0] == pytest.approx(100 * T[1], rel=0.05)


def test_charges_take_no_memory_for_coordinates() -> None:
    """Density of 64 points under 20,000 charges, d = 784, and its gradient: (B, K) numbers of 10 MB each, not (B, K, d)
    of 8 GB."""
    charges = PointCharges(torch.randn(20_000, 784, generator=generator()))
    x = torch.randn(64, 784, dtype=F64, generator=generator(1), requires_grad=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    density = charges.log_prob(x, 1.0)
    assert torch.isfinite(density).all() and torch.isfinite(torch.autograd.grad(density.sum(), x)[0]).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


@pytest.mark.parametrize("n_aug", [1.0, math.inf])
def test_points_that_are_no_numbers_spoil_no_others(n_aug: float) -> None:
    """A batch with NaN and ∞ in it: NaN there, and elsewhere what there is without them; a solver then says diverged."""
    law = mixture(3, n_aug)
    x = law.sample(4, generator())
    spoilt = x.clone()
    spoilt[1, 0], spoilt[2, 2] = math.nan, math.inf
    found = law.mean_source(spoilt, 0.5)
    assert bool(found[1:3].isnan().any(1).all())
    torch.testing.assert_close(found[[0, 3]], law.mean_source(x[[0, 3]], 0.5), rtol=1e-9, atol=1e-12)
    assert integrate(law.mean_source, spoilt, T=8.0, t_min=0.5, solver="heun2", steps=4).status == "diverged"


@pytest.mark.parametrize("n_aug", [1.0, math.inf])
def test_gradients_of_charges_near_and_far(n_aug: float) -> None:
    """Against differences summed in the open, a millionth from a charge too, far from the origin; and a second derivative."""
    y = torch.randn(6, 3, dtype=F64, generator=generator()) + 5.0
    x = torch.cat([y[:2] + 1e-6, torch.randn(2, 3, dtype=F64, generator=generator(1))]).requires_grad_()
    charges = PointCharges(y, n_aug=n_aug)

    def openly(x: Tensor) -> Tensor:
        ratio = (x[:, None] - y).square().sum(2) / 0.01
        logits = -0.5 * ratio if math.isinf(n_aug) else -2.0 * torch.log1p(ratio)
        return torch.softmax(logits, 1) @ y

    given, expected = (
        torch.autograd.grad((source(x) ** 2).sum(), x)[0] for source in (lambda x: charges.mean_source(x, 0.1), openly)
    )
    torch.testing.assert_close(given, expected, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradgradcheck(lambda x: charges.mean_source(x, 0.5), x[2:].detach().requires_grad_())


@pytest.mark.parametrize("n_aug", [0.0, -1.0, math.nan])
def test_n_aug_must_be_positive(n_aug: float) -> None:
    with pytest.raises(ValueError, match="n_aug must be positive"):
        PointCharges(torch.zeros(1, 2), n_aug=n_aug)
    with pytest.raises(ValueError, match="n_aug must be positive"):
        GaussianMixture(torch.zeros(1, 2), 1.0, n_aug=n_aug)
    with pytest.raises(ValueError, match=r"n_aug: must be at least 0\.5"):
        exact_train(n_aug, load_data(DataConfig(name="rings", n=50)).info)
    with pytest.raises(ValueError, match="known for n_aug = 1, got 2"):
        PointCharges(torch.zeros(1, 2), n_aug=2.0).line_invariant(torch.zeros(1, 2), 1.0)


def test_prior_error_of_a_gaussian_has_a_closed_form() -> None:
    """n_aug = ∞: KL(N(μ, C + T² I)‖N(0, T² I)), within four standard errors; T 10 % off is seen to fail.

    Low T too, where e^{−ℓ} has no mean that a sample would show.
    """
    field, _ = field_of("gaussian_mixture", math.inf, name="digits", center=False)
    law = field.law
    assert isinstance(law, GaussianMixture)
    values, mu = law._values[0], law.means[0]

    def closed(T: float) -> float:
        ratio = values / T**2
        return 0.5 * float((ratio - torch.log1p(ratio)).sum() + mu.square().sum() / T**2)

    for T in (0.5, 1.0, 2.0, 5.0, 20.0):
        exact = [closed(T), closed(1.1 * T)]
        found = field.prior_error(T)
        assert abs(found.kl - exact[0]) < 4 * found.kl_se
        assert abs(found.kl - exact[1]) > 4 * found.kl_se


@pytest.mark.parametrize("kind", ["gaussian_mixture", "empirical"])
@pytest.mark.parametrize(("center", "slope", "slack"), [(False, -2, 0.2), (True, -4, 0.4)])
def test_prior_error_falls_as_the_theory_says(kind: str, center: bool, slope: float, slack: float) -> None:
    """log KL against log T over 10, 20, 40 on the digits: −2 uncentred, −4 centred; its size within 25 % of theory."""
    field, data = field_of(kind, name="digits", center=center)
    heights = np.array([10.0, 20.0, 40.0])
    found = [field.prior_error(float(T)) for T in heights]
    measured = np.polyfit(np.log(heights), np.log([f.kl for f in found]), 1)[0]
    assert abs(measured - slope) <= slack
    theory = prior_error(heights, data_moments(data.points[:].numpy()))
    np.testing.assert_allclose([f.kl for f in found[1:]], theory[1:], rtol=0.25)


def test_exact_fields_are_the_fields_they_say() -> None:
    """`empirical` is `pfgm.field.empirical` on the data; `gaussian_mixture` the toy's own law, or one Gaussian."""
    x, t = torch.randn(6, 2, dtype=F64, generator=generator(9)), torch.full((6,), 0.3, dtype=F64)
    field, data = field_of("empirical", 8.0, n=300)
    torch.testing.assert_close(field.mean_source(x, t), mean_source(x, t, data.points[:].double(), n_aug=8.0))
    torch.testing.assert_close(field.source_with_gradient(x, t), field.mean_source(x, t), rtol=1e-8, atol=1e-8)
    field, data = field_of("gaussian_mixture", n=5000)
    assert isinstance(field.law, GaussianMixture)
    distance = torch.cdist(data.points[:].double(), field.law.means).min(1).values
    assert float(distance.square().mean()) == pytest.approx(2 * 0.05**2, rel=0.05), "eight clusters of sd 0.05 about the means"
    field, data = field_of("gaussian_mixture", name="digits")
    assert isinstance(field.law, GaussianMixture)
    assert float(field.law._values.sum()) == pytest.approx(float(data.points[:].double().var(0, correction=0).sum()), rel=1e-6)


def test_the_empirical_sampler_memorises() -> None:
    """Samples of the exact field of 300 points are these points, but for those on the border of two at t_min: ever fewer."""
    field, data = field_of("empirical", n=300)
    between = []
    for t_min in (1e-2, 1e-3, 1e-4):
        samples = field.sample(400, rtol=1e-5, t_min=t_min).reshape(400, 2)
        nearest = torch.cdist(samples.double(), data.raw[:].double()).min(1).values
        between.append(float((nearest > 0.01).double().mean()))
    assert between[0] > between[1] > between[2]
    assert between[2] < 0.02


EXACT: dict[str, Any] = {
    "network": None, "train": None, "data": {"name": "gaussians", "n": 400}, "field": {"exact": "gaussian_mixture"},
    "sampler": {"solver": "dopri5", "T": 10.0}, "seeds": {"sample": 2}, "design": {"name": "one_at_a_time"},
    "evaluate": {"samples": 60, "metrics": ["fid", "sliced_wasserstein", "solver_error", "prior_error"],
                 "solver_error_samples": 10},
    "search": {"sampler": {"T": {"choice": [5.0, 10.0, 20.0]}, "solver": {"choice": ["dopri5", "heun2"]}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(make_folder: Callable[[str], Folder]) -> Callable[[str], tuple[Folder, str]]:
    """The study `EXACT` of one kind of field, measured once: its folder, and what was printed."""

    @cache
    def of(kind: str) -> tuple[Folder, str]:
        folder = make_folder(kind)
        folder.write(**EXACT | {"field": {"exact": kind}})
        return folder, folder.run("--inline")[0]

    return of


@pytest.mark.parametrize("kind", ["gaussian_mixture", "empirical"])
def test_a_study_without_a_network(measured: Callable[[str], tuple[Folder, str]], kind: str) -> None:
    """Every cell a row; no field stored, nothing trained; the error of T in its column; the same rows again elsewhere."""
    folder, out = measured(kind)
    assert f"given: {kind}, known exactly, n_aug = 1; nothing is trained" in out
    rows = folder.rows()
    config = folder.load(**EXACT | {"field": {"exact": kind}})
    assert Worklist(config, make_plan(config)).steps_left(set()) == 0
    assert len(rows) == 8
    assert {r["status"] for r in rows.values()} == {"complete"}
    assert not list((folder.path / "results").glob("fields/*/field.json"))
    for row in rows.values():
        assert row["network_name"] is None
        assert row["cost_train_s"] is None
        assert row["train_steps"] is row["train_sigma"] is row["train_R_max"] is row["diag_coverage"] is None
        assert row["metric_solver_error"] < 0.05
    kl = {row["sampler_T"]: row["metric_prior_kl"] for row in rows.values() if row["sampler_solver"] == "dopri5"}
    assert kl[5.0] > 4 * kl[10.0] > 16 * kl[20.0] > 0
    folder.run("--inline", "--set", "storage=again", "--set", "search={sampler: {solver: {choice: [dopri5, heun2]}}}")
    again = folder.rows(storage="again")
    assert len(again) == 4
    same_rows(again, {c: rows[c] | {"design_point": again[c]["design_point"]} for c in again})  # which has no T


def test_theory_over_the_points_of_a_study(folder: Folder, clean_figures: None) -> None:
    """Curve and measured KL share an axis, and agree within 25 % where the expansion holds."""
    data = {"name": "digits"}
    search = {"sampler": {"T": {"choice": [2.5, 10.0, 20.0, 40.0]}}}
    folder.write(**EXACT | {"data": data, "search": search, "evaluate": {"samples": 100, "metrics": ["fid", "prior_error"]}})
    folder.run("--inline")
    frame = load_study("results/tiny")
    table = theory_curves(frame, metric="prior_kl").query("theory == 'prior_error'")
    curve, points = (table.loc[table["kind"].eq(kind)].sort_values("x") for kind in ("curve", "measured"))
    far = points.loc[points["x"].ge(10)]
    np.testing.assert_allclose(far["y"], np.exp(np.interp(np.log(far["x"]), np.log(curve["x"]), np.log(curve["y"]))), rtol=0.25)
    ax = plot_theory_curves(frame, "prior_error", metric="prior_kl")
    assert len(ax.figure.axes) == 1
    drawn = next(line for line in ax.lines if line.get_label() == "theory")
    np.testing.assert_allclose(np.asarray(drawn.get_ydata(), float), curve["y"])
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata().astype(float), points["y"])


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"field": {"exact": "gaussian"}}, "field.exact: "),
        ({"field": {"exact": "empirical", "checkpoint": "x"}}, "field.checkpoint: give a checkpoint or exact, one of the two"),
        ({"field": {}}, "field.checkpoint: give a checkpoint or exact, one of the two"),
        ({"field": {"exact": "empirical", "n_aug": 0.0}}, "field.n_aug: .*greater than or equal to 0.5"),
        ({"field": {"exact": "empirical", "format": "poisson_flow"}}, "field.format: belongs to a checkpoint"),
        ({"field": {"checkpoint": "x", "n_aug": 2.0}}, "field.n_aug: belongs to exact fields"),
        ({"train": {"steps": 10}}, "train: the field is given by field.exact and nothing is trained"),
        ({"perturb": {"weight_bits": [4]}}, "perturb: an exact field has no weights"),
        ({"field": None, "train": {"steps": 10}}, "evaluate.metrics: 'prior_error' is known for exact fields only"),
    ],
)
def test_mistakes_in_the_file(folder: Folder, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        folder.load(**EXACT | sections)


def test_the_report_of_an_exact_field(measured: Callable[[str], tuple[Folder, str]]) -> None:
    """It says that there is no network, and its YAML can be run."""
    folder, _ = measured("gaussian_mixture")
    frame = load_study(folder.path / "results/tiny")
    write_report(folder.path / "results/tiny")
    text = (folder.path / "results/tiny/report/report.md").read_text()
    assert "Field: gaussian_mixture, known exactly, n_aug = 1; there is no network" in text
    assert "dashed the prediction, points measured" not in text, "the moments of these data are not known"
    means = summarize(frame, "sliced_wasserstein")
    assert means[["n_train_seeds", "n_sample_seeds"]].drop_duplicates().to_numpy().tolist() == [[1, 2]], "one field"
    assert "over 2 samplings of the given field" in text
    assert "## Likelihood and prior error" in text and "KL of the law at T to the prior (nats)" in text
    (folder.path / "again.yaml").write_text(run_yaml(frame, frame.iloc[0], "again"))
    assert load_study_config(folder.path / "again.yaml").field_source.exact


@pytest.mark.parametrize("n_aug", [8.0, math.inf])
def test_other_processes_have_measured_points_and_no_curve(folder: Folder, clean_figures: None, n_aug: float) -> None:
    """The expansion is that of one extra dimension: the KL of others is drawn by itself, and the report says why."""
    field = {"exact": "gaussian_mixture", "n_aug": n_aug}
    metrics = ["fid", "sliced_wasserstein", "prior_error", "likelihood"]
    evaluate = {"samples": 100, "metrics": metrics, "likelihood_samples": 8}
    folder.write(**EXACT | {"field": field, "evaluate": evaluate, "search": {"sampler": {"T": {"choice": [5.0, 10.0]}}}})
    folder.run("--inline")
    frame = load_study("results/tiny")
    table = theory_curves(frame, "prior_kl")
    assert table[["theory", "kind"]].drop_duplicates().to_numpy().tolist() == [["prior_error", "measured"]]
    expected = np.exp(np.log(frame["metric_prior_kl"]).groupby(frame["sampler_T"]).mean())
    np.testing.assert_allclose(table.set_index("x")["y"].sort_index(), expected.sort_index())
    why = "without a curve, because the expansion is that of process pfgm, one extra dimension"
    assert why in table.attrs["notes"]["prior_error"]
    assert theory_curves(frame).empty, "no theory of FID there"
    ax = plot_theory_curves(frame, "prior_error", metric="prior_kl")
    np.testing.assert_allclose(np.sort(ax.containers[0].lines[0].get_xdata().astype(float)), [5.0, 10.0])
    assert not [line for line in ax.lines if line.get_label() == "theory"]
    write_report("results/tiny")
    report = folder.path / "results/tiny/report"
    assert why in (report / "report.md").read_text()
    kl, nats = (
        {row["configuration"]: row for row in csv.DictReader((report / f"tables/{name}.csv").open())}
        for name in ("prior-kl", "nats-per-dim")
    )
    assert float(kl["default"]["mean"]) == pytest.approx(expected[10.0], rel=1e-3)
    assert (kl["T = 5"]["process"], kl["T = 5"]["n"]) == ("pfgmpp", "2")
    own = frame.loc[frame["sampler_T"].eq(5.0), "metric_nats_per_dim"].mean()
    assert float(nats["T = 5"]["mean"]) == pytest.approx(own, rel=1e-3)
    assert float(nats["T = 5"]["level t"]) == frame["metric_likelihood_t"].iloc[0]
