"""Keys of conditional fields: how one is trained, and which class its samples are asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool, StrictStr, model_validator

from pfgm.kinds import Integer, Model
from pfgm.mistakes import Mistake

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
