# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From gravitation to diffusion
#
# Why does a generative model need a field in one more dimension? This notebook draws the argument with exact fields, from
# point charges in the plane to the digits: the pictures of J. Su's *From universal gravitation to diffusion models*
# (Scientific Spaces 9305 and 9370) and of *Poisson Flow Generative Models* (arXiv 2209.11178). It trains nothing and needs no
# study; `pfgm` computes, `analysis` draws, and every number below a figure is computed by the cell above it.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display

import analysis
from pfgm.config import DataConfig
from pfgm.data import load_data
from pfgm.field import (
    PointCharges,
    electric_field,
    electric_lines,
    log_sphere_area,
    raw_target_variance,
    true_field,
)
from pfgm.prior import PoissonPrior, latents
from pfgm.process import perturb
from pfgm.rules import height_max, rule_M, rule_R_max, rule_T
from pfgm.sampling import heights, trajectories

torch.set_default_dtype(torch.float64)
plt.rcParams["figure.dpi"] = 72  # small enough to be committed


def say(text: str) -> None:
    """A sentence under a cell, written from the numbers above it."""
    display(Markdown(text))


def on_circle(n: int, radius: float = 1.0) -> torch.Tensor:
    """n evenly spaced points of a circle, shape (n, 2)."""
    angle = torch.arange(n) * (2 * math.pi / n)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


def grid(horizontal: torch.Tensor, vertical: torch.Tensor) -> torch.Tensor:
    """The points of a grid, shape (B, 2)."""
    return torch.cartesian_prod(horizontal, vertical)


# %% [markdown]
# ## Gravitation already generates
# Take data points for masses (or charges) in the plane. A particle that follows the field inward ends at one of them, and the
# lines that come in evenly from far away are shared out by weight: a sampler, if a point far away is easy to draw.

# %%
charges = torch.tensor([[-1.1, -0.5], [1.2, -0.3], [0.1, 1.2]])
weights = torch.tensor([0.5, 0.3, 0.2])
far = on_circle(40, 8.0)
_, lines = electric_lines(far, charges, weights, length=11.0, n_points=400, toward=True, core=0.02)
_, ax = plt.subplots(figsize=(5.2, 4.8), layout="constrained")
analysis.plot_field_lines(lines.numpy(), charges.numpy(), weights=weights.numpy(), extent=(-3, 3, -2.7, 2.8), ax=ax)
ax.set_title("Field lines of three charges in the plane", fontsize=10)
plt.show()
ends = torch.bincount(torch.cdist(lines[-1], charges).argmin(1), minlength=len(charges))
say(
    f"Of {len(far)} lines that come in evenly from a circle of radius 8, {', '.join(str(n) for n in ends.tolist())} end at the "
    f"charges of weight {', '.join(f'{p:.0%}' for p in weights.tolist())}: shares of "
    f"{', '.join(f'{p:.0%}' for p in (ends / len(far)).tolist())}."
)

# %% [markdown]
# ## Far away every data set is one point
# There the field points away from the centroid, whatever the charges are: to the first order in 1/distance they look like one
# charge, and from the centroid (not from any other point) even to the second.

# %%
distance = torch.logspace(0.7, 3, 12)
centroid = (weights[:, None] * charges).sum(0)
x = centroid + distance[:, None] * torch.tensor([0.6, 0.8])
direction, _ = electric_field(x, charges, weights)


def angle_from(point: torch.Tensor) -> np.ndarray:
    """Angle between the field and the direction from a point."""
    away = torch.nn.functional.normalize(x - point)
    return (direction[:, 0] * away[:, 1] - direction[:, 1] * away[:, 0]).abs().arcsin().numpy()


angles = {"from the centroid": angle_from(centroid), "from the heaviest charge": angle_from(charges[0])}
analysis.plot_far_field(distance.numpy(), angles).set_title("How far the field is from that of one point", fontsize=10)
plt.show()
slopes = {name: np.polyfit(distance[6:].log().numpy(), np.log(angle[6:]), 1)[0] for name, angle in angles.items()}
say(
    f"The slopes are {slopes['from the centroid']:.2f} (centroid) and {slopes['from the heaviest charge']:.2f} (heaviest "
    f"charge). At a distance of {distance[-1]:.0f} the field points past the centroid by "
    f"{np.degrees(angles['from the centroid'][-1]):.1g}°."
)

# %% [markdown]
# ## But inside a shell nothing pulls
# Newton's theorem: charges spread evenly over a shell have no field inside. A particle that starts there, or gets there, is not
# moved, and nothing tells it where the data are. Nor does a particle in the plane know when to stop.

