"""Validated, frozen models of one run. Every key is declared here once, with its unit, range and default.

A stored field carries these models as JSON. An unknown key is an error; a key of another process is refused, and else ``None``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

if TYPE_CHECKING:
    pass

T_ = TypeVar("T_")
ADAPTIVE_SOLVERS = ("dopri5", "bosh3", "adaptive_heun", "dopri8")
FIXED_SOLVERS = ("euler", "midpoint", "heun2", "rk4", "multistep2")
SOLVERS = ADAPTIVE_SOLVERS + FIXED_SOLVERS

PROCESS_KEYS: dict[str, dict[str, float | str | bool | None]] = {
    "pfgm": {"sigma": 0.1, "tau": 0.03, "M": "rule", "height_ratio": None, "restrict_M": False},
    "pfgmpp": {"n_aug": 128.0, "P_mean": -1.2, "P_std": 1.2},
    "ve": {"sigma_min": 0.02, "sigma_max": 100.0},
    "vp": {"beta_min": 0.1, "beta_max": 20.0},
}
"""Keys of ``train`` that belong to one process, with their defaults."""

NETWORK_KEYS: dict[str, dict[str, object]] = {
    "unet": {"patch": None},
    "ddpmpp": {"channel_mult": (1, 2, 2, 2), "dropout": 0.0},
}
"""Keys of ``network`` that belong to one network, with their defaults; null under any other."""

OBJECTIVES = {"pfgm": ("normalized", "raw"), "pfgmpp": ("denoise", "reference"), "ve": ("denoise",), "vp": ("denoise",)}
"""The (process, objective) pairs of the table in `pfgm.process.base`; all others are refused."""

REFERENCE_OBJECTIVES = ("normalized", "reference")
"""Objectives whose target is computed over a reference batch."""


def foreign_train_keys(process: str, objective: str | None = None) -> set[str]:
    """Keys of ``train`` that have no meaning under a process and an objective (None: its own); none where it is unknown."""
    if process not in OBJECTIVES:
        return set()
    foreign = {key for owner, keys in PROCESS_KEYS.items() if owner != process for key in keys}
    if objective not in OBJECTIVES[process]:
        foreign |= {"objective"} if objective is not None else set()
        objective = OBJECTIVES[process][0]
    foreign |= {"gamma"} if objective != "normalized" else set()
    return foreign | ({"reference_batch_size"} if objective not in REFERENCE_OBJECTIVES else set())


MAX_BETA, MAX_LOG_LEVEL = 1000.0, 300.0
"""Beyond these the largest noise level is no float64."""


def whole(value: T_) -> T_ | int:
    """A float that is a whole number as that integer: 1e2 is 100 wherever an integer is asked."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(whole), Field(strict=True)]
PositiveInt = Annotated[Integer, Field(gt=0)]
MIN_N_AUG = 0.5
"""Fewest extra dimensions: below, the noise of some training points has no square in float32."""


