"""Names that are imported when they are first used: the public names of a package, and the members of a kind.

The standard library alone: every package may import this module, and none becomes heavier by it.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from pfgm.mistakes import Mistake

if TYPE_CHECKING:
    from pfgm.data.items import Reader
    from pfgm.kinds import NetworkKind
    from pfgm.metrics.card import Metric
    from pfgm.metrics.features.kind import FeatureKind
    from pfgm.networks.published import Head
    from pfgm.process.base import Process
    from pfgm.sampling.grids import Grid
    from pfgm.sampling.solvers import Solver
    from pfgm.training.objectives import Objective

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of the parts of one kind; a part is imported when it is first asked for.

    Args:
        kind: what a part is called in messages: ``process``.
        card: ``module:class`` of what every part is, or is a class below.
        parts: name → ``module:object``. The order is that of messages and tables.
    """

    def __init__(self, kind: str, card: str = "builtins:object", **parts: str) -> None:
        self.kind, self.card, self._parts = kind, card, dict(parts)
        self._loaded: dict[str, T] = {}
        self._own = frozenset(parts)
        self._followers: list[Callable[[str], None]] = []

    def __getitem__(self, name: str) -> T:
        if name not in self._parts:
            raise KeyError(str(self.mistake(name)))
        if name not in self._loaded:
            self._loaded[name] = cast(T, found_at(self._parts[name]))
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

    def put(self, name: str, part: T, place: str) -> None:
        """Add a part from outside this package that is there already.

        Args:
            name: how search.yaml calls the part.
            part: the part itself.
            place: ``module:line`` where this is said; in a notebook it may be said again.
        Raises:
            ValueError: the name is no word, or taken; or the part is of another kind.
        """
        card = cast(type, found_at(self.card))
        if not name.isidentifier():
            raise ValueError(f"{self.kind}: the name {name!r} is no plain word; write letters, digits and underscores")
        if not (isinstance(part, type) and issubclass(part, card)) and not isinstance(part, card):
            raise ValueError(f"{self.kind}: '{name}' must be a {self.card.replace(':', '.')}, got {part!r}")
        self.register(name, place, part)

    def register(self, name: str, place: str, part: T | None = None) -> None:
        """Add a part from outside this package; one that is not given is imported when it is first asked for.

        Args:
            name: how search.yaml calls the part.
            place: ``module:object`` of the part, or ``module:line`` of one that is given.
            part: the part itself, if it is there already.
        Raises:
            ValueError: the name is taken by another part.
        """
        taken = self._parts.get(name, place)
        if taken != place and not (taken.startswith("__main__:") and place.startswith("__main__:")):
            raise ValueError(f"{self.kind}: the name '{name}' is taken by {taken}; choose another")
        self._parts[name] = place
        if part is not None:
            self._loaded[name] = part
        try:
            for follow in self._followers:
                follow(name)
        except Exception:
            del self._parts[name]
            self._loaded.pop(name, None)
            raise

    def follow(self, follower: Callable[[str], None]) -> None:
        """Have a function called with every name that is added from now on; what it raises refuses the part."""
        self._followers.append(follower)

    def home(self, name: str | None) -> str | None:
        """Return the module outside this package that brought a part; None for a part of this package."""
        return None if name is None or name in self._own or name not in self._parts else self._parts[name].partition(":")[0]

    def homes(self) -> set[str]:
        """Return all of these modules."""
        return {home for name in self if (home := self.home(name))}

    def mistake(self, name: str) -> Mistake:
        """Return what to say of a name that is not there: all names, or the nearest."""
        near = difflib.get_close_matches(name, self._parts, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(self._parts)}"
        return Mistake(self.kind, f"unknown '{name}'; {hint}")


