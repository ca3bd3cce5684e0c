"""What a study says of itself: the plan before it runs, and how it ended."""

from __future__ import annotations

import sys
from collections import Counter

import psutil

from pfgm.metrics.features.networks import default_features
from pfgm.metrics.frechet import frechet_bytes
from pfgm.networks.build import describe_network
from study.config.group import NETWORK_SEARCH
from study.config.study import StudyConfig, used_origins
from study.fields.store import FieldStore
from study.host import machine
from study.host.sharing import USABLE, memory_needed, searched_values, work_needed
from study.host.slots import trials_per_gpu
from study.plan.designs.settle import first_seeds
from study.plan.heights import check_extremes
from study.plan.reach import reach_lines
from study.plan.worklist import Worklist
from study.rows.on_the_way import GONE
from study.rows.records import MISSED

RETRIED = ("failed", "timeout", MISSED)
"""Statuses that ``--retry-failed`` measures again."""


def describe_plan(config: StudyConfig, work: Worklist, together: int = 1) -> str:
    """Say what the study consists of, and what is left of it.

    Args:
        config: the study.
        work: what is left of it.
        together: fields that a trial trains.
    """
    store = FieldStore(config.place)
    fields = {t.train_id for t in work.trials}
    trained = len(store.published(fields))
    ranges = check_extremes(config, [t.point for t in work.trials] or [config.default("train")], corners=False)
    heights = ", ".join(f"{k} {_span(*v)}" for k, v in ranges.items())
    train = f"{first_seeds(config)} train at first" if work.in_rounds else f"{len(config.seeds.train_seeds)} train"
    seeds = f"{train}, {'its own' if config.seeds.sample == 'own' else config.seeds.samplings} sample"
    planned = f"{len(work.trials)} trials" + _growth(work)
    untruncated = config.untruncated_metrics
    advisory = "; an object store has no locks: keep to one driver at a time" if config.place.remote else ""
    return "\n".join(
        [
            f"{config.name}: {config.design.name} study of {config.info.n} {config.data.name} (d = {config.info.dim})",
            f"  plan            {planned} (seeds: {seeds})",
            *(f"  space           {line}" for line in reach_lines(config, work.trials, work.joint)),
            *(f"  settled         {line}" for line in work.lines),
            f"  fields          {config.field_source.words(len(fields), trained)}",
            f"  rows            {work.rows_planned} planned, {work.rows_planned - work.rows_left} measured",
            *_lines_on_the_way(config, work, store),
            *([f"  kept            {work.rows_kept} rows of an earlier, larger plan are kept"] if work.rows_kept else []),
            f"  implied         {heights} (data units)",
            *plan_lines(config, together),
            *([f"  whole prior     of {' and '.join(untruncated)}: no max_radius_ratio moves them"] if untruncated else []),
            *(f"  note            {note}" for note in config.data_notes),
            *(f"  plug-in         {origin}" for origin in used_origins(config)),
            f"  results         {config.folder}{advisory}",
        ]
    )


def _lines_on_the_way(config: StudyConfig, work: Worklist, store: FieldStore) -> list[str]:
    """Say how many rows on the way there are, and how many cannot be measured any more."""
    cells = [cell for cell in work.cells if cell.step is not None]
    if not cells:
        return []
    shares = ", ".join(f"{share:.4g}" for share in config.evaluate.at_steps or () if share < 1)
    left = [(cell.trial.train_id, cell.step or 0) for cell in cells if cell.cell_id not in work.rows]
    gone = store.gone(set(left))
    lost = sum(place in gone for place in left)
    told = f"; {lost} of them cannot be measured, their fields are trained already" if lost else ""
    return [f"  on the way      {len(cells)} of the rows, at {shares} of the steps{told}"]


def _growth(work: Worklist) -> str:
    """Say what a design that grows may still add to the plan."""
    if work.in_rounds:
        return "" if work.exhausted else " so far; a round follows where a verdict is open"
    return f", {work.points_to_ask} points still to be proposed" if work.growing else ""


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if high <= low * (1 + 1e-9) else f"{low:.3g} … {high:.3g}"


