"""Pack a study folder so that it can be committed: the same rows in a few Parquet files instead of one a cell.

    python experiments/notebooks/make_bundle.py results/digits_bundle

`analysis.load_study` reads the packed folder as it reads the original and gives the same frame: no row and no column is left
out. Training histories go into one file; of the sample grids those of the default, the best and the worst configuration stay.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import pandas as pd

from analysis import load_study
from analysis.statistics.pick import choose_cell
from study.rows.folders import read_folder
from study.rows.records import EVALS, HISTORY, MANIFEST, read_table, write_table

HERE = Path(__file__).resolve().parent
LIMIT = 300_000
"""Bytes of Parquet that may be committed."""


def pack(source: Path, target: Path) -> dict[str, int]:
    """Write the packed copy of ``source`` into the new folder ``target``; returns {file: bytes}.

    Raises:
        ValueError: the target exists, the packed study does not load to the same frame, or it is too big to be committed.
    """
    if target.exists():
        raise ValueError(f"{target} exists; remove it first")
    frame = load_study(source, perturbed=True)
    for folder, name, schema in (("evals", "rows", EVALS), ("history", "all", HISTORY)):
        rows = [row for table in read_folder(source / folder) for row in table.to_pylist()]
        order = ("train_id", "seed_sample", "sampler_id") if schema is EVALS else ("train_id", "step")
        rows.sort(key=lambda row, order=order: tuple(str(row[k]).rjust(20) for k in order))  # alike rows together: smaller
        write_table(target / folder / f"{name}.parquet", rows, schema)
    write_table(target / "manifest.parquet", read_table(source / "manifest.parquet"), MANIFEST)
    shutil.copyfile(source / "study.yaml", target / "study.yaml")
    (target / "samples").mkdir()
    for which in ("default", "best", "worst"):
        row = choose_cell(frame, which)
        picture = source / "samples" / f"{row['cell_id']}.png" if row is not None else None
        if picture is not None and picture.is_file():
            shutil.copyfile(picture, target / "samples" / picture.name)
    pd.testing.assert_frame_equal(load_study(target, perturbed=True), frame)
    sizes = {str(p.relative_to(target)): p.stat().st_size for p in sorted(target.rglob("*")) if p.is_file()}
    total = sum(size for name, size in sizes.items() if name.endswith(".parquet"))
    if total > LIMIT:
        raise ValueError(f"{target}: {total} bytes of Parquet, at most {LIMIT} are committed; plan fewer cells")
    return sizes


def main(arguments: list[str] | None = None) -> int:
    """Pack the study named on the command line next to the notebooks."""
    parser = argparse.ArgumentParser(description="Pack a study folder for the notebooks.")
    parser.add_argument("study", type=Path, help="results/digits_bundle")
    parser.add_argument("target", type=Path, nargs="?", help="default: a folder of the study's name beside this script")
    given = parser.parse_args(arguments)
    try:
        sizes = pack(given.study, given.target or HERE / given.study.name)
    except (ValueError, AssertionError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{size:>9,}  {name}\n" for name, size in sizes.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
