"""The truth behind a synthetic study: planned cells, known effects, known noise.

The log of the metric is a sum of independent parts:

    log FID = log base + Σ effects of the parameters + P_point + F_field + G_(field, sampler point) + S_(sample seed) + ε

F ~ N(0, sd_p²) with a standard deviation per training point, log-uniform between ``seed_noise``/√s and ``seed_noise``·√s,
s = ``seed_spread``: retraining noise differs between configurations. P, G, S and ε are normal with one variance each. S is
shared by all fields, since equal sample seeds start from equal latents. Parameters are logarithmic, linear, categorical and
conditional (``steps`` exists for heun2 only); ``status`` puts failures where one wants them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

TRAIN_DEFAULT: dict[str, Any] = {"sigma": 0.1, "M": 121.0, "tau": 0.03, "reference_batch_size": 1797}
SAMPLER_DEFAULT: dict[str, Any] = {"T_ratio": 1.0, "solver": "dopri5", "rtol": 1e-4, "steps": None}
TRAIN_ARMS: dict[str, list[Any]] = {
    "sigma": [0.03, 0.3],
    "M": [60.0, 180.0],
    "tau": [0.01, 0.1],
    "reference_batch_size": [128, 512],
}
SAMPLER_ARMS: dict[str, list[Any]] = {
    "T_ratio": [0.3, 0.5, 2.0, 5.0],
    "rtol": [1e-5, 1e-3, 1e-2, 1e-1],
    "solver": ["heun2"],
    "steps": [8, 16, 32],
}
SEARCH: dict[str, dict[str, dict[str, Any]]] = {
    "train": {
        "sigma": {"log_uniform": [0.03, 0.3], "levels": 2},
        "M": {"uniform": [60.0, 180.0], "levels": 2},
        "tau": {"log_uniform": [0.01, 0.1], "levels": 2},
        "reference_batch_size": {"choice": [128, 512, "all"]},
    },
    "sampler": {
        "T_ratio": {"log_uniform": [0.3, 5.0], "levels": 4},
        "rtol": {"log_uniform": [1e-5, 0.1], "levels": 4},
        "solver": {"choice": ["dopri5", "heun2"]},
        "steps": {"choice": [8, 16, 32], "when": {"solver": ["heun2"]}},
    },
}
BASE = 0.8
"""FID of the default without noise."""

Effect = Callable[[Any], float]


@dataclass(frozen=True)
class Truth:
    """The parts that a synthetic study is made of."""

    design: str = "one_at_a_time"
    train_seeds: int = 3
    arm_seeds: int | None = None
    sample_seeds: int = 1
    seed_noise: float = 0.05
    """Standard deviation of log FID between fields of one training point (geometric middle over the points)."""
    seed_spread: float = 1.0
    """Noisiest over quietest training point: their standard deviations are log-uniform between."""
    alike: float = 0.0
    """Correlation of the noise of fields that are trained with equal seeds."""
    pair_noise: float = 0.0
    """Standard deviation of field × sampler point."""
    shared_noise: float = 0.0
    """Standard deviation of what a sample seed adds to every field."""
    sample_noise: float = 0.01
    """Standard deviation of a cell."""
    point_noise: float = 0.0
    """Standard deviation of a random effect of the training point, beside ``effects``: truth for `variance_components`."""
    effects: Mapping[str, Effect] = field(default_factory=dict)
    """log FID against a parameter, added to the base; a null (inactive) value adds nothing."""
    status: Callable[[dict[str, Any]], str] = lambda row: "complete"
    """Status of a cell; "pending" writes no row."""
    train_axes: tuple[str, ...] = tuple(TRAIN_ARMS)
    sampler_axes: tuple[str, ...] = tuple(SAMPLER_ARMS)
    trials: int = 12
    """Training points of an iid design."""
    sampler_points: int = 6
    disjoint: bool = False
    with_default: bool = True
    features: str = "digits"
    metrics: bool = True
    """False: every metric is null."""
    samples: bool = True
    tolerance: float = 0.10
    seed: int = 0

    def changed(self, **keys: Any) -> Truth:
        """Return this truth with other values of some fields."""
        return replace(self, **keys)

    def importance(self, name: str) -> float:
        """Return the share of Var(Σ effects) over the box that parameter ``name`` causes: its first-order Sobol' index.

        Effects are additive, so the indices sum to one; by quadrature over the search distribution.
        """
        variances = {key: float(np.var([self.effects[key](v) for v in quantiles(key)])) for key in self.effects}
        total = sum(variances.values())
        return variances.get(name, 0.0) / total if total > 0 else 0.0

    def within(self, name: str, value: Any) -> bool:
        """Return whether the true mean at ``value`` of one parameter, the others at their defaults, is within the tolerance."""
        effect = self.effects.get(name)
        if effect is None:
            return True
        default = {**TRAIN_DEFAULT, **SAMPLER_DEFAULT}[name]
        reference = effect(default) if default is not None else 0.0
        return effect(value) - reference <= math.log1p(self.tolerance) + 1e-12


def quantiles(name: str, n: int = 400) -> list[Any]:
    """Return values of a parameter at equal steps of its search distribution's probability."""
    search = next(group[name] for group in SEARCH.values() if name in group)
    if "choice" in search:
        return [1797 if value == "all" else value for value in search["choice"]]
    kind = "log_uniform" if "log_uniform" in search else "uniform"
    low, high = search[kind]
    u = (np.arange(n) + 0.5) / n
    return list(low * (high / low) ** u if kind == "log_uniform" else low + (high - low) * u)


