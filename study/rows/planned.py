"""The written plan: ``manifest.parquet``, and the points that a growing design proposed since that was written.

Each such point is a file of its own in ``proposed/``, so that a proposal costs the same however many there are. Now and then,
and at every start and end, the manifest is written anew with all of them, and their files are removed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyarrow as pa

from study.rows.folders import read_folder
from study.rows.records import MANY, DamagedFile, read_arrow, write_arrow
from study.rows.storage import Place

logger = logging.getLogger(__name__)


def read_plan(study: Place, columns: Sequence[str] | None = None, damaged: list[Place] | None = None) -> list[pa.Table]:
    """Return the planned cells that were written down, in the order planned; a cell may come twice.

    Args:
        columns: those to read; None reads all.
        damaged: takes the files that cannot be read; without it the first one is an error.
    Raises:
        FileNotFoundError: there is no plan.
        DamagedFile: a file cannot be read.
    """
    proposed = read_folder(study / "proposed", damaged, columns)  # before the manifest, which takes them in
    place = study / "manifest.parquet"
    try:
        return [read_arrow(place, columns), *proposed]
    except FileNotFoundError:
        if not proposed:
            raise
    except DamagedFile:
        if damaged is None:
            raise
        damaged.append(place)
    return proposed


def stored_plan(study: Place, columns: Sequence[str] | None = None) -> list[pa.Table]:
    """Return the planned cells that were written down, none where there is no file; damaged ones are set aside."""
    damaged: list[Place] = []
    try:
        return read_plan(study, columns, damaged)
    except FileNotFoundError:
        return []
    finally:
        for place in damaged:
            logger.warning("%s cannot be read; it is set aside", place)
            place.set_aside()


def write_plan(study: Place, cells: pa.Table) -> None:
    """Write the manifest; it holds what was proposed too, whose files go."""
    proposed = list((study / "proposed").files())
    write_arrow(study / "manifest.parquet", cells, **MANY)
    (study / "proposed").delete_all(proposed)


def write_proposed(study: Place, number: int, cells: pa.Table) -> None:
    """Write down a point that was proposed; a higher ``number`` is a later one."""
    write_arrow(study / "proposed" / f"{number:08d}.parquet", cells)
