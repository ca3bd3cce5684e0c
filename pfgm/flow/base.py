"""A flow: a mean source D with its process, whether a network learned it or it is known exactly.

Whatever has both can be sampled, follow its lines back from data to latents, and say how likely data are under it; this base
class adds the units of the data and the words of `pfgm.config.SamplerConfig` to `pfgm.sampling.integrate` and
`pfgm.sampling.likelihood`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.mistakes import Mistake
from pfgm.prior.latent import Latents, check_latents
from pfgm.prior.law import PoissonPrior
from pfgm.process.base import Process
from pfgm.process.resolve import class_of, resolve_sampler, sampler_point
from pfgm.sampling.asked import Asked
from pfgm.sampling.integrate import encode, sample
from pfgm.sampling.likelihood import LogLikelihood, log_likelihood
from pfgm.sampling.own_levels import TunedLevels
from pfgm.sampling.solvers import MeanSource
from pfgm.sampling.tune import tune_sampler

ROUND_TRIP = 100.0
"""How much tighter encode and decode are solved than their tolerance says: about 2.5 times the calls of dopri5."""
FINEST = 1e-6
"""The tightest relative tolerance that a state in float32 is solved at."""


class PriorError(NamedTuple):
    """KL(p_T‖prior) in nats, and its standard error."""

    kl: float
    kl_se: float


class Flow(ABC):
    """D(x, t) of one process on one kind of data; a subclass has ``process``, and says what D is and where it is computed."""

    process: Process

    @abstractmethod
    def mean_source(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), in the units of training; without gradient."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Return where D is computed."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Return what states of the ODE are kept in: float32 for a network, float64 where D is exact."""

    @abstractmethod
    def double(self) -> Flow:
        """Return this flow, computed in float64."""

    def prior_error(self, T: float, seed: int = 0) -> PriorError:
        """KL(p_T‖prior) in nats of starting at T, and its standard error, where the law of the data is known.

        Raises:
            ValueError: this flow's is not.
        """
        raise Mistake("prior_error", "is known for exact fields only; use field: {exact: empirical} or remove this metric")

    def source_with_gradient(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t) through which gradients flow to x; for a D whose ``mean_source`` has none, another way to compute it."""
        return self.mean_source(x, t)

    def asked(self, sampler: SamplerConfig) -> MeanSource | Asked:
        """Return D as a sampler point asks for it: of a conditional field, for the class of each sample.

        Raises:
            Mistake: it asks for a class, and the field is not conditional, or has no such class.
        """
        class_of(sampler, self.process)
        return self.mean_source

    @property
    def knows_class(self) -> bool:
        """Whether ``mean_source`` is the field that its items follow: false of a conditional field that is not `of_class`."""
        return not self.process.classes

    def of_class(self, label: object, guidance: object = None) -> Flow:
        """Return the flow whose D is of one class, for items whose class is known.

        Raises:
            Mistake: the field is not conditional, or has no such class.
        """
        given = {key: value for key, value in (("label", label), ("guidance", guidance)) if value is not None}
        class_of(sampler_point(given), self.process)
        return self

    def prior(self, **sampler: object) -> PoissonPrior:
        """The law at the top that a sampler point starts from; keywords as of `sample`."""
        numbers = resolve_sampler(sampler_point(sampler), self.process)
        return self.process.prior(numbers.T, numbers.max_radius)

    def sample(self, n: int, seed: int = 0, *, latents: Latents | None = None, **sampler: object) -> Tensor:
        """``n`` samples in data units, shape (n, *item shape); keywords are those of `pfgm.config.SamplerConfig`.

        A conditional field takes ``label``, a class by number or name, and ``guidance``; without a label the samples are of all
        classes (`labels` says which).

        Args:
            latents: n of them, in place of the seed's (`pfgm.prior.latent`).
        Raises:
            ValueError: n < 1, an unknown keyword, a value out of range, a keyword that the solver does not read, or latents of
                another dimension or number.
            RuntimeError: the solve diverged or ran into its step limit.
        """
        return self._items(n, seed, latents, sampler_point(sampler), clamp=True)

    def labels(self, n: int, **sampler: object) -> Tensor | None:
        """Return the classes (n,) of the samples that `sample` draws with the same keywords; None where a field knows none."""
        found = self.asked(sampler_point(sampler))
        return found.labels(0, n) if isinstance(found, Asked) else None

    def tuned(self, sampler: SamplerConfig) -> TunedLevels | None:
        """The levels of a sampler point whose grid is tuned (`pfgm.sampling.tune`), found once; None for other grids.

        Those of a conditional field are tuned on the field of all classes.

        Raises:
            ValueError: they cannot be found.
        """
        if sampler.grid != "tuned":
            return None
        key = sampler.model_copy(update={"batch_size": 1, "label": None, "guidance": None})
        if key not in self._tuned:
            self._tuned[key] = tune_sampler(
                self.mean_source, self.source_with_gradient, self.process, sampler, device=self.device, dtype=self.dtype
            )
        return self._tuned[key]

    @cached_property
    def _tuned(self) -> dict[SamplerConfig, TunedLevels]:
        return {}

    def _items(self, n: int, seed: int, latents: Latents | None, config: SamplerConfig, clamp: bool) -> Tensor:
        made = sample(
            self.asked(config), self.process, config, n, seed, latents=latents, device=self.device, dtype=self.dtype,
            tuned=self.tuned(config),
        )  # fmt: skip
        _refuse_failure("sampling", made.status, made.nfe)
        return self.process.info.to_data_units(made.x, clamp).reshape(n, *self.process.info.shape)

    def encode(self, x: Tensor, **sampler: object) -> Latents:
        """The latents from which `decode`, with the same keywords, makes the items ``x``.

        Both ways are solved `ROUND_TRIP` times more tightly than ``rtol`` says (in float32 down to `FINEST`), so that the
        tolerance is one of the round trip: near the border of two basins the way down enlarges errors.

        Args:
            x: items in data units, shape (n, *item shape) or (n, d), taken to be at t = t_min.
        Raises:
            ValueError: as `sample`, for ``denoise: true``, or a process whose ODE cannot be followed upwards.
            RuntimeError: the solve diverged or ran into its step limit.
        """
        _refuse_denoise(sampler)
        config = sampler_point(self._tightened(sampler))
        found = encode(
            self._of_known(config).mean_source,
            self.process,
            config,
            self.to_training_units(x),
            device=self.device,
            dtype=self.dtype,
        )
        _refuse_failure("encoding", found.status, found.nfe)
        return found.latents

    def decode(self, latents: Latents, **sampler: object) -> Tensor:
        """The items that `encode`, with the same keywords, has these latents for.

        They are samples without the last denoise step, and not clamped to the data's range, which would move what lies outside.

        Raises:
            ValueError, RuntimeError: as `encode`; latents of another dimension.
        """
        _refuse_denoise(sampler)
        check_latents(latents, self.process.info.dim)
        config = sampler_point(self._tightened(sampler) | {"denoise": False})
        self._of_known(config)
        return self._items(len(latents.quantile), 0, latents, config, clamp=False)

    def _of_known(self, config: SamplerConfig) -> Flow:
        """The flow of the class that a sampler point names; items have one, so a conditional field must be told.

        Raises:
            Mistake: a conditional field is told none, and is not asked for the field of all classes.
        """
        if not self.knows_class and class_of(config, self.process) is None and config.guidance != 0:
            raise Mistake("label", "say of which class the items are, such as label=3, or guidance=0: the field of all classes")
        return self.of_class(config.label, config.guidance)

    def _tightened(self, sampler: dict[str, object]) -> dict[str, object]:
        """The keywords with the tolerances that a round trip needs; those of a fixed-step solver as they are.

        Where no solver is named it is dopri5.
        """
        sampler = {"solver": "dopri5"} | sampler
        config = sampler_point(sampler)
        if config.rtol is None:
            return sampler
        finest = FINEST if self.dtype == torch.float32 else 0.0
        rtol = min(config.rtol, max(config.rtol / ROUND_TRIP, finest))
        if config.atol == "same":
            return sampler | {"rtol": rtol}
        assert config.atol is not None
        return sampler | {"rtol": rtol, "atol": float(config.atol) * rtol / config.rtol}

    def log_likelihood(self, x: Tensor, **options: Any) -> LogLikelihood:
        """log p of items in data units; see `pfgm.sampling.likelihood.log_likelihood`.

        Of a conditional field ``label`` and ``guidance`` say whose density; without them it is that of all classes.
        """
        asked = {key: options.pop(key) for key in ("label", "guidance") if options.get(key) is not None}
        return log_likelihood(self._of_known(sampler_point(asked)) if asked else self, x, **options)

    def to_training_units(self, x: Tensor) -> Tensor:
        """Items (n, *item shape) in data units as points (n, d), less the mean of centred data.

        Raises:
            ValueError: items of another size, or values that are not finite.
        """
        info = self.process.info
        if x.ndim < 2 or not len(x) or x[0].numel() != info.dim or not x.is_floating_point():
            raise ValueError(f"x has shape {tuple(x.shape)} and dtype {x.dtype}; need floats of shape (n, *{info.shape})")
        if lost := int((~torch.isfinite(x)).sum()):
            raise ValueError(f"x has {lost} values that are not finite; remove their items, or put numbers in their place")
        return info.to_training_units(x.reshape(len(x), -1))


def _refuse_denoise(sampler: dict[str, object]) -> None:
    if sampler.get("denoise"):
        raise Mistake("denoise", "the step at the end has no way back; remove it, or write denoise=False")


def _refuse_failure(what: str, status: str, nfe: float) -> None:
    if status != "complete":
        raise RuntimeError(f"{what} ended as {status} after {nfe:g} calls; try another solver or rtol")