# %%
shell = on_circle(60)
places = grid(torch.linspace(-1.9, 1.9, 20), torch.linspace(-1.9, 1.9, 20))
direction, log_strength = electric_field(places, shell)
LIMITS = (1e-3, 1.0)
_, ax = plt.subplots(figsize=(6, 4.8), layout="constrained")
analysis.plot_directions(
    places.numpy(), (-direction * log_strength.exp()[:, None]).numpy(), charges=shell.numpy(), limits=LIMITS,
    extent=(-2, 2, -2, 2.6), ax=ax,
)  # fmt: skip
ax.set_title("The pull of 60 masses on a circle, in the plane", fontsize=10)
plt.show()
_, inside = electric_field(on_circle(720, 0.8), shell)
_, outside = electric_field(torch.tensor([[2.0, 0.0]]), shell)
say(
    f"Within 0.8 of the shell's radius the field is at most {inside.max().exp().item():.0e}, which is there because 60 charges "
    f"are no even shell yet. At twice the radius it is {outside.exp().item():.3g}; of one charge in the middle it would be "
    f"{1 / (4 * math.pi):.3g}."
)

# %% [markdown]
# ## One more dimension, and everything is pulled
# Put the same shell on the plane t = 0 of a space with one more dimension. Seen from above, no place is inside: at every height
# t > 0 the field has a downward component, so every particle comes down to t = 0 — where the data are, and where it stops.

