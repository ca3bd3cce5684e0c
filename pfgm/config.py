"""Validated, frozen models of one run. Every key is declared here once, with its unit, range and default.

A stored field carries these models as JSON. An unknown key is an error; a key of another process is refused, and else ``None``.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, field_validator, model_validator

from pfgm.kinds import AskedKeys, ConditionKeys, Integer, Model, Named, Positive, PositiveInt, joined, whole, with_defaults
from pfgm.mistakes import Mistake
from pfgm.registry import FEATURES, GRIDS, HEADS, METRICS, NETWORKS, OBJECTIVES, PROCESSES, SOLVERS

OWN_GRIDS = ("own", "tuned")
"""Grids whose heights are other ones for each sample."""

REFERENCE_OBJECTIVES = ("normalized", "reference")
"""Objectives whose target is computed over a reference batch."""


def objectives_of(process: str) -> tuple[str, ...]:
    """Return the objectives of a process, its default first: those that it names, and those from outside that name it."""
    added = (name for name in OBJECTIVES if OBJECTIVES.home(name) and process in OBJECTIVES[name].processes)
    return (*PROCESSES[process].objectives, *added)


def foreign_train_keys(process: str, objective: str | None = None) -> set[str]:
    """Return the keys of ``train`` without meaning under a process and an objective (None: its own)."""
    if process not in PROCESSES:
        return set()
    own, able = PROCESSES[process].Keys.model_fields, objectives_of(process)
    foreign = {key for _, other in PROCESSES.items() for key in other.Keys.model_fields} - set(own)
    if objective not in able:
        foreign |= {"objective"} if objective is not None else set()
        objective = able[0]
    foreign |= {"gamma"} if objective != "normalized" else set()
    return foreign | ({"reference_batch_size"} if objective not in REFERENCE_OBJECTIVES else set())


class DataConfig(Model):
    """The data set, and the way it is brought to data units (images: [−1, 1], mean image subtracted)."""

    name: str = "digits"
    """digits, fashion_mnist, cifar10, images, parquet, npz, vectors; or a toy: rings, spiral, two_moons, gaussians, shell."""
    path: str | None = None
    """File or folder of a data set that is read from one."""
    download: StrictBool = False
    """Fetch `fashion_mnist` or `cifar10` where it is not on this machine."""
    center: StrictBool = True
    """Subtract the mean; it is stored with the field and added back to samples."""
    flip: StrictBool = False
    """Count every image a second time, mirrored left–right."""
    holdout: Annotated[float, Field(gt=0, le=0.5, strict=True)] | None = None
    """Fraction of the points that is kept out of training, as test points; for data sets without a test split."""
    size: PositiveInt | None = None
    """`images`, `parquet`: resize to size × size pixels (default: as they are, all alike)."""
    crop: Literal["center", "none"] | None = None
    """`images`, `parquet`: cut the centre square out first (default: `center` with size, else `none`)."""
    channels: Annotated[Literal[1, 3], BeforeValidator(whole)] | None = None
    """`images`, `parquet`: 1 grey, 3 RGB (default: what the images have, all alike)."""
    column: str | None = None
    """`parquet`: the column with the images (default `image`)."""
    key: str | None = None
    """`npz`, `vectors`: the array of an .npz file that has several (default `x`)."""
    standardize: StrictBool = False
    """`npz`, `vectors`: bring every column of vectors to unit variance; samples come back in the units of the file."""
    labels: str | None = None
    """`npz`, `vectors`, `parquet`: the array or column that names the class of each point."""
    n: PositiveInt | None = None
    """Number of points of a toy (default 2,000)."""
    dim: PositiveInt | None = None
    """Dimension of the toys `gaussians` and `shell` (default 2)."""


class NetworkConfig(Model):
    """Architecture of the field network."""

    name: Annotated[str, Named(NETWORKS)] = "mlp"
    """ddpmpp, ncsnpp: those of the PFGM paper, process pfgm alone. edm: that of EDM and PFGM++, with one of their heads."""
    width: PositiveInt = 512
    """mlp: hidden width. unet, ddpmpp, ncsnpp: channels at full resolution. edm: channels over `channel_mult`."""
    depth: PositiveInt = 2
    """mlp: residual blocks. unet: resolutions. ddpmpp, ncsnpp, edm: residual blocks a resolution."""
    skip: StrictBool = True
    """Process pfgm: add a denoiser's skip to the output; false: raw numbers are the field, as in the papers and ddpmpp."""
    root_below: Positive | None = None
    """skip: false: height, in data units, where the reading passes from the quadratic's root to v_t (default γ)."""
    head: Annotated[str, Named(HEADS)] | None = None
    """The published reading of an output, of EDM and PFGM++ or of the SDEs (default: the head that all processes share)."""
    sigma_data: Positive | None = None
    """head edm: σ_data, the width of the data that the head counts with, in data units, above 0 (default 0.5)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_network_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        values = dict(values)
        name = str(values.get("name", cls.model_fields["name"].default))
        if name in NETWORKS:
            values = with_defaults(values, name, NETWORKS, f"this one is {name}")
            if not NETWORKS[name].skips and values.setdefault("skip", False) is True:
                as_it_is = "is the field as it is, as in the papers"
                raise Mistake("skip", f"the output of {name} {as_it_is}; write false, or use name: unet")
        if values.get("root_below") is not None and values.get("skip", True) is not False:
            raise Mistake("root_below", "says how a plain head is read; add skip: false, or remove it")
        if values.get("head") is not None and values.get("skip", True) is False:
            raise Mistake("head", "reads a denoiser, and skip: false reads the output as the field; remove one of the two")
        if (head := values.get("head")) is None or str(head) in HEADS:
            values = with_defaults(values, head if head is None else str(head), HEADS, f"this one has {head or 'none'}")
        if head == "edm":
            values["sigma_data"] = values.get("sigma_data") or 0.5
        elif values.get("sigma_data") is not None:
            raise Mistake("sigma_data", "belongs to head edm; add head: edm, or remove it")
        return values


if not TYPE_CHECKING:
    NetworkConfig = joined(NetworkConfig, NETWORKS, HEADS)


class _Trained(ConditionKeys):
    """The first keys of a training point."""

    process: Annotated[str, Named(PROCESSES)] = "pfgm"
    """Which generative process is trained: PFGM, PFGM++, or diffusion as the probability-flow ODE of the VE or VP SDE."""
    objective: Annotated[str, Named(OBJECTIVES)] | None = None
    """Default: `normalized` for pfgm, `denoise` for the others."""
    gamma: Positive | None = None
    """Normalisation constant γ in data units (objective `normalized` only, default 5)."""


if not TYPE_CHECKING:
    _Trained = joined(_Trained, PROCESSES)


class TrainConfig(_Trained):
    """One training point: process, objective and optimisation."""

    reference_batch_size: PositiveInt | Literal["all"] | None = None
    """Sources over which the target is computed (default `all`; objectives `normalized` and `reference`)."""
    steps: PositiveInt = 2500
    """Training steps (batches), 1 or more."""
    batch_size: PositiveInt = 128
    """Training points in one step, 1 or more."""
    learning_rate: Positive = 1e-3
    """Largest learning rate of Adam, no unit, above 0; it is reached at the end of the warm-up."""
    warmup_steps: Annotated[Integer, Field(ge=0)] = 100
    """Steps over which the learning rate grows linearly to its largest value, 0 or more."""
    constant_rate: StrictBool = False
    """Keep the learning rate after the warm-up, as the papers do; false: cosine to zero at the last step."""
    gradient_clip: Positive = 1.0
    """Largest norm of the gradient of all weights together, above 0; a longer gradient is shortened to it."""
    ema_decay: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.999
    """Ceiling of the ramped decay min(ema_decay, (1+k)/(10+k)) at step k."""
    bf16: StrictBool = False
    """Compute convolutions and matrix products of a training step in bfloat16; the target stays in float64."""
    force: StrictBool = False
    """Allow the `raw` objective above three dimensions."""

    @model_validator(mode="before")
    @classmethod
    def _fill_process_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        values = dict(values)
        process = str(values.setdefault("process", "pfgm"))
        if process not in PROCESSES:
            return values
        values = with_defaults(values, process, PROCESSES, f"this run uses process {process}")
        if values.get("objective") is None:
            values["objective"] = objectives_of(process)[0]
        uses_gamma = values["objective"] == "normalized"
        if uses_gamma and values.get("gamma") is None:
            values["gamma"] = 5.0
        if not uses_gamma and values.get("gamma") is not None:
            raise Mistake("gamma", f"belongs to objective normalized, this run uses {values['objective']}; remove it")
        uses_reference = values["objective"] in REFERENCE_OBJECTIVES
        if uses_reference and values.get("reference_batch_size") is None:
            values["reference_batch_size"] = "all"
        if not uses_reference and values.get("reference_batch_size") is not None:
            able = f"objectives {', '.join(REFERENCE_OBJECTIVES)}"
            raise Mistake("reference_batch_size", f"belongs to {able}, this run uses {values['objective']}; remove it")
        return values

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        PROCESSES[self.process].Keys.of(self).check()
        if self.objective not in (able := objectives_of(self.process)):
            raise Mistake("objective", f"{self.objective} does not go with process {self.process}; use {' or '.join(able)}")
        reference = self.reference_batch_size
        if isinstance(reference, int) and reference < self.batch_size:
            got = f"got {reference} and {self.batch_size}; lower batch_size or raise it"
            raise Mistake("reference_batch_size", f"must be at least batch_size, {got}")
        return self


def default_solver(keys: Container[str]) -> str:
    """Return the solver of a sampler point that names none, by the keys that it gives: a tolerance asks for an adaptive one."""
    return "dopri5" if "rtol" in keys or "atol" in keys else "pc3"


class SamplerConfig(AskedKeys):
    """One sampler point: where the ODE starts and stops, and how it is solved."""

    T: Positive | Literal["rule"] = "rule"
    """Starting height; `rule` is √(2/π) σ(1+τ)^M (pfgm), 80 data units (pfgmpp), or the largest trained level (ve, vp)."""
    T_ratio: Positive | None = None
    """Multiple of the rule's T; give T or T_ratio, not both."""
    t_min: Positive = 1e-3
    """Height where the ODE ends, in data units, above 0 and below T."""
    solver: Annotated[str, Named(SOLVERS)] = "pc3"
    """Adaptive: dopri5 (the default where rtol or atol is given), bosh3, adaptive_heun, dopri8. Fixed steps: euler, midpoint,
    heun2, rk4, multistep2, pc2, pc3, ipndm4."""
    rtol: Positive | None = None
    """Relative tolerance of an adaptive solver (default 1e-4)."""
    atol: Positive | Literal["same"] | None = None
    """Absolute tolerance of the state that is solved for, in data units (vp: x/√(1 + t²)); `same` (default): equal to rtol."""
    steps: PositiveInt | None = None
    """Steps of a fixed-step solver (default 24 for pc2, pc3 and ipndm4, else 16)."""
    grid: Annotated[str, Named(GRIDS, ("native", *OWN_GRIDS))] | None = None
    """Heights of a fixed-step solver: log (default), rho (EDM's ρ = 7), rho5 (ρ = 5; default of pc2, pc3 and ipndm4), time
    (equal steps of its own time), native, as the process was published (log for pfgm and ve, rho for pfgmpp, time for vp), own:
    other heights for each sample, tuned: chosen for the field. The last two need pc2, pc3, multistep2 or ipndm4."""
    denoise: StrictBool = True
    """End with one more network call that returns D(x, t_min)."""
    max_radius_ratio: Positive | None = None
    """Truncate the prior at R = max_radius_ratio · T (null: not truncated)."""
    precision: Literal["tf32", "bf16"] | None = None
    """Arithmetic of the network's products (null: float32); state and head stay in float32. tf32 needs an NVIDIA GPU."""
    batch_size: PositiveInt = 600
    """Samples that are solved for together, 1 or more; an adaptive solver takes one step size for the whole batch."""

    @model_validator(mode="before")
    @classmethod
    def _fill_solver_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        values = dict(values)
        solver = values.setdefault("solver", default_solver(values))
        if solver not in SOLVERS:
            return values
        card, adaptive = SOLVERS[str(solver)], {"rtol": 1e-4, "atol": "same"}
        fixed: dict[str, object] = {"steps": card.steps, "grid": card.grid}
        mine, other = (adaptive, fixed) if card.adaptive else (fixed, adaptive)
        values |= dict.fromkeys(other)  # a key of the other kind of solver is inactive here
        for key, default in mine.items():
            if values.get(key) is None:
                values[key] = default
        return values

    @model_validator(mode="after")
    def _check(self) -> SamplerConfig:
        if self.T_ratio is not None and self.T != "rule":
            raise Mistake("T_ratio", "is a multiple of the rule's T, so T must be absent or `rule`; remove one of the two")
        if self.grid in OWN_GRIDS and self.solver not in (able := [name for name, kind in SOLVERS.items() if kind.own_levels]):
            raise Mistake("grid", f"{self.grid} needs solver {', '.join(able)}; got {self.solver}")
        if self.T != "rule" and float(self.T) <= self.t_min:
            raise Mistake("T", f"must be above t_min, got T = {self.T:g} and t_min = {self.t_min:g}")
        return self


