"""Outliers against the truncation of the prior."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import outlier_map, plot_outlier_map
from analysis.theory.laws import prior_tail

pytestmark = pytest.mark.usefixtures("clean_figures")


def test_outliers_are_the_mass_of_the_prior_beyond_the_truncation(frame: pd.DataFrame) -> None:
    before = frame.copy()
    table = outlier_map(frame).set_index(["max_radius_ratio", "T_ratio"])
    assert table.loc[(10.0, 1.0), "outlier_fraction"] == 0
    assert table.loc[(np.inf, 1.0), "outlier_fraction"] == pytest.approx(float(prior_tail(40.0, 64)))
    assert table.loc[(90.0, 1.0), "outlier_radius"] == 60
    assert table["n_fields"].eq(3).all()
    assert sum(outlier_map(frame).attrs["skipped"].values()) + table["n_rows"].sum() == len(frame)
    ax = plot_outlier_map(frame)
    pd.testing.assert_frame_equal(frame, before)
    drawn = {round(x, 6): y for c in ax.containers for x, y in zip(*c.lines[0].get_data(), strict=True)}
    assert drawn[10.0] == 0 and drawn[90.0] == pytest.approx(table.loc[(90.0, 1.0), "outlier_fraction"])
    assert "∞" in [tick.get_text() for tick in ax.get_xticklabels()]
    empty = plot_outlier_map(frame.assign(metric_outlier_fraction=np.nan))
    assert "no outlier fraction" in empty.texts[0].get_text()