# %%
places = grid(torch.linspace(-1.9, 1.9, 20), torch.linspace(0.1, 2.2, 12))
above = torch.stack([places[:, 0], torch.zeros(len(places))], dim=1)  # the vertical plane x₂ = 0
direction, log_strength = true_field(above, places[:, 1], shell)
in_plane = (direction * log_strength.exp()[:, None])[:, [0, 2]]
_, (ax, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained", width_ratios=(1.35, 1))
analysis.plot_directions(
    places.numpy(), in_plane.numpy(), charges=np.array([[-1.0, 0.0], [1.0, 0.0]]), limits=LIMITS,
    labels=("x₁ (data units)", "height t (data units)"), extent=(-2, 2, 0, 2.75), ax=ax,
)  # fmt: skip
ax.set_title("The same circle seen in a vertical cut, x₂ = 0", fontsize=10)
radii = torch.linspace(0.0, 2.0, 161)
radii = radii[(radii - 1).abs() > 1e-9]
ray = torch.stack([radii, torch.zeros(len(radii))], dim=1)
strengths = {"in the plane, without t": electric_field(ray, shell)[1]}
strengths |= {f"with one more dimension, at t = {t}": true_field(ray, t, shell)[1] for t in (0.1, 0.3, 1.0)}
analysis.plot_field_strength(radii.numpy(), {name: s.exp().numpy() for name, s in strengths.items()}, ax=right)
right.set_ylim(1e-6, 2)
right.set_title("Strength along a radius", fontsize=10)
plt.show()
_, at_edge = true_field(on_circle(720, 0.8), 0.3, shell)
_, in_middle = true_field(torch.zeros(1, 2), 0.3, shell)
say(
    f"At a height of 0.3 the field is {at_edge.exp().min().item():.2g} at 0.8 of the shell's radius and "
    f"{in_middle.exp().item():.2g} in the middle, where the plane had at most {inside.max().exp().item():.0e}. "
    f"The smallest downward component of all {len(places)} arrows is {(-in_plane[:, 1]).min().item():.1g}."
)

# %% [markdown]
# ## Trajectories reach every mode
# The field's lines, anchored in the height: dx/dt = (x − ȳ)/t from a plane t = T down to 0, where ȳ is the mean of the data as
# seen from (x, t). First four data points on a line: its own dimension is horizontal, the new one vertical.

# %%
modes, shares = torch.tensor([[-2.0], [-0.4], [0.5], [2.2]]), torch.tensor([0.3, 0.2, 0.1, 0.4])
modes = modes - (shares[:, None] * modes).sum(0)  # centred: from far away the data are one point at 0
oracle, T = PointCharges(modes, shares), 8.0
levels = heights(T, 1e-4, 80)
start = T * torch.tan(math.pi * ((torch.arange(60) + 0.5) / 60 - 0.5))[:, None]  # even quantiles of the prior, Cauchy(0, T)
seen, paths = trajectories(oracle.mean_source, start, levels)
_, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
analysis.plot_trajectories(seen.numpy(), paths.numpy(), modes.numpy(), extent=(-10, 10, 0, T), ax=ax)
ax.set_title("Four data points on a line; a colour for where a trajectory ends", fontsize=10)
plt.show()
draws = PoissonPrior(1, T).from_latent(*latents(4000, 1, 0))
_, ends = trajectories(oracle.mean_source, draws, torch.tensor([T, 1e-4]), rtol=1e-4)
reached = torch.bincount(torch.cdist(ends[-1], modes).argmin(1), minlength=4) / len(draws)
kept = [oracle.line_invariant(x, float(t)) for x, t in zip(paths, seen, strict=True)]
drift = max(float((now - kept[0]).abs().max()) for now in kept)
say(
    f"Of {len(draws):,} draws from the prior at T = {T:g}, {', '.join(f'{p:.1%}' for p in reached.tolist())} end at the points "
    f"of weight {', '.join(f'{p:.0%}' for p in shares.tolist())}. The exact invariant of a field line changes by at most "
    f"{drift:.0e} along the trajectories of the figure."
)

# %%
modes = torch.cat([on_circle(6, 1.5), torch.zeros(1, 2)])  # six on a circle and one inside it
oracle, T = PointCharges(modes), 4.0
start = PoissonPrior(2, T, max_radius=4.0).from_latent(*latents(120, 2, 1))  # farther starts would leave the picture
seen, paths = trajectories(oracle.mean_source, start, heights(T, 1e-4, 60))
ax = analysis.plot_trajectories(seen.numpy(), paths.numpy(), modes.numpy(), extent=(-4, 4, -4, 4))
ax.set_title("Seven data points in the plane, one inside the circle of the others", fontsize=10)
plt.show()
draws = PoissonPrior(2, 40.0).from_latent(*latents(4000, 2, 2))
_, ends = trajectories(oracle.mean_source, draws, torch.tensor([40.0, 1e-4]), rtol=1e-4)
reached = torch.bincount(torch.cdist(ends[-1], modes).argmin(1), minlength=7) / len(draws)
say(
    f"Of {len(draws):,} trajectories from the whole prior at T = 40 the point in the middle gets {reached[-1]:.1%}, the six "
    f"around it {reached[:-1].min():.1%} to {reached[:-1].max():.1%}; each should get {1 / 7:.1%}, with a standard error "
    f"of {math.sqrt(6 / 49 / len(draws)):.1%}."
)

# %% [markdown]
# ## Where trajectories start
# Far above, the data are one point, and its field lines pierce the plane t = T with the density 2T / (S (‖x‖² + T²)^((d+1)/2)):
# the prior. It is known exactly, and heavy-tailed: its mean radius is infinite. Here for the digits (d = 64), with T and the
# largest trained radius R_max by the authors' rule.

# %%
digits = load_data(DataConfig(name="digits", center=True))
data, d, norm = digits.points[:].double(), digits.info.dim, digits.info.mean_norm
SIGMA, TAU = 0.1, 0.03
M = rule_M(norm, d, SIGMA, TAU)
t_hi = height_max(SIGMA, TAU, M)
T, R_max = rule_T(t_hi), rule_R_max(t_hi, d)
prior = PoissonPrior(d, T)
radii = prior.sample([20_000], torch.Generator().manual_seed(0)).norm(dim=1)
r = prior.radius_icdf(torch.tensor([1e-4, 1 - 1e-4])).log()
r = torch.linspace(r[0].item(), r[1].item(), 300).exp()
along = torch.nn.functional.pad(r[:, None], (0, d - 1))  # a point at each radius
density = (log_sphere_area(d) + (d - 1) * r.log() + prior.log_prob(along)).exp()  # of the radius: S_d r^(d−1) p(x)
covered = prior.radius_cdf(R_max).item()
_, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.6), layout="constrained")
analysis.plot_radius_law(radii.numpy(), r.numpy(), density.numpy(), covered=(R_max, covered), ax=left)
left.set_title(f"Prior of the digits: d = {d}, T = {T:.3g}", fontsize=10)
tails = {"the law: falls like 1/r": prior, "a Gaussian of standard deviation T": PoissonPrior(d, T, n_aug=math.inf)}
analysis.plot_radius_tail(radii.numpy(), r.numpy(), {name: law.radius_sf(r).numpy() for name, law in tails.items()}, ax=right)
right.set_title("Its tail", fontsize=10)
plt.show()
median, rare = (prior.radius_icdf(q).item() for q in (0.5, 0.99))
gaussian = tails["a Gaussian of standard deviation T"]
median_gaussian, rare_gaussian = (gaussian.radius_icdf(q).item() for q in (0.5, 0.99))
say(
    f"Half of all starts lie beyond {median:.0f}, one in a hundred beyond {rare:,.0f}: {rare / median:.0f} times as far, "
    f"where for the Gaussian it is {rare_gaussian / median_gaussian:.2f} times. "
    f"{(radii <= R_max).double().mean().item():.1%} of {len(radii):,} draws start within R_max = {R_max:.0f}; the law says "
    f"{covered:.1%}."
)

