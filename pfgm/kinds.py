"""What every kind of part has in common: keys of search.yaml as frozen models, and the cards that parts declare.

A part (a network, a process, a solver) stands in one file with everything that is known of it, and in one line of
`pfgm.registry`. Its own keys of search.yaml are a subclass of `Keys`:

    class PfgmppKeys(Keys):
        n_aug: Positive = 128.0
        \"\"\"Extra dimensions.\"\"\"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError, core_schema

from pfgm.mistakes import Mistake, raised

if TYPE_CHECKING:
    from torch import nn

    from pfgm.config import NetworkConfig
    from pfgm.registry import Registry

T_ = TypeVar("T_")
M_ = TypeVar("M_", bound="Model")
K_ = TypeVar("K_", bound="Keys")


def whole(value: T_) -> T_ | int:
    """Return a float that is a whole number as that integer: 1e2 is 100 wherever an integer is asked."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Named:
    """A word that names a part, of those that are registered when it is checked: ``Annotated[str, Named(SOLVERS)]``.

    Args:
        kinds: the parts.
        more: words that the key takes beside their names.
    """

    kinds: Registry[Any]
    more: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All words that the key takes."""
        return (*self.kinds.names(), *self.more)

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> core_schema.CoreSchema:
        """What pydantic asks for."""
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, name: object) -> object:
        if isinstance(name, str) and name in self.names:
            return name
        *others, last = (f"'{each}'" for each in self.names)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})


Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(whole), Field(strict=True)]
PositiveInt = Annotated[Integer, Field(gt=0)]


class Model(BaseModel):
    """A section of search.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    added: ClassVar[frozenset[str]] = frozenset()
    """Keys of parts from outside this package."""

    def stored(self, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        """Return the section for a file: one who reads it has perhaps no keys of parts that were not chosen."""
        return {k: v for k, v in self.model_dump(mode=mode).items() if v is not None or k not in self.added}


def checked(model: type[M_], section: str, values: Mapping[str, object]) -> M_:
    """Return a section of a study file with these keys.

    Raises:
        Mistake: a key that it has not, with the nearest one that it has; or a value that is refused.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors()[0]
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        near = get_close_matches(key, model.model_fields, 1)
        raise Mistake(f"{section}.{key}", f"no such key; use {near[0] if near else 'one of ' + ', '.join(model.model_fields)}")
    reason = raised(found)
    if isinstance(reason, Mistake):
        raise Mistake((section, *reason.path), reason.text)
    raise Mistake(f"{section}.{key}" if key else section, f"{reason}, got {found['input']!r}")


LABEL_DROPOUT = 0.1
"""Share of training points without their class, where nothing is said."""
ALL = "all"
"""The label of samples of every class."""


class ConditionKeys(Model):
    """Keys of ``train`` that make a field conditional."""

    conditional: StrictBool = False
    """Train a field that is told the class of each point; the data must have labels."""
    label_dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] | None = None
    """Share of training points whose class is not told, from 0 to below 1 (conditional fields only, default 0.1)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_label_dropout(cls, values: dict[str, object]) -> dict[str, object]:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if values.get("conditional") is True and values.get("label_dropout") is None:
            values["label_dropout"] = LABEL_DROPOUT
        if values.get("conditional", False) is False and values.get("label_dropout") is not None:
            raise Mistake("label_dropout", "belongs to conditional fields; add conditional: true, or remove it")
        return values


class AskedKeys(Model):
    """Keys of ``sampler`` that say what a conditional field is asked for."""

    label: Annotated[Integer, Field(ge=0)] | StrictStr | None = None
    """Class of the samples of a conditional field: number, name, or `all` (default): every class by its share of the data."""
    guidance: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] | None = None
    """w of D_u + w (D_c − D_u), no unit: 0 the field of all classes, 1 (default) that of the class, above 1 beyond it."""


