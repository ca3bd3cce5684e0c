"""What a study says of itself: the plan before it runs, and how it ended."""

from __future__ import annotations

import sys
from collections import Counter

from study.config.study import StudyConfig
from study.fields.store import FieldStore
from study.host.sharing import plan_lines
from study.plan.make import check_extremes
from study.plan.reach import reach_lines
from study.plan.worklist import Worklist

RETRIED = ("failed", "timeout")
"""Statuses that ``--retry-failed`` measures again."""


def describe_plan(config: StudyConfig, work: Worklist) -> str:
    """What the study consists of, and what is left of it."""
    store = FieldStore(config.place)
    fields = {t.train_id for t in work.trials}
    trained = len(store.published(fields))
    ranges = check_extremes(config, [t.point for t in work.trials] or [config.default("train")], corners=False)
    heights = ", ".join(f"{k} {_span(*v)}" for k, v in ranges.items())
    seeds = f"{len(config.seeds.train_seeds)} train, {len(config.seeds.sample_seeds)} sample"
    planned = f"{len(work.trials)} trials" + (f", {work.points_to_ask} points still to be proposed" if work.tpe else "")
    told = f"{len(fields)} different, {trained} already trained"
    if config.given is not None:
        told = f"given: {config.given.source}; nothing is trained"
    untruncated = config.untruncated_metrics
    advisory = "; an object store has no locks: keep to one driver at a time" if config.place.remote else ""
    return "\n".join(
        [
            f"{config.name}: {config.design.name} study of {config.info.n} {config.data.name} (d = {config.info.dim})",
            f"  plan            {planned} (seeds: {seeds})",
            *(f"  space           {line}" for line in reach_lines(config, work.trials, work.joint)),
            f"  fields          {told}",
            f"  rows            {work.rows_planned} planned, {work.rows_planned - work.rows_left} measured",
            *([f"  kept            {work.rows_kept} rows of an earlier, larger plan are kept"] if work.rows_kept else []),
            f"  implied         {heights} (data units)",
            *plan_lines(config),
            *([f"  whole prior     of {' and '.join(untruncated)}: no max_radius_ratio moves them"] if untruncated else []),
            *(f"  note            {note}" for note in config.data_notes),
            f"  results         {config.folder}{advisory}",
        ]
    )


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if high <= low * (1 + 1e-9) else f"{low:.3g} … {high:.3g}"


def summarise(work: Worklist) -> int:
    """Print the counts; 0 when every planned cell is complete, else 1."""
    counts = Counter(
        str(work.rows[str(c["cell_id"])]["status"]) if c["cell_id"] in work.rows else "pending" for c in work.cells
    )
    text = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    print(f"{work.config.name}: {text}")
    if "pending" not in counts:
        for line in reach_lines(work.config, work.trials, work.joint):
            print(f"  space           {line}")
    bad = {status: n for status, n in counts.items() if status != "complete"}
    if not bad:
        return 0
    logs = sorted({str(r["error_log"]) for r in work.rows.values() if r.get("error_log")})
    hint = f"; tracebacks in {work.config.folder}/logs" if logs else ""
    hint += "; --retry-failed measures those again that failed or ran out of time" if bad.keys() & set(RETRIED) else ""
    print(f"{sum(bad.values())} of {len(work.cells)} rows are not complete{hint}", file=sys.stderr)
    return 1
