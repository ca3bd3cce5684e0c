"""The sections of a study file that say how it is measured: metrics, design, disturbances, seeds, resources, limits, rating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from pfgm.config import EvaluateConfig
from pfgm.kinds import Integer, Model, Positive, PositiveInt
from pfgm.metrics.columns import MEASURED, all_columns
from pfgm.mistakes import Mistake
from pfgm.sampling.disturbances import KINDS, check_level
from study.config.designs import DESIGNS

Seeds = PositiveInt | Annotated[list[Annotated[Integer, Field(ge=0)]], Field(min_length=1)]


def optimizable() -> dict[str, str]:
    """Return what design tpe may optimise, outside metrics too: its name and its column."""
    return {column.short: name for name, column in all_columns().items() if column.optimizable}


def _one_of(name: object, names: Sequence[object]) -> object:
    if name not in names:
        *others, last = map(repr, names)
        raise ValueError(f"must be {', '.join(others)} or {last}")
    return name


def _registered(name: object) -> object:
    """Return the name of a design that is registered now: outside modules may have added theirs."""
    return _one_of(name, DESIGNS.names())


def _optimizable(name: object) -> object:
    """Return the name of a metric that may be optimised; it looks at the metrics that are registered now."""
    return _one_of(name, sorted(optimizable()))


if TYPE_CHECKING:
    DesignName: TypeAlias = str
    Optimizable: TypeAlias = str
else:
    _BUILT_IN = tuple(sorted(column.short for column in MEASURED if column.optimizable))
    Optimizable = Annotated[Literal[_BUILT_IN], PlainValidator(_optimizable), PlainSerializer(str)]
    DesignName = Annotated[Literal[DESIGNS.names()], PlainValidator(_registered), PlainSerializer(str)]


class BudgetConfig(Model):
    """What a study of design settle may spend: fields, or hours."""

    fields: PositiveInt | None = None
    """Fields that are trained in all."""
    hours: Positive | None = None
    """Hours of training and sampling, those of trials side by side added up."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.fields is not None and self.hours is not None:
            raise ValueError(f"has fields: {self.fields} and hours: {self.hours:g}; give one of them")
        if self.fields is None and self.hours is None:
            raise ValueError("is empty; write how many, such as {fields: 80} or {hours: 2}")
        return self


class DesignConfig(Model):
    """The points of the search space that are measured."""

    name: DesignName = "one_at_a_time"
    trials: PositiveInt | None = None
    """Training points of sobol, random and tpe, the default included (default 32)."""
    sampler_points: PositiveInt | None = None
    """Sampler points of sobol and random, the default included (default 8)."""
    seed: Annotated[Integer, Field(ge=0)] = 0
    arm_seeds: PositiveInt | None = None
    """one_at_a_time: train seeds of each arm (default: as many as the default point)."""
    optimize: dict[Optimizable, Literal["minimize", "maximize"]] | None = None
    """tpe: metrics and directions (default {fid: minimize})."""
    edge_factor: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None
    """settle: how narrow the bracket of an edge is to be, as the ratio of its ends on a logarithmic range (default 1.5); on a
    linear range a quarter of what it is above 1, as a share of the range."""
    priority: Annotated[list[str], Field(min_length=1)] | None = None
    """settle: parameters that are settled first, the most important one first (default: none)."""
    budget: BudgetConfig | None = None
    """settle: what may be spent (default: no bound; it ends when all that can be settled is)."""

    @field_validator("edge_factor")
    @classmethod
    def _above_one(cls, value: float | None) -> float | None:
        if value is not None and not value > 1:
            raise ValueError(f"must be above 1, got {value:g}; 1.5 brackets an edge between 0.1 and 0.15")
        return value

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys of settle where they are not used, so that the written studies of others stay as they were."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if value is not None or key not in SETTLE_KEYS}


SETTLE_KEYS = ("edge_factor", "priority", "budget")
"""Keys of ``design`` that design settle alone has."""


Levels = tuple[Annotated[float, Field(strict=True)], ...]


