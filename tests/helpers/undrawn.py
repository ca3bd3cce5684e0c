"""Reports whose figures are built but not drawn to files, which takes most of a report's time."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Until the patch is undone, no figure is laid out or saved."""
    patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
    patch.setattr(Figure, "savefig", lambda figure, *a, **k: None)
