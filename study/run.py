"""The command line: start, continue or finish a study."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.yaml_source import ConfigError, Source, read_source

if TYPE_CHECKING:
    from study.config import StudyConfig
    from study.worklist import Worklist

DESCRIPTION = """\
Run the study that a YAML file describes: train a field for every training point and seed, sample each at every sampler
point, and measure quality (FID) and cost (NFE). The rows go to <storage>/<name>/, a report to report/report.html there.

The same command continues a study that was stopped, for whatever reason: finished rows are never measured again, trained
fields never trained again. On a finished study it does nothing.
"""
EPILOG = """\
examples:
  python -m study.run experiments/digits.yaml                        the demo study
  python -m study.run my.yaml --dry-run                              what would run, and how long it would take
  python -m study.run my.yaml --set train.steps=500 --set name=quick a variant, without editing the file
  python -m study.run my.yaml --inline                               no Ray: trials one by one, for a debugger

exit codes: 0 every row complete, 1 finished but some rows, or the report, failed, 2 a mistake in the study file or the
command, 130 stopped by Ctrl-C (run it again to continue).
"""

FROZEN, GROWING, FREE = "frozen", "growing", "free"
KEY_RULES: tuple[tuple[str, str], ...] = (
    ("design.trials", GROWING),
    ("design.sampler_points", GROWING),
    ("design.arm_seeds", GROWING),
    ("seeds.train", GROWING),
    ("seeds.sample", GROWING),
    ("storage", FREE),
    ("allow_extreme", FREE),
    ("data.path", FREE),
    ("resources", FREE),
    ("analysis", FREE),
    ("", FROZEN),
)
"""What may change between two starts of one study, by longest matching prefix: *frozen* keys would change the meaning of
finished rows, *growing* ones add what is missing, *free* ones change nothing that is measured."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line's options and help."""
    p = argparse.ArgumentParser(
        prog="python -m study.run", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("study", type=Path, metavar="search.yaml", help="the study file")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override one key")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its estimated cost; create nothing")
    p.add_argument("--no-report", action="store_true", help="measure the rows only; python -m analysis.report makes it later")
    p.add_argument("--retry-failed", action="store_true", help="measure rows that failed again (their old rows are dropped)")
    p.add_argument("--inline", action="store_true", help="run the trials one after another in this process, without Ray")
    return p


def run(options: argparse.Namespace) -> int:
    """Do what the command line asks for.

    Raises:
        ConfigError: the study file, or what it would change, is refused.
    """
    source = read_source(options.study, tuple(options.overrides))  # fail on a bad file before the slow imports
    from study.config import load_study_config
    from study.scheduler import slots
    from study.worklist import Worklist

    config = load_study_config(options.study, options.overrides)
    check_against_existing(source, config)
    work = Worklist(config)
    if options.retry_failed and not options.dry_run and drop_failed(config.folder, {str(c["cell_id"]) for c in work.cells}):
        work = Worklist(config)
    n_slots = 1 if options.inline else slots(config)
    print(describe_plan(config, work, n_slots), flush=True)
    if options.dry_run:
        from study.cost import estimate

        wall, core = estimate(config, work, n_slots)
        print(
            f"  estimated cost  {_clock(wall)} on {n_slots} at once ({core / 3600:.2f} core-hours), from a calibration just now"
        )
        return 0
    try:
        write_study(config, work)
    except OSError as error:
        raise source.error(
            ("storage",), f"cannot write {config.folder} ({error.strerror or error}); name a folder you may write to"
        ) from error
    try:
        if work.rows_left == 0:
            print("finished, nothing to do")
        else:
            execute(config, work, n_slots, options.inline)
    except KeyboardInterrupt:
        work.refresh()
        print(f"\nstopped with {work.rows_planned - work.rows_left} of {work.rows_planned} rows; the same command continues")
        return 130
    work.refresh()
    reported = options.no_report or write_report(config.folder)
    return summarise(work) or int(not reported)


def drop_failed(folder: Path, planned: Collection[str]) -> int:
    """Remove the files of planned rows whose status is `failed`, so that they are measured again; how many."""
    from study.records import read_table

    failed = [
        path
        for path in sorted((folder / "evals").glob("*.parquet"))
        if all(row["status"] == "failed" and row["cell_id"] in planned for row in read_table(path))
    ]
    for path in failed:
        path.unlink()
    return len(failed)


def execute(config: StudyConfig, work: Worklist, n_slots: int, inline: bool) -> None:
    """Run what is missing, with the display."""
    from study.fields import FieldStore
    from study.plan import Trial
    from study.progress import Progress
    from study.scheduler import run_inline, run_with_ray

    store = FieldStore(Path(config.storage))
    before = work.rows_planned - work.rows_left
    with Progress(config.folder, work.rows_planned, before, work.rows_left, work.steps_left(store), n_slots) as progress:

        def start(trial: Trial) -> None:
            progress.start(trial, len(work.missing(trial)), 0 if trial.train_id in store else trial.train.steps)

        (run_inline if inline else run_with_ray)(config, work, progress, start)