def summarise(work: Worklist) -> int:
    """Print the counts; 0 when every planned cell is complete, else 1."""
    counts = Counter(str(work.rows[c.cell_id]["status"]) if c.cell_id in work.rows else "pending" for c in work.cells)
    text = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    print(f"{work.config.name}: {text}")
    if "pending" not in counts:
        for line in reach_lines(work.config, work.trials, work.joint):
            print(f"  space           {line}")
        for line in work.lines:
            print(f"  settled         {line}")
    bad = {status: n for status, n in counts.items() if status != "complete"}
    if not bad:
        return 0
    logs = sorted({str(r["error_log"]) for r in work.rows.values() if r.get("error_log")})
    if counts[MISSED]:
        print(f"{counts[MISSED]} rows on the way are missed: {GONE}", file=sys.stderr)
    hint = f"; tracebacks in {work.config.folder}/logs" if logs else ""
    hint += "; --retry-failed measures those again that failed or ran out of time" if bad.keys() & {"failed", "timeout"} else ""
    print(f"{sum(bad.values())} of {len(work.cells)} rows are not complete{hint}", file=sys.stderr)
    return 1


WORTH_A_LINE = 1_000_000_000
"""Bytes above which the plan says what a metric takes."""


def plan_lines(config: StudyConfig, together: int = 1) -> list[str]:
    """The network's size and cost and, where there is a GPU, what a trial takes of it."""
    lines = []
    if not config.field_source.exact:
        lines = [f"  network         {_networks(config)}"]
    lines += _metric_lines(config)
    memory, declared = machine.gpu_memory(), config.resources.gpus
    if memory is None or declared == 0:
        return [*lines, *_host_memory_lines(config, together)]
    needed = memory_needed(config, together)
    shared = (
        trials_per_gpu(config, machine.usable_cpus(), machine.gpu_count(), together)
        if declared == "auto"
        else int(1 / declared + 1e-9)
    )
    text = f"{needed / 1e9:.1f} GB a trial: " + (f"{shared} share a GPU" if shared > 1 else "one on a GPU")
    if shared * needed > USABLE * memory:
        text += f" of {memory / 1e9:.1f} GB, with work done in parts where that is too little"
    return [*lines, f"  memory          {text}"]


def _host_memory_lines(config: StudyConfig, together: int) -> list[str]:
    """Return what a trial takes of this machine's memory, data left out, where that is worth a line."""
    rough = work_needed(config, together, rough=True)
    if max(rough.training, rough.sampling) < WORTH_A_LINE:
        return []
    found, there = work_needed(config, together), psutil.virtual_memory().total
    needed = max(found.training, found.sampling)
    if needed < WORTH_A_LINE:
        return []
    text = f"{needed / 1e9:.1f} GB a trial"
    if found.training > there:
        text += f", more than this machine has ({there / 1e9:.0f} GB): lower train.batch_size, or use a GPU"
    elif needed > there:
        text += f" of {there / 1e9:.0f} GB, with calls of the network in tiles of the batch"
    return [f"  memory          {text}"]


def _metric_lines(config: StudyConfig) -> list[str]:
    """Return what the Fréchet distance takes in the space of the points themselves, whose dimension has no bound."""
    info, measured = config.info, config.evaluate
    features = measured.features or default_features(info.name, info.shape)
    if "fid" not in measured.metrics or features != "pixels":
        return []
    needed, there = frechet_bytes(measured.samples, info.n, info.dim), psutil.virtual_memory().total
    if needed < WORTH_A_LINE:
        return []
    cure = "use other features, or leave fid out of evaluate.metrics"
    told = f", more than this machine has ({there / 1e9:.0f} GB): {cure}" if needed > there else ""
    size = f"{needed / 1e9:.1f} GB in each trial{told}"
    return [f"  metrics         fid in `pixels` ({info.dim:,} numbers a point) takes about {size}"]


def _networks(config: StudyConfig) -> str:
    """The study's network in words; the smallest and the largest where its size is searched."""
    searched = {key: [v for v in searched_values(config, "train", key) if isinstance(v, int)] for key in NETWORK_SEARCH}
    ends = [config.network_at({key: pick(values) for key, values in searched.items() if values}) for pick in (min, max)]
    words = [describe_network(network, config.info.shape) for network in ends if network is not None]
    return " to ".join(dict.fromkeys(words))