class EvaluationConfig(EvaluateConfig):
    """The metrics of one row, the samples that they look at, and when in a training they are measured."""

    at_steps: Levels | None = None
    """Shares of ``train.steps``, such as [0.25, 0.5, 1], at which the default sampler point of every field is measured: its
    averaged network on the way, and as ever at the end (default: at the end alone)."""

    @field_validator("at_steps", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if value is not None and (not isinstance(value, list | tuple) or not value):
            raise ValueError(f"must be a list of shares of train.steps, such as [0.25, 0.5, 1], got {value!r}")
        return value

    @field_validator("at_steps")
    @classmethod
    def _growing(cls, value: Levels | None) -> Levels | None:
        """Add the end, which is measured in any case."""
        if value is None:
            return None
        for share in value:
            if not 0 < share <= 1:
                cure = "write shares of train.steps, above 0 and at most 1, such as [0.25, 0.5, 1]"
                raise ValueError(f"{share:g} is no share of a training, got {list(value)}; {cure}")
        if list(value) != sorted(set(value)):
            raise ValueError(f"must grow, got {list(value)}; write {sorted(set(value))}")
        return value if value[-1] == 1 else (*value, 1.0)

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the shares where there are none, so that the written studies of others stay as they were."""
        values: dict[str, Any] = handler(self)
        shares = values.pop("at_steps", None)
        return values if shares is None else {**values, "at_steps": list(shares)}


class PerturbConfig(Model):
    """Disturbances under which the default sampler point of every field is measured too, paired by latent."""

    noise: Levels = ()
    """α of the noise added before every solver step, relative to its noise level; needs a fixed-step solver."""
    weight_bits: tuple[Integer, ...] = ()
    """Bits, 2 to 16, that every weight is rounded to, tensor by tensor."""
    weight_noise: Levels = ()
    """Noise on every weight, relative to the root mean square of its tensor."""
    exempt: tuple[str, ...] = ()
    """Names of weights that are left alone, or patterns such as `*.bias` (default: none is)."""

    @field_validator("noise", "weight_bits", "weight_noise")
    @classmethod
    def _sensible(cls, value: tuple[float, ...], field: ValidationInfo) -> tuple[float, ...]:
        try:
            for level in value:
                check_level(str(field.field_name), level)
        except Mistake as error:
            raise ValueError(error.text) from None
        if len(set(value)) != len(value):
            raise ValueError("names a level twice")
        return value

    @field_validator("noise", "weight_bits", "weight_noise", "exempt", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, such as [{value}]")
        return value

    @property
    def levels(self) -> list[tuple[str, float]]:
        """(kind, level) of every disturbance; level 0 is the undisturbed row, which is measured anyway."""
        return [(kind, float(level)) for kind in KINDS for level in getattr(self, kind) if level > 0]


class SeedsConfig(Model):
    """The seeds, so how often everything is repeated: a number k means seeds 0 … k − 1, a list names them."""

    train: Seeds = 1
    sample: Seeds | Literal["own"] = 1
    """own: each field is sampled from latents of its own, its train seed is its sample seed; so that intervals over fields hold
    for other latents too."""
    disjoint: StrictBool = False
    """Give training point i the train seeds shifted by 10,000 i: for null controls, whose points must not share seeds."""

    @property
    def train_seeds(self) -> list[int]:
        return list(range(self.train)) if isinstance(self.train, int) else list(self.train)

    @property
    def samplings(self) -> int:
        """Return how often every field is sampled at a sampler point."""
        return len(self.sample_seeds(0))

    def sample_seeds(self, train_seed: int) -> list[int]:
        """Return the sample seeds of a field of this train seed."""
        if self.sample == "own":
            return [train_seed]
        return list(range(self.sample)) if isinstance(self.sample, int) else list(self.sample)


class ResourcesConfig(Model):
    """The hardware that one trial takes, and how many trials run at once."""

    cpus: PositiveInt = 1
    gpus: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] | Literal["auto"] = "auto"
    """GPUs a trial, fractions allowed; auto: on CUDA, the share whose memory a trial needs (`study.host.sharing`)."""
    concurrent: PositiveInt | Literal["auto"] = "auto"
    """Trials at once; auto: as many as the machine has room for."""
    bundle: PositiveInt | Literal["auto"] = 1
    """Fields that a trial trains together, each equal to one trained alone up to rounding; 1: each alone, bit for bit as ever;
    auto: as many as train fastest here, by a short measurement."""
    compile: StrictBool = False
    """Train a compiled network: seconds to minutes before the first step of a trial, faster steps after it."""


class LimitsConfig(Model):
    """When a trial is given up, and how much of one a crash may cost."""

    trial_minutes: Positive | None = None
    """Minutes of one try of a trial, after which its remaining rows are `timeout` (default: no limit)."""
    checkpoint_seconds: Positive = 30.0
    """Seconds between two savings of a training's state: what a killed worker has to do again."""


class AnalysisConfig(Model):
    """The measure by which the report rates."""

    tolerance: Positive = 0.10
    """Change of a metric, relative to the default's, that still counts as robust."""