def synthetic_plan(truth: Truth, name: str = "synthetic") -> pd.DataFrame:
    """Return the planned cells of a study: training points × seeds × sampler points × sample seeds."""
    rng = np.random.default_rng([truth.seed, 1])
    trains, samplers = _points(truth, rng)
    fields = [
        {"point": p, "design_role": role, "seed_train": seed, **{f"train_{k}": v for k, v in train.items()}}
        for p, (role, train) in enumerate(trains)
        for seed in _seeds(truth, role, p)
    ]
    points = [
        {"number": number, "design_sampler_role": role, **{f"sampler_{k}": v for k, v in sampler.items()}}
        for number, (role, sampler) in enumerate(samplers)
    ]
    seeds = pd.DataFrame({"seed_sample": range(truth.sample_seeds)})
    plan = pd.DataFrame(fields).merge(pd.DataFrame(points), how="cross").merge(seeds, how="cross")
    return _with_constants(plan, truth, name)


def _with_constants(plan: pd.DataFrame, truth: Truth, name: str) -> pd.DataFrame:
    point = plan["point"].map("{:03d}".format)
    seed, number = plan["seed_train"].astype(str), plan["number"].map("{:02d}".format)
    ratio, rtol = plan["sampler_T_ratio"], plan["sampler_rtol"].astype(float)
    return plan.assign(
        study_id=name, cell_id="c" + point + "-" + seed + "-" + number + "-" + plan["seed_sample"].astype(str),
        trial_id="t" + plan["point"].astype(str) + "-" + seed, point_id="p" + point, train_id="f" + point + "s" + seed,
        sampler_id="s" + number, step=1300, is_final=True, data_name="digits", data_n=1797, data_dim=64, data_center=True,
        network_name="mlp", network_width=512, network_depth=2, train_process="pfgm", train_objective="normalized",
        train_gamma=5.0, train_height_max=plan["train_sigma"] * (1 + plan["train_tau"]) ** plan["train_M"], train_steps=1300,
        train_batch_size=128, train_learning_rate=1e-3, sampler_T=2.85 * ratio, sampler_t_min=1e-3, sampler_rtol=rtol,
        sampler_atol=rtol, sampler_denoise=True, sampler_batch_size=500, prov_design=truth.design, schema_version=1,
    )  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """One realisation of the noise over a plan."""

    log_fid: np.ndarray
    """Per row of the plan."""
    mean: np.ndarray
    """The truth per row: base + effects + the training point's random effect."""
    seed_sd: np.ndarray
    """True standard deviation between fields, per training point."""
    point_effect: np.ndarray
    """Per training point."""


