"""The pieces of code of the gallery: at most five lines for every public plot function of `analysis`."""

from __future__ import annotations

SETUP = """\
import math

import matplotlib.pyplot as plt
import numpy as np
import torch

import analysis
from analysis.testing import Truth, synthetic_frame
from pfgm.config import DataConfig
from pfgm.data import load_data
from pfgm.field import PointCharges, electric_field, electric_lines, raw_target_variance, true_field
from pfgm.prior import PoissonPrior, latents
from pfgm.process import perturb
from pfgm.sampling import heights, trajectories

STUDY = "experiments/notebooks/digits_bundle"
rows = analysis.load_study(STUDY)  # a real study of the digits
truth = Truth(design="sobol", trials=40, train_seeds=2, effects={"sigma": lambda v: 8 * (v - 0.1) ** 2})
box = synthetic_frame(truth)  # a made-up study, whose true answer is known


def circle(n, radius=1.0):
    angle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)
"""

STUDY_PICTURES: dict[str, str] = {
    "plot_parameter_overview": """\
_, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
analysis.plot_parameter_overview(rows, ax=ax)""",
    "plot_robustness": 'analysis.plot_robustness(rows, "sigma")',
    "plot_interaction": 'analysis.plot_interaction(rows, "sigma", "T_ratio")',
    "plot_quality_cost": "analysis.plot_quality_cost(rows)",
    "plot_solver_tolerance": 'analysis.plot_solver_tolerance(rows, quantity="solver_error")',
    "plot_summary": """\
_, ax = plt.subplots(figsize=(9, 6), layout="constrained")
analysis.plot_summary(rows.loc[rows["design_sampler_role"].eq("default")], ax=ax)""",
    "plot_comparisons": """\
others = {"tolerance 0.1": {"rtol": 0.1}, "a fifth of the rule's T": {"T_ratio": 0.2}}
analysis.plot_comparisons(rows, others)""",
    "plot_variance_components": "analysis.plot_variance_components(rows)",
    "plot_perturbation_robustness": 'analysis.plot_perturbation_robustness(rows, "steps")',
    "plot_outlier_map": "analysis.plot_outlier_map(rows)",
    "plot_theory_curves": 'analysis.plot_theory_curves(rows, "coverage")',
    "plot_samples": 'analysis.plot_samples(rows, "default")',
    "plot_learning_curves": "analysis.plot_learning_curves(STUDY)",
    "plot_ratings_by_length": """\
slopes = {0.25: 0.8, 0.5: 0.2}  # of made-up fields: what σ does is gone at the end
early = {share: Truth(effects={"sigma": lambda v, k=k: k * math.log(v / 0.1) ** 2}) for share, k in slopes.items()}
longer = synthetic_frame(Truth(), early=early)
analysis.plot_ratings_by_length(longer, "sigma")""",
    "plot_failures": """\
bad = rows["sampler_rtol"].eq(0.1) & rows["seed_train"].eq(1)  # made-up failures: this study has none
analysis.plot_failures(rows.assign(status=rows["status"].mask(bad, "diverged")), by="rtol")""",
    "plot_parameter_importance": "analysis.plot_parameter_importance(box, n_permutations=99, n_bootstrap=5)",
    "plot_regional_sensitivity": "analysis.plot_regional_sensitivity(box, n_permutations=99)",
    "plot_partial_curve": 'analysis.plot_partial_curve(box, "sigma")',
    "plot_tolerance_volume": "analysis.plot_tolerance_volume(box)",
    "plot_worst_case": "analysis.plot_worst_case(box)",
}

FIELD_PICTURES: dict[str, str] = {
    "plot_field_lines": """\
charges = torch.tensor([[-1.1, -0.5], [1.2, -0.3], [0.1, 1.2]], dtype=torch.float64)
_, lines = electric_lines(circle(30, 5.0), charges, length=7.0, n_points=120, toward=True, core=0.05, rtol=1e-3)
analysis.plot_field_lines(lines.numpy(), charges.numpy(), extent=(-3, 3, -2.7, 2.8))""",
    "plot_directions": """\
places = torch.cartesian_prod(*[torch.linspace(-1.9, 1.9, 20, dtype=torch.float64)] * 2)
direction, log_strength = electric_field(places, circle(60))
pull = -direction * log_strength.exp()[:, None]
analysis.plot_directions(places.numpy(), pull.numpy(), charges=circle(60).numpy(), limits=(1e-3, 1.0))""",
    "plot_field_strength": """\
radii = torch.linspace(0.0, 1.995, 134, dtype=torch.float64)
ray = torch.stack([radii, torch.zeros_like(radii)], dim=1)
strength = {"in the plane": electric_field(ray, circle(60))[1].exp().numpy()}
strength["one more dimension, t = 0.3"] = true_field(ray, 0.3, circle(60))[1].exp().numpy()
analysis.plot_field_strength(radii.numpy(), strength)""",
    "plot_far_field": """\
distance = torch.logspace(0.7, 3, 12, dtype=torch.float64)
direction, _ = electric_field(distance[:, None] * torch.tensor([0.6, 0.8]), charges)
away = direction @ torch.tensor([0.8, -0.6], dtype=torch.float64)
analysis.plot_far_field(distance.numpy(), {"from the origin": away.abs().arcsin().numpy()})""",
    "plot_trajectories": """\
modes = torch.tensor([[-2.0], [-0.4], [0.5], [2.2]], dtype=torch.float64)
start = 8 * torch.tan(math.pi * ((torch.arange(60, dtype=torch.float64) + 0.5) / 60 - 0.5))[:, None]
seen, paths = trajectories(PointCharges(modes).mean_source, start, heights(8.0, 1e-3, 40), rtol=1e-3)
analysis.plot_trajectories(seen.numpy(), paths.numpy(), modes.numpy(), extent=(-10, 10, 0, 8))""",
    "plot_radius_law": """\
prior = PoissonPrior(2, 1.0)
radii, r = prior.sample([20_000]).norm(dim=1), torch.logspace(-2, 3, 300, dtype=torch.float64)
density = r / (r**2 + 1) ** 1.5  # of the radius, for d = 2 and T = 1
analysis.plot_radius_law(radii.numpy(), r.numpy(), density.numpy())""",
    "plot_radius_tail": """\
tails = {"the law: falls like 1/r": prior.radius_sf(r).numpy()}
tails["a Gaussian of standard deviation T"] = PoissonPrior(2, 1.0, n_aug=math.inf).radius_sf(r).numpy()
analysis.plot_radius_tail(radii.numpy(), r.numpy(), tails)""",
    "plot_training_points": """\
digits = load_data(DataConfig(name="digits")).points[:].double()
x, t = perturb(digits, sigma=0.1, tau=0.03, M=120, generator=torch.Generator().manual_seed(0))
analysis.plot_training_points((x - digits).norm(dim=1).numpy(), t.numpy(), heights={"σ": 0.1}, slope=8.0)""",
    "plot_target_variance": """\
g, dims = torch.Generator().manual_seed(0), [1, 2, 3, 4, 6, 8, 12, 16]
variances = [raw_target_variance(d, n_points=64, n_sources=4096, generator=g).numpy() for d in dims]
analysis.plot_target_variance(dims, variances, n_sources=4096)""",
    "plot_effective_sample_size": """\
table = analysis.effective_sample_size(digits.numpy(), np.geomspace(0.02, 200, 25), n_ref=[64, 512, 1797], n_points=64)
analysis.plot_effective_sample_size(table)""",
}