def found_at(place: str) -> object:
    """Return the object of ``module:object``."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


READERS: Registry[Reader] = Registry(
    "data set",
    "pfgm.data.items:Reader",
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
    "pfgm.kinds:NetworkKind",
    mlp="pfgm.networks.mlp:MLP",
    unet="pfgm.networks.unet:UNET",
    ddpmpp="pfgm.networks.ddpmpp:DDPMPP",
    edm="pfgm.networks.edm.unet:EDM",
    ncsnpp="pfgm.networks.ncsnpp.unet:NCSNPP",
)
HEADS: Registry[type[Head]] = Registry(
    "head",
    "pfgm.networks.published:Head",
    edm="pfgm.networks.published:EdmHead",
    vp="pfgm.networks.published:VpHead",
    ve="pfgm.networks.published:VeHead",
)
PROCESSES: Registry[type[Process]] = Registry(
    "process",
    "pfgm.process.base:Process",
    pfgm="pfgm.process.pfgm:Pfgm",
    pfgmpp="pfgm.process.pfgmpp:Pfgmpp",
    ve="pfgm.process.diffusion:Ve",
    vp="pfgm.process.diffusion:Vp",
)
OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    "pfgm.training.objectives:Objective",
    normalized="pfgm.training.objectives:normalized",
    raw="pfgm.training.objectives:raw",
    denoise="pfgm.training.objectives:denoise",
    reference="pfgm.training.objectives:reference",
)
SOLVERS: Registry[Solver] = Registry(
    "solver",
    "pfgm.sampling.solvers:Solver",
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
    "collections.abc:Callable",
    log="pfgm.sampling.grids:log",
    rho="pfgm.sampling.grids:rho",
    rho5="pfgm.sampling.grids:rho5",
    time="pfgm.sampling.grids:time",
)
FEATURES: Registry[FeatureKind] = Registry(
    "features",
    "pfgm.metrics.features.kind:FeatureKind",
    digits="pfgm.metrics.features.classifiers:DIGITS",
    fashion_mnist="pfgm.metrics.features.classifiers:FASHION_MNIST",
    inception="pfgm.metrics.features.inception:INCEPTION",
    random="pfgm.metrics.features.random_features:RANDOM",
    pixels="pfgm.metrics.features.pixels:PIXELS",
)
METRICS: Registry[Metric] = Registry(
    "metric",
    "pfgm.metrics.card:Metric",
    fid="pfgm.metrics.cards:FID",
    fid_infinity="pfgm.metrics.cards:FID_INFINITY",
    class_accuracy="pfgm.metrics.classes:CLASS_ACCURACY",
    class_fid="pfgm.metrics.classes:CLASS_FID",
    kid="pfgm.metrics.cards:KID",
    precision_recall="pfgm.metrics.cards:PRECISION_RECALL",
    neighbours="pfgm.metrics.cards:NEIGHBOURS",
    solver_error="pfgm.metrics.cards:SOLVER_ERROR",
    sliced_wasserstein="pfgm.metrics.cards:SLICED_WASSERSTEIN",
    energy="pfgm.metrics.cards:ENERGY",
    prior_error="pfgm.metrics.cards:PRIOR_ERROR",
    likelihood="pfgm.metrics.cards:LIKELIHOOD",
)


KINDS: dict[str, Registry[Any]] = {
    "data": READERS, "network": NETWORKS, "head": HEADS, "process": PROCESSES, "objective": OBJECTIVES,
    "solver": SOLVERS, "grid": GRIDS, "features": FEATURES, "metric": METRICS,
}  # fmt: skip
"""Every kind of part, by the name under which `register` takes one."""


@overload
def register(kind: str, name: str) -> Callable[[T], T]:
    """Return a decorator that adds a part."""


@overload
def register(kind: str, name: str, part: T) -> T:
    """Add a part and return it."""


def register(kind: str, name: str, part: object = None) -> object:
    """Add a part of one's own; search.yaml then knows it by name. Without ``part``, a decorator.

    A study names the module that does this under ``plugins``.

    Args:
        kind: data, network, head, process, objective, solver, grid, features or metric.
        name: how search.yaml calls the part.
        part: the card, class or function that `pfgm.registry` lists for parts of this kind; it is returned as it is.
    Raises:
        ValueError: no such kind, a name that is taken, or a part of another kind.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        raise ValueError(f"register: no kind {kind!r}; use {near[0] if near else 'one of ' + ', '.join(KINDS)}")
    caller = sys._getframe(1)
    place = f"{caller.f_globals.get('__name__', '__main__')}:{caller.f_lineno}"

    def put(part: T) -> T:
        KINDS[kind].put(name, part, place)
        return part

    return put if part is None else put(part)


def public_names(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose public names stand in its ``__init__.pyi``.

    The stub holds lines ``from pfgm.flow.trained import Field as Field``: type checkers read them, and so does this function.
    A name is imported from there when it is first asked for, so that ``import pfgm`` loads no torch.

    Args:
        package: the package's ``__name__``.
        file: the package's ``__file__``; the stub lies beside it.
    """
    stub = Path(file).with_suffix(".pyi").read_text(encoding="utf-8")
    lines = (line for line in ast.parse(stub).body if isinstance(line, ast.ImportFrom))
    homes = {alias.name: str(line.module) for line in lines for alias in line.names}
    names = sorted(homes)

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; public names: {', '.join(names)}")
        if homes[name] == package:  # a room of the package
            return import_module(f"{package}.{name}")
        return getattr(import_module(homes[name]), name)

    return get, lambda: names, names
