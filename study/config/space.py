"""Distributions of searched parameters, in a form that cannot be invalid: checked when made, frozen after.

A distribution maps u ∈ [0, 1) to a value, so that every design (grid, random, Sobol') draws from the same law. It lists evenly
spaced levels for designs that need them, and knows whether it is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pfgm.kinds import whole

RANGES = ("uniform", "log_uniform", "int_uniform", "log_int_uniform")
KINDS = (*RANGES, "choice")
Value = float | int | str | bool | None


class SpaceError(ValueError):
    """An invalid distribution; ``key`` is the part of it at fault ("" for the whole)."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Distribution:
    """The values that a searched parameter may have.

    Attributes:
        kind: uniform, log_uniform, int_uniform, log_int_uniform (``low`` … ``high``, both ends included) or choice.
        levels: how many values one_at_a_time and grid take from a range.
        when: the values of a parent (sampler or train parameter of the same group) under which this one is active.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Value, ...] = ()
    levels: int = 4
    when: tuple[str, tuple[Value, ...]] | None = None

    @property
    def log(self) -> bool:
        return self.kind.startswith("log_")

    @property
    def integer(self) -> bool:
        return "int_" in self.kind

    @property
    def ends(self) -> list[Value]:
        """All choices, or the lowest and the highest value."""
        if self.kind == "choice":
            return list(self.choices)
        return [int(self.low), int(self.high)] if self.integer else [self.low, self.high]

    def value(self, u: float) -> Value:
        """The value at u ∈ [0, 1) of the distribution's quantile function."""
        if self.kind == "choice":
            return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        if self.integer:
            low, high = self.low - 0.5, self.high + 0.5
            raw = math.exp(math.log(low) + u * math.log(high / low)) if self.log else low + u * (high - low)
            return int(min(max(round(raw), self.low), self.high))
        if self.log:
            return math.exp(math.log(self.low) + u * math.log(self.high / self.low))
        return self.low + u * (self.high - self.low)

    def grid(self) -> list[Value]:
        """All choices, or ``levels`` values from low to high, evenly spaced (in the logarithm where that is the law)."""
        if self.kind == "choice":
            return list(self.choices)
        n = self.levels
        values: list[Value] = []
        for k in range(n):
            f = k / (n - 1)
            raw = self.low ** (1 - f) * self.high**f if self.log else self.low + f * (self.high - self.low)
            raw = self.low if k == 0 else self.high if k == n - 1 else raw
            values.append(round(raw) if self.integer else float(f"{raw:.6g}"))
        return list(dict.fromkeys(values))

    def contains(self, value: object) -> bool:
        """Return whether a value could be drawn."""
        if self.kind == "choice":
            return any(same(value, c) for c in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        slack = 1e-9 * max(abs(self.low), abs(self.high))
        return self.low - slack <= value <= self.high + slack

    def __str__(self) -> str:
        return f"{list(self.choices)}" if self.kind == "choice" else f"[{self.low:g}, {self.high:g}]"

    def dump(self) -> dict[str, object]:
        """The mapping that `parse` reads back."""
        out: dict[str, object] = {self.kind: self.ends}
        if self.kind != "choice":
            out["levels"] = self.levels
        if self.when is not None:
            out["when"] = {self.when[0]: list(self.when[1])}
        return out


def same(a: object, b: object) -> bool:
    """Equality that keeps True and 1 apart."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def parse(spec: object, integer: bool = False) -> Distribution:
    """Read ``{log_uniform: [0.02, 0.5], levels: 4, when: {solver: dopri5}}``.

    Args:
        integer: the parameter's numbers are whole: choices such as 1e2 become 100.
    Raises:
        SpaceError: not such a mapping, an empty or inverted range, a logarithm of something not positive, …
    """
    if not isinstance(spec, Mapping):
        raise SpaceError(f"must be a distribution such as {{log_uniform: [0.02, 0.5]}}, got {spec!r}")
    kinds = [key for key in spec if key in KINDS]
    unknown = [key for key in spec if key not in (*KINDS, "levels", "when")]
    if unknown:
        raise SpaceError(f"unknown key '{unknown[0]}'; use one of {', '.join(KINDS)}, with levels and when", str(unknown[0]))
    if len(kinds) != 1:
        raise SpaceError(f"needs exactly one of {', '.join(KINDS)}, got {', '.join(kinds) or 'none'}")
    kind, body = kinds[0], spec[kinds[0]]
    when = _parse_when(spec["when"]) if "when" in spec else None
    if kind == "choice":
        if "levels" in spec:
            raise SpaceError("levels belongs to a range; a choice takes every value", "levels")
        choices = _parse_choices(body)
        return Distribution(kind, choices=tuple(whole(c) for c in choices) if integer else choices, when=when)
    levels = whole(spec.get("levels", 4))
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
        raise SpaceError(f"levels must be an integer of at least 2, got {levels!r}", "levels")
    low, high = _parse_range(kind, body)
    return Distribution(kind, low, high, levels=levels, when=when)


def _parse_choices(body: object) -> tuple[Value, ...]:
    if not isinstance(body, list) or not body:
        raise SpaceError(f"must be a list of values, got {body!r}", "choice")
    if any(isinstance(c, list | dict) for c in body):
        raise SpaceError("may hold only numbers, words, true, false and null", "choice")
    if any(same(a, b) for i, a in enumerate(body) for b in body[:i]):
        raise SpaceError(f"names a value twice: {body}", "choice")
    return tuple(body)


def _parse_range(kind: str, body: object) -> tuple[float, float]:
    number = (
        isinstance(body, list) and len(body) == 2 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in body)
    )
    if not number:
        raise SpaceError(f"must be two numbers [low, high], got {body!r}", kind)
    assert isinstance(body, list)
    low, high = body
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SpaceError(f"low and high must be finite, got {low} and {high}", kind)
    if low >= high:
        raise SpaceError(f"low must be below high, got {low:g} and {high:g}", kind)
    if kind.startswith("log_") and low <= 0:
        raise SpaceError(f"a logarithmic range must be positive, got low = {low:g}; use {kind[4:]}, or raise low", kind)
    if "int_" in kind:
        low, high = whole(low), whole(high)
    if "int_" in kind and not (isinstance(low, int) and isinstance(high, int)):
        raise SpaceError(f"low and high must be integers, got {low} and {high}", kind)
    return low, high


def _parse_when(spec: object) -> tuple[str, tuple[Value, ...]]:
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise SpaceError(f"must name one parent and its values, such as {{solver: dopri5}}, got {spec!r}", "when")
    parent, values = next(iter(spec.items()))
    return str(parent), tuple(values) if isinstance(values, list) else (values,)