def draw_noise(plan: pd.DataFrame, truth: Truth, rng: np.random.Generator) -> Draw:
    """Draw metrics for a plan: the truth plus one realisation of every random part."""
    point, number = plan["point"].to_numpy(), plan["number"].to_numpy()
    field_code = pd.factorize(plan["train_id"])[0]
    sample_code, _ = pd.factorize(plan["seed_sample"])
    n_points, n_fields, n_samplers = int(point.max()) + 1, int(field_code.max()) + 1, int(number.max()) + 1
    spread = math.log(truth.seed_spread)
    seed_sd = truth.seed_noise * np.exp(rng.uniform(-spread / 2, spread / 2, n_points))
    point_effect = rng.normal(0, truth.point_noise, n_points) if truth.point_noise else np.zeros(n_points)
    mean = math.log(BASE) + _effects(plan, truth) + point_effect[point]
    own = rng.normal(0, 1, n_fields)[field_code]
    if truth.alike:
        seed, seeds = pd.factorize(plan["seed_train"])
        own = math.sqrt(truth.alike) * rng.normal(0, 1, len(seeds))[seed] + math.sqrt(1 - truth.alike) * own
    field_noise = own * seed_sd[point]
    pair_noise = rng.normal(0, truth.pair_noise, (n_fields, n_samplers))[field_code, number]
    shared = rng.normal(0, truth.shared_noise, int(sample_code.max()) + 1)[sample_code]
    noise = field_noise + pair_noise + shared + rng.normal(0, truth.sample_noise, len(plan))
    return Draw(mean + noise, mean, seed_sd, point_effect)


def _effects(plan: pd.DataFrame, truth: Truth) -> np.ndarray:
    total = np.zeros(len(plan))
    for name, effect in truth.effects.items():
        column = f"train_{name}" if f"train_{name}" in plan else f"sampler_{name}"
        values = plan[column].astype(object).where(plan[column].notna(), None)
        known = {value: effect(value) if value is not None else 0.0 for value in values.unique()}
        total += values.map(lambda v, known=known: known[v]).to_numpy(float)
    return total


def _points(truth: Truth, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    trains: list[Any] = [("default", dict(TRAIN_DEFAULT))] if truth.with_default else []
    samplers: list[Any] = [("default", dict(SAMPLER_DEFAULT))] if truth.with_default else []
    if truth.design == "one_at_a_time":
        for name in truth.train_axes:
            trains += [(f"arm:{name}", {**TRAIN_DEFAULT, name: value}) for value in TRAIN_ARMS[name]]
        for name in truth.sampler_axes:
            samplers += [(f"arm:{name}", _sampler_arm(name, value)) for value in SAMPLER_ARMS[name]]
        return trains, _joined(samplers)
    trains += [(truth.design, _draw_train(truth, rng)) for _ in range(truth.trials)]
    samplers += [(truth.design, _draw_sampler(truth, rng)) for _ in range(truth.sampler_points)]
    return trains, samplers


def _joined(points: list[Any]) -> list[Any]:
    """Join points as the planner does: no point twice, one on two arms has both roles."""
    roles: dict[str, list[str]] = {}
    for role, point in points:
        roles.setdefault(repr(point), []).append(role)
    return [("+".join(roles.pop(repr(point))), point) for _, point in points if repr(point) in roles]


def _sampler_arm(name: str, value: Any) -> dict[str, Any]:
    if name == "solver":
        return {**SAMPLER_DEFAULT, "solver": value, "rtol": None, "steps": 16}
    if name == "steps":
        return {**SAMPLER_DEFAULT, "solver": "heun2", "rtol": None, "steps": value}
    return {**SAMPLER_DEFAULT, name: value}


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _draw_train(truth: Truth, rng: np.random.Generator) -> dict[str, Any]:
    drawn = {"sigma": _log_uniform(rng, 0.03, 0.3), "M": float(rng.uniform(60, 180)), "tau": _log_uniform(rng, 0.01, 0.1),
             "reference_batch_size": int(rng.choice([128, 512, 1797]))}  # fmt: skip
    return {k: v if k in truth.train_axes else TRAIN_DEFAULT[k] for k, v in drawn.items()}


def _draw_sampler(truth: Truth, rng: np.random.Generator) -> dict[str, Any]:
    heun = "solver" in truth.sampler_axes and rng.random() < 0.4
    drawn = {"T_ratio": _log_uniform(rng, 0.3, 5.0), "rtol": _log_uniform(rng, 1e-5, 0.1)}
    point = {k: v if k in truth.sampler_axes else SAMPLER_DEFAULT[k] for k, v in drawn.items()}
    steps = int(rng.choice([8, 16, 32]))
    return {**point, "solver": "heun2", "rtol": None, "steps": steps} if heun else {**point, "solver": "dopri5", "steps": None}


def _seeds(truth: Truth, role: str, point: int) -> list[int]:
    n = truth.arm_seeds if role.startswith("arm:") and truth.arm_seeds else truth.train_seeds
    first = point * truth.train_seeds if truth.disjoint else 0
    return list(range(first, first + n))
