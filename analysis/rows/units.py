"""What counts as one unit of inference: a trained field, or one sampling of a field that was given.

Rows of one field share its luck in training, so they are averaged before fields are compared. A study of one given field
(``field`` in search.yaml) asks about that field alone: there its samplings, one a sample seed, are the independent units.
"""

from __future__ import annotations

import pandas as pd

from analysis.rows.meta import study_of


def field_key(frame: pd.DataFrame) -> pd.Series:
    """The trained field of each row: its ``train_id``, or training point and seed where a trial died before one."""
    fallback = frame["point_id"].fillna("?").astype(str) + "/" + frame["seed_train"].astype(str)
    return frame["train_id"].where(frame["train_id"].notna(), fallback).astype(str)


def is_given(frame: pd.DataFrame) -> bool:
    """Whether the study measures one field that was given (``field`` in search.yaml), not fields that it trained."""
    return bool(study_of(frame).get("field"))


def unit_key(frame: pd.DataFrame) -> pd.Series:
    """The unit of inference of each row: its field; where one field is given, its sampling (sample seed).

    Conclusions then hold for that field, not for others trained alike.
    """
    key = field_key(frame)
    return key + "/sample " + frame["seed_sample"].astype(str) if is_given(frame) else key