class Model(BaseModel):
    """A section: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class DataConfig(Model):
    """Which data set, and how it is brought to data units (images: [−1, 1], mean image subtracted)."""

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
    n: PositiveInt | None = None
    """Number of points of a toy (default 2,000)."""
    dim: PositiveInt | None = None
    """Dimension of the toys `gaussians` and `shell` (default 2)."""


class NetworkConfig(Model):
    """Architecture of the field network."""

    name: Literal["mlp", "unet", "ddpmpp"] = "mlp"
    """ddpmpp: the network of the PFGM papers, process pfgm alone."""
    width: PositiveInt = 512
    """mlp: hidden width. unet, ddpmpp: channels at full resolution."""
    depth: PositiveInt = 2
    """mlp: residual blocks. unet: resolutions. ddpmpp: residual blocks a resolution."""
    skip: StrictBool = True
    """Process pfgm: add a denoiser's skip to the output; false: raw numbers are the field, as in the papers and ddpmpp."""
    root_below: Positive | None = None
    """skip: false: height, in data units, where the reading passes from the quadratic's root to v_t (default γ)."""
    patch: PositiveInt | None = None
    """unet: squares of patch × patch pixels become channels before the first convolution (default 1)."""
    channel_mult: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    """ddpmpp: channels of each resolution over `width` (default [1, 2, 2, 2])."""
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] | None = None
    """ddpmpp: share of activations set to zero in training (default 0; the authors' is 0.1)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_network_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        values = dict(values)
        name = values.get("name", cls.model_fields["name"].default)
        for owner, keys in NETWORK_KEYS.items():
            for key, default in keys.items():
                if owner != name and values.get(key) is not None:
                    raise ValueError(f"{key}: belongs to network {owner}, this one is {name}; remove it")
                if owner == name and values.get(key) is None:
                    values[key] = default
        if name == "ddpmpp" and values.setdefault("skip", False) is True:
            raise ValueError(
                "skip: the output of ddpmpp is the field as it is, as in the papers; write false, or use name: unet"
            )
        if values.get("root_below") is not None and values.get("skip", True) is not False:
            raise ValueError("root_below: says how a plain head is read; add skip: false, or remove it")
        return values


class TrainConfig(Model):
    """One training point: process, objective and optimisation."""

    process: Literal["pfgm", "pfgmpp", "ve", "vp"] = "pfgm"
    """Which generative process is trained: PFGM, PFGM++, or diffusion as the probability-flow ODE of the VE or VP SDE."""
    objective: Literal["normalized", "raw", "denoise", "reference"] | None = None
    """Default: `normalized` for pfgm, `denoise` for the others."""
    gamma: Positive | None = None
    """Normalisation constant γ in data units (objective `normalized` only, default 5)."""
    sigma: Positive | None = None
    """pfgm: standard deviation σ of the noise on training points at the lowest level, in data units, above 0 (default 0.1)."""
    tau: Positive | None = None
    """pfgm: growth τ of the noise between levels, no unit, above 0: level m has σ(1+τ)^m (default 0.03)."""
    M: Positive | Literal["rule"] | None = None
    """pfgm: highest level M, no unit, above 0: the largest height is σ(1+τ)^M; rule (default): as the authors choose."""
    height_ratio: Positive | None = None
    """σ(1+τ)^M as a multiple of the rule's height before rounding; sets M (give M or height_ratio, not both)."""
    restrict_M: StrictBool | None = None
    """pfgm: draw training points of small height (|ε_t| < σ/2) from lower levels only, as the authors do (default false)."""
    n_aug: Annotated[float, Field(ge=MIN_N_AUG, strict=True)] | None = None
    """PFGM++: extra dimensions D, any number from `MIN_N_AUG` or .inf (EDM's diffusion)."""
    P_mean: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None
    """PFGM++: mean of log t over training points."""
    P_std: Positive | None = None
    """PFGM++: standard deviation of log t over training points."""
    sigma_min: Positive | None = None
    """ve: smallest trained noise level, in data units (below it the field is extrapolated: choose t_min accordingly)."""
    sigma_max: Positive | None = None
    """ve: largest trained noise level, in data units; the largest distance between two data points is enough."""
    beta_min: Positive | None = None
    """vp: rate of the noise at time 0."""
    beta_max: Positive | None = None
    """vp: rate of the noise at time 1."""
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
        process = values.setdefault("process", "pfgm")
        if process not in PROCESS_KEYS:
            return values
        for other, keys in PROCESS_KEYS.items():
            for key in keys:
                if other != process and values.get(key) is not None:
                    raise ValueError(f"{key}: belongs to process {other}, this run uses process {process}; remove it")
        if values.get("objective") is None:
            values["objective"] = OBJECTIVES[str(process)][0]
        for key, default in PROCESS_KEYS[str(process)].items():
            if values.get(key) is None:
                values[key] = default
        uses_gamma = values["objective"] == "normalized"
        if uses_gamma and values.get("gamma") is None:
            values["gamma"] = 5.0
        if not uses_gamma and values.get("gamma") is not None:
            raise ValueError(f"gamma: belongs to objective normalized, this run uses {values['objective']}; remove it")
        uses_reference = values["objective"] in REFERENCE_OBJECTIVES
        if uses_reference and values.get("reference_batch_size") is None:
            values["reference_batch_size"] = "all"
        if not uses_reference and values.get("reference_batch_size") is not None:
            raise ValueError(
                f"reference_batch_size: belongs to objectives {', '.join(REFERENCE_OBJECTIVES)}, this run uses"
                f" {values['objective']}; remove it"
            )
        return values

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        for low, high in (("sigma_min", "sigma_max"), ("beta_min", "beta_max")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and not least < most:
                raise ValueError(f"{low}: must be below {high}, got {least:g} and {most:g}")
        if self.beta_max is not None and self.beta_max > MAX_BETA:
            raise ValueError(
                f"beta_max: implies a noise level of e^{self.beta_max / 4:.0f}; use at most {MAX_BETA:g}, such as 20"
            )
        if self.P_mean is not None and self.P_std is not None and abs(self.P_mean) + 2 * self.P_std > MAX_LOG_LEVEL:
            raise ValueError(
                f"P_mean: with P_std implies noise levels beyond e^{MAX_LOG_LEVEL:g}, got {self.P_mean:g}; use -1.2"
            )
        if self.objective not in OBJECTIVES[self.process]:
            raise ValueError(
                f"objective: {self.objective} does not go with process {self.process};"
                f" use {' or '.join(OBJECTIVES[self.process])}"
            )
        if self.height_ratio is not None and self.M not in ("rule", None):
            raise ValueError("height_ratio: sets M, so M must be absent or `rule`; remove one of the two")
        reference = self.reference_batch_size
        if isinstance(reference, int) and reference < self.batch_size:
            raise ValueError(
                f"reference_batch_size: must be at least batch_size, got {reference} and {self.batch_size};"
                " lower batch_size or raise it"
            )
        return self


class SamplerConfig(Model):
    """One sampler point: where the ODE starts and stops, and how it is solved."""

    T: Positive | Literal["rule"] = "rule"
    """Starting height; `rule` is √(2/π) σ(1+τ)^M (pfgm), 80 data units (pfgmpp), or the largest trained level (ve, vp)."""
    T_ratio: Positive | None = None
    """Multiple of the rule's T; give T or T_ratio, not both."""
    t_min: Positive = 1e-3
    """Height where the ODE ends, in data units, above 0 and below T."""
    solver: Literal[SOLVERS] = "dopri5"  # type: ignore[valid-type]
    """Adaptive: dopri5, bosh3, adaptive_heun, dopri8. Fixed steps: euler, midpoint, heun2, rk4, multistep2."""
    rtol: Positive | None = None
    """Relative tolerance of an adaptive solver (default 1e-4)."""
    atol: Positive | Literal["same"] | None = None
    """Absolute tolerance of the state that is solved for, in data units (vp: x/√(1 + t²)); `same` (default): equal to rtol."""
    steps: PositiveInt | None = None
    """Steps of a fixed-step solver (default 16)."""
    grid: Literal["log", "rho", "time", "native"] | None = None
    """Heights of a fixed-step solver: log (default), rho (EDM's ρ = 7), time (equal steps of its own time), or native,
    as the process was published: log for pfgm and ve, rho for pfgmpp, time for vp."""
    denoise: StrictBool = True
    """End with one more network call that returns D(x, t_min)."""
    max_radius_ratio: Positive | None = None
    """Truncate the prior at R = max_radius_ratio · T (null: not truncated)."""
    batch_size: PositiveInt = 600
    """Samples that are solved for together, 1 or more; an adaptive solver takes one step size for the whole batch."""

    @model_validator(mode="before")
    @classmethod
    def _fill_solver_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        values = dict(values)
        solver = values.setdefault("solver", "dopri5")
        adaptive: dict[str, object] = {"rtol": 1e-4, "atol": "same"}
        fixed: dict[str, object] = {"steps": 16, "grid": "log"}
        if solver not in SOLVERS:
            return values
        mine, other = (adaptive, fixed) if solver in ADAPTIVE_SOLVERS else (fixed, adaptive)
        values |= dict.fromkeys(other)  # a key of the other kind of solver is inactive here
        for key, default in mine.items():
            if values.get(key) is None:
                values[key] = default
        return values

    @model_validator(mode="after")
    def _check(self) -> SamplerConfig:
        if self.T_ratio is not None and self.T != "rule":
            raise ValueError("T_ratio: is a multiple of the rule's T, so T must be absent or `rule`; remove one of the two")
        if self.T != "rule" and float(self.T) <= self.t_min:
            raise ValueError(f"T: must be above t_min, got T = {self.T:g} and t_min = {self.t_min:g}")
        return self


METRICS = (
    "fid", "kid", "precision_recall", "neighbours", "solver_error", "sliced_wasserstein", "energy", "prior_error", "likelihood",
)  # fmt: skip
"""`likelihood` and `prior_error` are of the whole prior, whatever `max_radius_ratio`, which truncates that of the samples."""
FEATURES = ("digits", "fashion_mnist", "inception", "random", "pixels")


class EvaluateConfig(Model):
    """What is measured on the samples of one row."""

    samples: PositiveInt = 1797
    """Samples that are drawn for each row, 50 or more."""
    metrics: tuple[Literal[METRICS], ...] = ("fid", "precision_recall", "neighbours", "solver_error")  # type: ignore[valid-type]
    """What is measured of the samples of each row; every name once."""
    features: Literal[FEATURES] | None = None  # type: ignore[valid-type]
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
            raise ValueError("metrics: names a metric twice")
        return value

    @model_validator(mode="after")
    def _check(self) -> EvaluateConfig:
        if self.samples < 50:
            raise ValueError(f"samples: must be at least 50 for a Fréchet distance, got {self.samples}")
        return self


def sampler_point(sampler: dict[str, object]) -> SamplerConfig:
    """Keywords as a sampler point.

    Raises:
        ValueError: an unknown keyword, a value out of range, or a keyword that the solver does not read.
    """
    try:
        config = SamplerConfig.model_validate(sampler)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"][:1]))
        text = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {text}, got {sampler.get(key)!r}" if key else text) from None
    for key, value in sampler.items():
        if value is not None and getattr(config, key) is None:
            raise ValueError(f"{key}: not read by solver {config.solver}; remove it, or choose another solver")
    return config