# %% [markdown]
# ## Where the field is learned
# A network must learn the field wherever trajectories pass. Training points are data points pushed off the plane: distance and
# height share one random factor, from 1 to t_hi/σ, so every scale is met equally often. The line ‖x − y‖ = √d t is where the
# height's own noise is one standard deviation: in high dimension distances scatter little, heights a lot, mostly downward.

# %%
g = torch.Generator().manual_seed(0)
chosen = data[torch.randint(len(data), (40_000,), generator=g)]
x, t = perturb(chosen, sigma=SIGMA, tau=TAU, M=M, generator=g)
distance = (x - chosen).norm(dim=1)
_, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
analysis.plot_training_points(
    distance.numpy(), t.numpy(), heights={"t_hi": t_hi, "T, where sampling starts": T, "σ": SIGMA}, slope=math.sqrt(d), ax=ax
)
ax.set_title(f"Training points of the digits: σ = {SIGMA}, τ = {TAU}, M = {M:.0f}", fontsize=10)
plt.show()
low, high = t.quantile(torch.tensor([0.05, 0.95])).tolist()
say(
    f"Nine tenths of the heights lie between {low:.2g} and {high:.3g}. {(t > T).double().mean().item():.1%} are above T, "
    f"{(t < 1e-3).double().mean().item():.2%} below 0.001, where sampling ends by default."
)

# %% [markdown]
# ## Why not one source at a time?
# The article's first objective draws one independent source for every training point: on average that is the field, without
# bias. But a weight 1/ρ^(d+1) varies over decades in high dimension, and the average is made by sources that are hardly ever
# drawn. Here for standard normal data at a height of one standard deviation.

# %%
dims, n_sources = [1, 2, 3, 4, 8, 16, 32, 64], 16_384
g = torch.Generator().manual_seed(0)
variances = [raw_target_variance(k, n_points=128, n_sources=n_sources, generator=g).numpy() for k in dims]
_, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
analysis.plot_target_variance(dims, variances, n_sources=n_sources, ax=ax)
ax.set_title("Scatter of the one-source target at a height of one standard deviation", fontsize=10)
plt.show()
medians = dict(zip(dims, (float(np.median(v)) for v in variances), strict=True))
say(
    f"The median variance is {medians[1]:.2g} squared means for d = 1, {medians[3]:.2g} for d = 3 and {medians[64]:,.0f} for "
    "d = 64: to see the target as large as its noise takes as many draws. In high dimension the "
    f"{n_sources:,} sources of this calculation are too few themselves, so the curve there is too low."
)

# %% [markdown]
# ## How many sources a training point sees
# PFGM takes the mean over a reference batch instead. At the bottom the nearest source has all the weight; far up all of them
# count. In between, the batch size decides how smooth the target is.

# %%
table = analysis.effective_sample_size(
    data.numpy(), np.geomspace(0.02, 200, 33), n_ref=[64, 256, 1024, len(data)], n_points=128
)
_, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
analysis.plot_effective_sample_size(table, ax=ax)
ax.set_title("Reference batches of the digits", fontsize=10)
plt.show()
whole = table.loc[table["n_ref"].eq(len(data))].set_index("t")
alone, many = whole.index[whole["ess"] < 1.5].max(), whole.index[whole["ess"] > 0.5 * len(data)].min()
by_size = table.assign(gap=(table["t"] / 1.0).map(np.log).abs()).sort_values("gap").groupby("n_ref")["ess"].first()
say(
    f"Up to a height of {alone:.2g} the median training point of the digits sees a single source (fewer than 1.5), and from "
    f"{many:.3g} on more than half of all {len(data):,}. At a height of 1, batches of "
    f"{', '.join(f'{n:,}' for n in by_size.index)} count as {', '.join(f'{v:.3g}' for v in by_size)} sources."
)
