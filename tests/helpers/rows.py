"""Made-up rows of a study, written as a worker writes them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import pyarrow as pa

from study.rows.measured import Measured
from study.rows.records import EVALS, write_table
from study.rows.storage import Place


def row_of(i: int, **changed: object) -> dict[str, object]:
    """Row number i, whose every column follows from i."""
    source = random.Random(i)
    values: dict[pa.DataType, Callable[[], object]] = {
        pa.string(): lambda: f"text ü {source.random()}", pa.bool_(): lambda: source.random() < 0.5,
        pa.int64(): lambda: source.randrange(2**60),
        pa.float64(): lambda: source.choice([source.random(), math.inf, -0.0, 5e-324]),
    }  # fmt: skip
    row = {field.name: values[field.type]() if source.random() < 0.8 else None for field in EVALS}
    return {**row, "cell_id": f"{i:020x}", "status": "complete", "is_final": True, "schema_version": 1, "perturb_kind": None,
            "metric_names": "fid", **changed}  # fmt: skip


def write(study: Place, *rows: dict[str, object]) -> None:
    for row in rows:
        write_table(study / "evals" / f"{row['cell_id']}.parquet", [row], EVALS)


def known(study: Place) -> Measured[Mapping[str, object]]:
    """The rows as a driver knows them; a row that lacks the metric `fid` is to be measured again."""
    found = Measured[Mapping[str, object]](
        study, ["status", "metric_names", "metric_fid"], lambda row: row if row["metric_names"] == "fid" else None
    )
    found.refresh()
    return found
