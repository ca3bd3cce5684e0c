"""What the tests of the report share."""

from __future__ import annotations

import pytest
from helpers.undrawn import draw_nothing


@pytest.fixture
def no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are built but not drawn to files, which takes most of a report's time."""
    draw_nothing(monkeypatch)
