"""Every public name of the package exists and lives where the stub says."""

from __future__ import annotations

import pytest

import analysis
from analysis.rows.meta import study_of
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
ARMS = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",))


def test_public_names_exist() -> None:
    assert not [name for name in analysis.__all__ if getattr(analysis, name) is None]
    assert callable(analysis.compare) and study_of(synthetic_frame(ARMS))["design"]["name"] == "one_at_a_time"


def test_names_that_reports_return_are_public() -> None:
    assert analysis.write_reports.__module__ == "analysis.report.write"
    assert analysis.ToleranceInterval.__module__ == "analysis.robustness.interval"
    assert {"ToleranceInterval", "write_reports"} <= set(analysis.__all__)
