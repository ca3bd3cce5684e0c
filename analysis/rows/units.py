"""Name the unit of inference of each row: a trained field, or one sampling of a field that was given.

Rows of one field share its luck in training, so they are averaged before fields are compared. A study of one given field
(``field`` in search.yaml) asks about that field alone: there its samplings, one a sample seed, are the independent units.
"""

from __future__ import annotations

import pandas as pd

from analysis.rows.meta import is_given


def field_key(frame: pd.DataFrame) -> pd.Series:
    """Return the trained field of each row: its ``train_id``, or training point and seed where a trial died before one."""
    fallback = frame["point_id"].fillna("?").astype(str) + "/" + frame["seed_train"].astype(str)
    return frame["train_id"].where(frame["train_id"].notna(), fallback).astype(str)


def unit_key(frame: pd.DataFrame, given: bool | None = None) -> pd.Series:
    """Return the unit of inference of each row: its field; where one field is given, its sampling (sample seed).

    Conclusions then hold for that field, not for others trained alike.

    Args:
        frame: rows of `analysis.load_study`.
        given: whether one field is given, where it is known already.
    """
    key = field_key(frame)
    sampled = is_given(frame) if given is None else given
    return key + "/sample " + frame["seed_sample"].astype(str) if sampled else key
