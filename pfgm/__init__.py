"""Poisson flow generative models: data points are charges, a network learns their field in one more dimension.

``import pfgm`` is cheap; the names below load torch when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pfgm.terminal import guard_start

if TYPE_CHECKING:
    from pfgm.checkpoint import Field as Field
    from pfgm.checkpoint import load_field as load_field
    from pfgm.data import load_data as load_data
    from pfgm.flow import Flow as Flow
    from pfgm.latents import Latents as Latents
    from pfgm.latents import interpolate as interpolate
    from pfgm.likelihood import log_likelihood as log_likelihood
    from pfgm.poisson_flow import from_poisson_flow as from_poisson_flow
    from pfgm.sampling import integrate as integrate
    from pfgm.training import Trainer as Trainer

_HOMES = {
    "Field": "checkpoint",
    "Flow": "flow",
    "Latents": "latents",
    "interpolate": "latents",
    "log_likelihood": "likelihood",
    "load_field": "checkpoint",
    "load_data": "data",
    "from_poisson_flow": "poisson_flow",
    "integrate": "sampling",
    "Trainer": "training",
}
_MODULES = (
    "analytic", "checkpoint", "config", "data", "field", "flow", "latents", "likelihood", "lines", "memory", "metrics",
    "networks", "objectives", "perturb", "poisson_flow", "prior", "process", "raw_target", "sampling", "training",
)  # fmt: skip
__all__ = [
    "Field", "Flow", "Latents", "Trainer", "from_poisson_flow", "integrate", "interpolate", "load_data", "load_field",
    "log_likelihood",
]  # fmt: skip

guard_start()


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"pfgm.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"pfgm.{name}")
    raise AttributeError(f"module 'pfgm' has no attribute '{name}'")