class EvaluateConfig(Model):
    """The metrics of one row, and the samples that they look at."""

    samples: PositiveInt = 1797
    """Samples that are drawn for each row, 50 or more."""
    metrics: tuple[Annotated[str, Named(METRICS)], ...] = ("fid", "precision_recall", "neighbours", "solver_error")
    """What is measured of the samples of each row; every name once."""
    features: Annotated[str, Named(FEATURES)] | None = None
    """Feature network of the distances (default: the data set's own, else `random` for images and `pixels` for vectors)."""
    weights: str | None = None
    """Weight file of `inception` (default: the standard one, downloaded once)."""
    pr_space: Literal["pixels", "features"] | None = None
    """Where precision and recall look for neighbours (default: pixels up to 256 coordinates, else features)."""
    solver_error_samples: PositiveInt = 256
    """Latents whose samples are compared with a nearly exact solution, 1 or more."""
    pr_samples: PositiveInt = 10_000
    """Most samples, and most data, that precision and recall use."""
    likelihood_samples: PositiveInt = 256
    """Most points, held-out ones where there are any, whose likelihood is computed."""

    @field_validator("metrics")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise Mistake("metrics", "names a metric twice")
        return value

    @model_validator(mode="after")
    def _check(self) -> EvaluateConfig:
        if self.samples < 50:
            raise Mistake("samples", f"must be at least 50 for a Fréchet distance, got {self.samples}")
        return self
