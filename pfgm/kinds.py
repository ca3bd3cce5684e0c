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
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

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


Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(whole), Field(strict=True)]
PositiveInt = Annotated[Integer, Field(gt=0)]


class Model(BaseModel):
    """A section of search.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


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


def joined(base: type[M_], kinds: Registry[Any]) -> type[M_]:
    """Return ``base`` with the keys of every part of a kind, all of them null until a part is chosen."""
    fields: dict[str, Any] = {}
    for name in kinds:
        hints = get_type_hints(kinds[name].Keys, include_extras=True)
        fields |= {key: (hints[key] | None, None) for key in kinds[name].Keys.model_fields}
    return create_model(base.__name__, __base__=base, __module__=base.__module__, **fields)


def with_defaults(values: Mapping[str, object], name: str, kinds: Registry[Any], called: str) -> dict[str, object]:
    """Return the values with the defaults of the chosen part; keys of another part are refused.

    Args:
        values: a section as it stands in search.yaml.
        name: the chosen part.
        kinds: all parts of its kind.
        called: the end of the refusal, ``this run uses process pfgm``.
    Raises:
        ValueError: a key belongs to another part.
    """
    filled = dict(values)
    for other in kinds:
        for key, default in kinds[other].Keys.defaults().items():
            if other == name:
                filled[key] = default if filled.get(key) is None else filled[key]
            elif filled.get(key) is not None and key not in kinds[name].Keys.model_fields:
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
    skips: bool = True
    """Whether a denoiser's skip may be added to the output; false: the output is the field as it is."""