def describe_plan(config: StudyConfig, work: Worklist, n_slots: int) -> str:
    """What the study consists of, and what is left of it."""
    from study.fields import FieldStore
    from study.plan import check_extremes

    store = FieldStore(Path(config.storage))
    fields = {t.train_id for t in work.trials}
    trained = sum(f in store for f in fields)
    ranges = check_extremes(config, [t.point for t in work.trials] or [config.default("train")], corners=False)
    heights = ", ".join(f"{k} {_span(*v)}" for k, v in ranges.items())
    seeds = f"{len(config.seeds.train_seeds)} train, {len(config.seeds.sample_seeds)} sample"
    planned = f"{len(work.trials)} trials" + (f", {work.points_to_ask} points still to be proposed" if work.tpe else "")
    return "\n".join(
        [
            f"{config.name}: {config.design.name} study of {config.info.n} {config.data.name} (d = {config.info.dim})",
            f"  plan            {planned} (seeds: {seeds}), {n_slots} at once",
            f"  fields          {len(fields)} different, {trained} already trained",
            f"  rows            {work.rows_planned} planned, {work.rows_planned - work.rows_left} measured",
            *([f"  kept            {work.rows_kept} rows of an earlier, larger plan are kept"] if work.rows_kept else []),
            f"  implied         {heights} (data units)",
            f"  results         {config.folder}",
        ]
    )


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if high <= low * (1 + 1e-9) else f"{low:.3g} … {high:.3g}"


def check_against_existing(source: Source, config: StudyConfig) -> None:
    """Refuse a study file that would change what the rows already in its folder mean.

    Raises:
        ConfigError: at the first differing frozen key, with every one's old and new value.
    """
    stored = config.folder / "study.yaml"
    if not stored.is_file():
        return
    from study.config import read_study
    from study.records import read_table

    old = read_study(read_source(stored)).dump()
    differences = [(k, a, b) for k, a, b in compare(old, config.dump()) if rule_of(k) == FROZEN]
    if differences:
        (key, was, now), *others = differences
        text = f"was {was!r} in {config.folder}, now {now!r}" + "".join(f"; {k} was {a!r}, now {b!r}" for k, a, b in others)
        raise source.error(tuple(key.split(".")), f"{text}: the rows there would change meaning; undo that, or give a new name")
    manifest = config.folder / "manifest.parquet"
    hashes = {r["data_hash"] for r in read_table(manifest)} if manifest.is_file() else set()
    if hashes - {config.info.hash}:
        raise source.error(("data",), f"have changed since {config.folder} was measured; restore them, or give a new name")


def rule_of(key: str) -> str:
    """Frozen, growing or free: the rule of a dotted key."""
    matches = [(prefix, rule) for prefix, rule in KEY_RULES if prefix in ("", key) or key.startswith(prefix + ".")]
    return max(matches, key=lambda m: len(m[0]))[1]


def compare(old: object, new: object, key: str = "") -> list[tuple[str, object, object]]:
    """Differing leaves of two nested mappings: (dotted key, old, new)."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        return [d for k in keys for d in compare(old.get(k), new.get(k), f"{key}.{k}" if key else k)]
    return [] if old == new else [(key, old, new)]


def write_study(config: StudyConfig, work: Worklist) -> None:
    """study.yaml and the manifest, before anything runs."""
    from study.records import write_text

    write_text(config.folder / "study.yaml", config.to_yaml())
    work.write_manifest()


def write_report(folder: Path) -> bool:
    """Make the report in a process of its own (analysis needs neither torch nor ray); whether it was made."""
    done = subprocess.run([sys.executable, "-m", "analysis.report", str(folder)], check=False)
    if done.returncode != 0:
        print(f"the rows are safe, but the report failed; try: python -m analysis.report {folder}", file=sys.stderr)
    return done.returncode == 0


def summarise(work: Worklist) -> int:
    """Print the counts; 0 when every planned cell is complete, else 1."""
    counts = Counter(
        str(work.rows[str(c["cell_id"])]["status"]) if c["cell_id"] in work.rows else "pending" for c in work.cells
    )
    text = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    print(f"{work.config.name}: {text}")
    bad = {status: n for status, n in counts.items() if status != "complete"}
    if not bad:
        return 0
    logs = sorted({str(r["error_log"]) for r in work.rows.values() if r.get("error_log")})
    hint = f"; tracebacks in {work.config.folder}/logs" if logs else ""
    hint += "; --retry-failed measures the failed ones again" if bad.get("failed") else ""
    print(f"{sum(bad.values())} of {len(work.cells)} rows are not complete{hint}", file=sys.stderr)
    return 1


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
