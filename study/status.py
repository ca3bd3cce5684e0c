"""How a study is going: ``python -m study.status results/x``, from any terminal or machine that sees its storage.

Reads the plan, the rows, the lease and what the driver last said; changes nothing, and needs neither torch nor ray.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pfgm.terminal import command
from study.fields.listing import age
from study.host.lease import holder_lives, read_holder
from study.rows.folders import read_folder
from study.rows.planned import read_plan
from study.rows.records import DamagedFile
from study.rows.storage import Place, StorageError

EPILOG = """\
examples:
  python -m study.status results/digits
  python -m study.status s3://bucket/results/digits

exit codes: 0 told, 2 no such study.
"""


def status(folder: Place) -> list[str]:
    """Lines about a study.

    Raises:
        FileNotFoundError: no study there.
        StorageError: it cannot be read.
    """
    if not (folder / "study.yaml").is_file():
        raise FileNotFoundError(f"{folder}: no study there; name a study's folder, such as results/digits")
    try:
        plan = pa.concat_tables(read_plan(folder, ["cell_id", "train_id"]), promote_options="default")
        planned = dict(zip(plan["cell_id"].to_pylist(), plan["train_id"].to_pylist(), strict=True))
    except (FileNotFoundError, DamagedFile):
        planned = {}
    damaged: list[Place] = []
    rows, reused = _measured(folder, damaged)
    counts = Counter(rows.get(cell, "pending") for cell in planned)
    done = sum(n for word, n in counts.items() if word != "pending")
    lines = [
        f"{folder.name}: {done} of {len(planned)} rows"
        + "".join(f", {n} {word}" for word, n in sorted(counts.items(), key=lambda item: -item[1])),
        f"  fields          {len(set(planned.values()))} planned, {reused} taken from the store",
    ]
    if damaged:
        lines.append(f"  damaged         {len(damaged)} row files, measured again at the next start")
    if rows.keys() - planned.keys():
        lines.append(f"  kept            {len(rows.keys() - planned.keys())} rows of an earlier, larger plan")
    return lines + _driver(folder, done == len(planned))


def _measured(folder: Place, damaged: list[Place]) -> tuple[dict[str, str], int]:
    """Return (status by cell, number of fields that were taken from the store)."""
    rows: dict[str, str] = {}
    reused = set[str]()
    for table in read_folder(folder / "evals", damaged, ["cell_id", "status", "train_id", "prov_field_reused"]):
        rows.update(zip(table["cell_id"].to_pylist(), table["status"].to_pylist(), strict=True))
        reused.update(table.filter(table["prov_field_reused"])["train_id"].to_pylist())
    return rows, len(reused)


def _driver(folder: Place, finished: bool) -> list[str]:
    """Who runs the study, and what it last said; how to continue when nobody does."""
    holder = read_holder(folder)
    if not holder or not holder_lives(folder, holder):
        if finished:
            return ["  driver          none; finished"]
        gone = f" (pid {holder['pid']} on {holder['host']}, since {holder['since']}, is gone)" if holder else ""
        return [f"  driver          none{gone}", "  to continue     python -m study.run search.yaml, as it was started"]
    lines = [f"  driver          pid {holder['pid']} on {holder['host']}, since {holder['since']}"]
    state, written = _state(folder)
    if state:
        lines.append(f"  {age(time.time() - written)} ago".ljust(18) + str(state["headline"]))
        for trial in state["trials"]:
            loss = f", loss {trial['loss']}" if trial["loss"] else ""
            lines.append(f"    {trial['field']}: {trial['doing']}{loss}")
    return lines


def _state(folder: Place) -> tuple[dict[str, Any], float]:
    """Return what the driver last said, and when."""
    place = folder / "state.json"
    try:
        state = json.loads(place.read())
    except (FileNotFoundError, ValueError):
        return {}, 0.0
    written = place.modified()
    return state if {"headline", "trials"} <= state.keys() else {}, time.time() if written is None else written


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m study.status",
        description="How a study is going, or how it ended; works while another process or machine runs it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", help="the study's folder, results/<study>, or its s3:// URI")
    options = parser.parse_args(arguments)
    try:
        print("\n".join(status(Place.of(options.study))))
    except (ValueError, FileNotFoundError, StorageError) as error:
        print(error if str(error).startswith(options.study) else f"{options.study}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
