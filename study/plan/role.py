"""Why a point is measured, as the columns ``design_role`` and ``design_sampler_role`` say it.

A role is default, arm:<parameter>, or what a design calls its points (sobol, grid, random, tpe); a point on two arms has both,
joined by a +. A value that design settle added to narrow an edge has the part ``edge`` beside its arm.
"""

from __future__ import annotations

ARM = "arm:"


class Role(str):
    """A role as it is stored, and what it says."""

    __slots__ = ()

    @classmethod
    def arm(cls, key: str) -> Role:
        """Return the role of the points that move one parameter alone."""
        return cls(ARM + key)

    @property
    def is_default(self) -> bool:
        return self == "default"

    @property
    def arms(self) -> tuple[str, ...]:
        """The parameters that the point moves alone; none where it is on no arm."""
        return tuple(part[len(ARM) :] for part in self.split("+") if part.startswith(ARM))

    def joined(self, other: Role) -> Role:
        """Return the role of a point that has both; the default stays the default."""
        return self if self.is_default else Role("+".join(dict.fromkeys([*self.split("+"), other])))