class Keys(Model):
    """Keys that belong to one part alone; each has a default, a unit and a domain."""

    @classmethod
    def defaults(cls) -> dict[str, object]:
        """Return the default of every key."""
        return {key: field.default for key, field in cls.model_fields.items()}

    @classmethod
    def of(cls: type[K_], section: Model) -> K_:
        """Return the own keys of a section that was made from the keys of all parts (`joined`)."""
        return cls.model_construct(**{key: getattr(section, key) for key in cls.model_fields})

    def check(self) -> None:
        """Refuse keys that are wrong together.

        Raises:
            Mistake: names the key at fault.
        """


def joined(base: type[M_], *registries: Registry[Any]) -> type[M_]:
    """Return ``base`` with the keys of every part of some kinds, all of them null until a part is chosen.

    A part that is registered later brings its keys too: into this model, and those below it.
    """
    fields: dict[str, Any] = {}
    for kinds in registries:
        for name in kinds:
            fields |= {key: (hint, None) for key, hint in _hints(kinds[name]).items()}
    model = create_model(base.__name__, __base__=base, __module__=base.__module__, **fields)
    for kinds in registries:
        kinds.follow(partial(_grow, model, kinds))
    return model


def _hints(part: Any) -> dict[str, Any]:
    hints = get_type_hints(part.Keys, include_extras=True)
    return {key: hints[key] | None for key in part.Keys.model_fields}


def _grow(model: type[Model], kinds: Registry[Any], name: str) -> None:
    """Give a model, and those below it, the keys of one more part.

    Raises:
        Mistake: a key of this name is there, and is another one.
    """
    below = [model]
    for found in below:
        below += found.__subclasses__()
    shared = {key for other in kinds for key in kinds[other].Keys.model_fields if other != name}
    fields = {key: FieldInfo.from_annotated_attribute(hint, None) for key, hint in _hints(kinds[name]).items()}
    for key, field in fields.items():
        there = next((found.model_fields[key] for found in below if key in found.model_fields), None)
        if there is not None and (key not in shared or there.annotation != field.annotation):
            raise Mistake(kinds.kind, f"the own key '{key}' of {name} is another key already; rename it")
    for found in below:
        found.model_fields.update(fields)
        found.added |= fields.keys()
        for key in fields:
            setattr(found, key, None)  # for those that were made before
        found.model_rebuild(force=True)


def with_defaults(values: Mapping[str, object], name: str | None, kinds: Registry[Any], called: str) -> dict[str, object]:
    """Return the values with the defaults of the chosen part; keys of another part are refused.

    Args:
        values: a section as it stands in search.yaml.
        name: the chosen part; None where none is.
        kinds: all parts of its kind.
        called: the end of the refusal, ``this run uses process pfgm``.
    Raises:
        ValueError: a key belongs to another part.
    """
    filled, own = dict(values), kinds[name].Keys.model_fields if name else {}
    for other in kinds:
        for key, default in kinds[other].Keys.defaults().items():
            if other == name:
                filled[key] = default if filled.get(key) is None else filled[key]
            elif filled.get(key) is not None and key not in own:
                raise Mistake(key, f"belongs to {kinds.kind} {other}, {called}; remove it")
    return filled


def _anything(config: NetworkConfig, shape: tuple[int, ...], process: str) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class NetworkKind:
    """The card of a network."""

    Keys: type[Keys]
    """Its own keys of ``network``."""
    build: Callable[[NetworkConfig, tuple[int, ...], int], nn.Module]
    """(configuration, shape of an item, width of the embedding) → the backbone: (B, d), (B, e) → (B, d + 1)."""
    check: Callable[[NetworkConfig, tuple[int, ...], str], None] = _anything
    """Refuse a shape of items, or a process, that the network is not made for (`Mistake` that names the key)."""
    embeds: bool = True
    """Whether the backbone is given the two levels as an embedding; false: x and t as they are."""
    told: Callable[[NetworkConfig], int] | None = None
    """Of a backbone that is given x and t: the width of the vector of a class that it takes as ``told``; None: it takes none.

    With an embedding of the levels nothing is needed: the vector of the class is added to it."""
    skips: bool = True
    """Whether a denoiser's skip may be added to the output; false: the output is the field as it is."""
