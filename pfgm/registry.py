"""Names that are imported when they are first used: the public names of a package, and the members of a kind.

The standard library alone: every package may import this module, and none becomes heavier by it.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from pfgm.mistakes import Mistake

if TYPE_CHECKING:
    from pfgm.data.items import Reader
    from pfgm.kinds import NetworkKind
    from pfgm.metrics.card import Metric
    from pfgm.metrics.features.kind import FeatureKind
    from pfgm.process.base import Process
    from pfgm.sampling.grids import Grid
    from pfgm.sampling.solvers import Solver
    from pfgm.training.objectives import Objective

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of the parts of one kind; a part is imported when it is first asked for.

    Args:
        kind: what a part is called in messages: ``process``.
        parts: name → ``module:object``. The order is that of messages and tables.
    """

    def __init__(self, kind: str, **parts: str) -> None:
        self.kind, self._parts = kind, dict(parts)
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._parts:
            raise KeyError(str(self.mistake(name)))
        if name not in self._loaded:
            module, _, attribute = self._parts[name].partition(":")
            self._loaded[name] = cast(T, getattr(import_module(module), attribute))
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __len__(self) -> int:
        return len(self._parts)

    def names(self) -> tuple[str, ...]:
        """Return all names, in order."""
        return tuple(self._parts)

    def items(self) -> Iterator[tuple[str, T]]:
        """Return every name with its part; imports them all."""
        return ((name, self[name]) for name in self)

    def register(self, name: str, part: str) -> None:
        """Add a part from outside this package.

        Args:
            name: how search.yaml calls the part.
            part: ``module:object``.
        Raises:
            ValueError: the name is taken by another part.
        """
        if self._parts.get(name, part) != part:
            raise ValueError(f"{self.kind}: the name '{name}' is taken by {self._parts[name]}; choose another")
        self._parts[name] = part

    def mistake(self, name: str) -> Mistake:
        """Return what to say of a name that is not there: all names, or the nearest."""
        near = difflib.get_close_matches(name, self._parts, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(self._parts)}"
        return Mistake(self.kind, f"unknown '{name}'; {hint}")


READERS: Registry[Reader] = Registry(
    "data set",
    digits="pfgm.data.readers.digits:DIGITS",
    fashion_mnist="pfgm.data.readers.idx:FASHION_MNIST",
    cifar10="pfgm.data.readers.cifar:CIFAR10",
    images="pfgm.data.readers.images:IMAGES",
    parquet="pfgm.data.readers.parquet:PARQUET",
    npz="pfgm.data.readers.arrays:NPZ",
    vectors="pfgm.data.readers.arrays:VECTORS",
    rings="pfgm.data.readers.toys:RINGS",
    spiral="pfgm.data.readers.toys:SPIRAL",
    two_moons="pfgm.data.readers.toys:TWO_MOONS",
    gaussians="pfgm.data.readers.toys:GAUSSIANS",
    shell="pfgm.data.readers.toys:SHELL",
)
NETWORKS: Registry[NetworkKind] = Registry(
    "network",
    mlp="pfgm.networks.mlp:MLP",
    unet="pfgm.networks.unet:UNET",
    ddpmpp="pfgm.networks.ddpmpp:DDPMPP",
    edm="pfgm.networks.edm.unet:EDM",
)
PROCESSES: Registry[type[Process]] = Registry(
    "process",
    pfgm="pfgm.process.pfgm:Pfgm",
    pfgmpp="pfgm.process.pfgmpp:Pfgmpp",
    ve="pfgm.process.diffusion:Ve",
    vp="pfgm.process.diffusion:Vp",
)
OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    normalized="pfgm.training.objectives:normalized",
    raw="pfgm.training.objectives:raw",
    denoise="pfgm.training.objectives:denoise",
    reference="pfgm.training.objectives:reference",
)
SOLVERS: Registry[Solver] = Registry(
    "solver",
    dopri5="pfgm.sampling.solvers:DOPRI5",
    bosh3="pfgm.sampling.solvers:BOSH3",
    adaptive_heun="pfgm.sampling.solvers:ADAPTIVE_HEUN",
    dopri8="pfgm.sampling.solvers:DOPRI8",
    euler="pfgm.sampling.solvers:EULER",
    midpoint="pfgm.sampling.solvers:MIDPOINT",
    heun2="pfgm.sampling.solvers:HEUN2",
    rk4="pfgm.sampling.solvers:RK4",
    multistep2="pfgm.sampling.multistep:MULTISTEP2",
    pc2="pfgm.sampling.multistep:PC2",
    pc3="pfgm.sampling.multistep:PC3",
    ipndm4="pfgm.sampling.multistep:IPNDM4",
)
GRIDS: Registry[Grid] = Registry(
    "grid",
    log="pfgm.sampling.grids:log",
    rho="pfgm.sampling.grids:rho",
    rho5="pfgm.sampling.grids:rho5",
    time="pfgm.sampling.grids:time",
)
FEATURES: Registry[FeatureKind] = Registry(
    "features",
    digits="pfgm.metrics.features.classifiers:DIGITS",
    fashion_mnist="pfgm.metrics.features.classifiers:FASHION_MNIST",
    inception="pfgm.metrics.features.inception:INCEPTION",
    random="pfgm.metrics.features.random_features:RANDOM",
    pixels="pfgm.metrics.features.pixels:PIXELS",
)
METRICS: Registry[Metric] = Registry(
    "metric",
    fid="pfgm.metrics.cards:FID",
    fid_infinity="pfgm.metrics.cards:FID_INFINITY",
    kid="pfgm.metrics.cards:KID",
    precision_recall="pfgm.metrics.cards:PRECISION_RECALL",
    neighbours="pfgm.metrics.cards:NEIGHBOURS",
    solver_error="pfgm.metrics.cards:SOLVER_ERROR",
    sliced_wasserstein="pfgm.metrics.cards:SLICED_WASSERSTEIN",
    energy="pfgm.metrics.cards:ENERGY",
    prior_error="pfgm.metrics.cards:PRIOR_ERROR",
    likelihood="pfgm.metrics.cards:LIKELIHOOD",
)


def public_names(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose public names stand in its ``__init__.pyi``.

    The stub holds lines ``from pfgm.flow.trained import Field as Field``: type checkers read them, and so does this function.
    A name is imported from there when it is first asked for, so that ``import pfgm`` loads no torch.

    Args:
        package: the package's ``__name__``.
        file: the package's ``__file__``; the stub lies beside it.
    """
    stub = Path(file).with_suffix(".pyi").read_text(encoding="utf-8")
    homes = {
        alias.name: str(node.module)
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names = sorted(homes)

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; public names: {', '.join(names)}")
        if homes[name] == package:  # a room of the package
            return import_module(f"{package}.{name}")
        return getattr(import_module(homes[name]), name)

    return get, lambda: names, names
