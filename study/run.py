"""The command line: start, continue, extend or finish a study."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pfgm.terminal import STOPPED, command
from study.config.yaml_source import START, ConfigError, Source, read_source
from study.rows.storage import Place, StorageError, clean_temporary

if TYPE_CHECKING:
    from study.config.study import StudyConfig
    from study.host.lease import DriverLease
    from study.host.progress import Progress
    from study.host.stop import Stop
    from study.plan.make import Trial
    from study.plan.worklist import Worklist

DESCRIPTION = """\
Run the study that a YAML file describes: train a field for every training point and seed, sample each at every sampler
point, and measure quality (FID) and cost (NFE). The rows go to <storage>/<name>/, a report to report/report.html there.

The same command continues a study that was stopped, for whatever reason: finished rows are never measured again, trained
fields never trained again. More trials, seeds, sampler points or metrics in the file extend it. On a finished study it does
nothing.
"""
EPILOG = """\
examples:
  python -m study.run --example > search.yaml                        a study file to start from, with what it may say
  python -m study.run search.yaml                                    run it
  python -m study.run my.yaml --dry-run                              what would run, and how long it would take
  python -m study.run my.yaml --dry-run --pilot results/digits       and what its seeds could tell, from another study's noise
  python -m study.run my.yaml --set train.steps=500 --set name=quick a variant, without editing the file
  python -m study.run my.yaml --inline                               no Ray: trials one by one, for a debugger
  python -m study.run my.yaml --address 10.0.0.5:6379                on a standing Ray cluster (or set RAY_ADDRESS)
  python -m study.run my.yaml --set storage=s3://bucket/results      rows, fields and report in an object store
  python -m study.status results/my-study                            how it is going, from another terminal or machine

exit codes: 0 every row complete, 1 finished but some rows, or the report, failed, or the storage failed on the way, 2 a
mistake in the study file or the command, or another driver runs the study, 130 stopped by Ctrl-C, 143 by SIGTERM (run it again
to continue).
"""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.example:
        print(resources.files("study").joinpath("example.yaml").read_text(encoding="utf-8"), end="")
        return 0
    options.command = shlex.join(["python", "-m", "study.run", *(sys.argv[1:] if arguments is None else arguments)])
    options.address_from = "--address" if options.address else "RAY_ADDRESS"
    options.address = options.address or (None if options.inline else os.environ.get("RAY_ADDRESS", "").strip() or None)
    try:
        if options.study is None:
            raise ConfigError(f"search.yaml: name a study file; {START}")
        if options.inline and options.address:
            raise ConfigError("--inline: runs in this process, without Ray; remove --address")
        if options.pilot and not options.dry_run:
            raise ConfigError("--pilot: tells the power of a plan; add --dry-run")
        return run(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line's options and help."""
    p = argparse.ArgumentParser(
        prog="python -m study.run", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("study", type=Path, nargs="?", metavar="search.yaml", help="the study file; --example writes one")
    p.add_argument("--example", action="store_true", help="print a study file to start from, and do nothing else")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override one key")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its estimated cost; create nothing")
    p.add_argument(
        "--pilot", metavar="STUDY", help="with --dry-run: what the plan could tell, from the noise of this measured study"
    )
    p.add_argument("--no-report", action="store_true", help="measure the rows only; python -m analysis.report makes it later")
    p.add_argument(
        "--retry-failed", action="store_true", help="measure rows that failed or ran out of time again (old rows are dropped)"
    )
    p.add_argument("--inline", action="store_true", help="run the trials one after another in this process, without Ray")
    p.add_argument("--address", metavar="HOST:PORT", help="join a standing Ray cluster (auto: the one this machine is part of)")
    p.add_argument("--take-over", action="store_true", help="run although another driver holds the study; that one stops")
    return p


def run(options: argparse.Namespace) -> int:
    """Do what the command line asks for.

    Raises:
        ConfigError: the study file, or what it would change, is refused, or its storage cannot be used.
    """
    source = read_source(options.study, tuple(options.overrides))  # fail on a bad file before the slow imports
    from study.config.changes import check_against_existing
    from study.describe import describe_plan, summarise
    from study.load import load_study_config
    from study.plan.worklist import Worklist

    config = load_study_config(options.study, options.overrides)
    try:
        check_against_existing(source, config)
        work = Worklist(config)
        if options.dry_run:
            return stoppable_dry_run(config, work, options.pilot)
        if work.rows_left == 0 and not options.retry_failed and is_written(config, options.no_report):
            print(f"{describe_plan(config, work)}\nfinished, nothing to do", flush=True)
            return summarise(work)
        return hold_and_drive(source, config, options)
    except StorageError as error:
        raise source.error(("storage",), f"{error}; name a storage that you may read and write") from error


def stoppable_dry_run(config: StudyConfig, work: Worklist, pilot: str | None) -> int:
    """`dry_run`, ended by a signal with one line and nothing left behind."""
    from study.host.stop import Stop

    with Stop() as stop:
        try:
            return dry_run(config, work, pilot)
        except KeyboardInterrupt:
            print(STOPPED if stop.signal != signal.SIGTERM else "stopped by SIGTERM", file=sys.stderr)
            return stop.exit_code


def dry_run(config: StudyConfig, work: Worklist, pilot: str | None) -> int:
    """Print the plan, what it would cost on this machine, and what it could tell if there is a pilot's noise to go by."""
    from study.cluster.scheduler import slots
    from study.cluster.session import gpu_count, usable_cpus
    from study.cost.estimate import estimate_line
    from study.describe import describe_plan
    from study.measure.trial import one_line

    n_slots = slots(config, usable_cpus(), gpu_count())
    print(describe_plan(config, work), flush=True)
    try:
        print(estimate_line(config, work, n_slots), flush=True)
    except ValueError as error:  # what cannot be had here, such as weights that must be downloaded
        raise ConfigError(f"{config.name}: {one_line(error)}") from error
    if pilot is None:
        return 0
    kind = "train" if config.given is None else "sample"  # samplings are the units of a field that is given
    n_seeds = len(config.seeds.train_seeds if config.given is None else config.seeds.sample_seeds)
    if n_seeds < 2:
        print(f"  power           none: one {kind} seed has no noise to compare with; raise seeds.{kind}")
        return 0
    roles = [p.role for t in work.trials for p in t.sampler_points]
    if config.given is None:
        roles = list({t.point_id: t.role for t in work.trials}.values())
    arms = Counter(arm for role in roles for arm in role.split("+"))
    values = max((n for arm, n in arms.items() if arm.startswith("arm:")), default=1)
    told = {"seeds": n_seeds, "comparisons": values, "tolerance": config.analysis.tolerance}
    command = [sys.executable, "-m", "analysis.power", pilot, *(f"--{name}={value}" for name, value in told.items())]
    return subprocess.run(command, check=False).returncode


def is_written(config: StudyConfig, no_report: bool) -> bool:
    """Whether the stored study is this one, word by word, and its report is there: a finished one then stays untouched."""
    try:
        same = (config.folder / "study.yaml").read().decode() == config.to_yaml()
    except FileNotFoundError:
        return False
    reported = no_report or (config.folder / "report" / "report.html").is_file()
    return same and reported and (config.folder / "manifest.parquet").is_file()


def hold_and_drive(source: Source, config: StudyConfig, options: argparse.Namespace) -> int:
    """Take the study's lease and run what is missing; nothing that is finished is lost, however this ends."""
    from study.cluster.session import ClusterError
    from study.host.lease import DriverLease, StudyHeld
    from study.host.stop import Stop

    with Stop() as stop:
        try:
            with DriverLease(config.folder, options.take_over, stop.because) as lease:
                return drive(source, config, options, stop, lease)
        except (StudyHeld, ClusterError) as error:
            raise ConfigError(str(error)) from None
        except KeyboardInterrupt:
            if stop.error is not None:
                print(f"stopped: {stop.error}", file=sys.stderr)
            print(f"\n{_progress_made(config)}; the same command continues: {options.command}", flush=True)
            return stop.exit_code


def drive(source: Source, config: StudyConfig, options: argparse.Namespace, stop: Stop, lease: DriverLease) -> int:
    """Run what is missing, then the report. The lease is ours."""
    from study.config.changes import check_against_existing
    from study.describe import describe_plan, summarise
    from study.host.lease import LeaseLost
    from study.plan.worklist import Worklist

    check_against_existing(source, config)  # again: another driver may just have finished
    work = Worklist(config)
    if options.retry_failed and drop_failed(config.folder, {str(c["cell_id"]) for c in work.cells}):
        work = Worklist(config)
    print(describe_plan(config, work), flush=True)
    write_study(config, work)
    try:
        if work.rows_left == 0:
            print("finished, nothing to do")
        else:
            execute(config, work, options, stop)
        lease.check()  # what went wrong since the last renewal
        work.refresh()
        reported = options.no_report or write_report(config.folder)
        return summarise(work) or int(not reported)
    except (StorageError, LeaseLost) as error:
        stop.error = str(error)
        raise KeyboardInterrupt from error


def _progress_made(config: StudyConfig) -> str:
    from study.plan.worklist import Worklist

    try:
        work = Worklist(config)
        return f"stopped with {work.rows_planned - work.rows_left} of {work.rows_planned} rows"
    except StorageError as error:
        return f"stopped; the rows cannot be counted now ({error})"


FOLDERS = ("evals", "history", "samples", "logs")


def drop_failed(folder: Place, planned: Collection[str]) -> int:
    """Remove the files of planned rows that failed or ran out of time, so that they are measured again; how many."""
    from study.describe import RETRIED
    from study.rows.records import read_evals

    failed = [str(r["cell_id"]) for r in read_evals(folder, []) if r["status"] in RETRIED and r["cell_id"] in planned]
    for cell in failed:
        (folder / "evals" / f"{cell}.parquet").delete()
    return len(failed)


def execute(config: StudyConfig, work: Worklist, options: argparse.Namespace, stop: Stop) -> None:
    """Run what is missing, with the display."""
    from study.cluster.scheduler import run_inline, run_with_ray, slots, warn_without_gpu
    from study.cluster.session import gpu_count, ray_session, usable_cpus

    if options.inline:
        with _Display(config, work, 1) as (progress, start):
            run_inline(config, work, progress, start)
        return
    local = None if options.address else slots(config, usable_cpus(), gpu_count())
    with ray_session(config, options.address, (local or 1) * config.resources.cpus, options.address_from) as room:
        n_slots = local or slots(config, room.cpus, room.gpus)
        warn_without_gpu(config, room.gpus)
        print(f"  running         {n_slots} trials at once on {room}", flush=True)
        with _Display(config, work, n_slots) as (progress, start):
            run_with_ray(config, work, progress, start, stop, room)


class _Display:
    """The live display around a run: (progress, what to call with every trial that is handed out)."""

    def __init__(self, config: StudyConfig, work: Worklist, n_slots: int) -> None:
        from study.fields.store import FieldStore
        from study.host.progress import Progress

        self.work, self.store = work, FieldStore(config.place)
        before, steps = work.rows_planned - work.rows_left, work.steps_left(self.store)
        self.progress = Progress(config.folder, work.rows_planned, before, work.rows_left, steps, n_slots)

    def __enter__(self) -> tuple[Progress, Callable[[Trial], None]]:
        return self.progress.__enter__(), self.start

    def __exit__(self, *error: object) -> None:
        self.progress.__exit__(*error)  # type: ignore[arg-type]

    def start(self, trial: Trial) -> None:
        """Show a trial that is handed out; it has nothing to train when its field is there."""
        steps = 0 if self.work.config.given is not None or trial.train_id in self.store else trial.train.steps
        self.progress.start(trial, len(self.work.missing(trial)), steps)


def write_study(config: StudyConfig, work: Worklist) -> None:
    """study.yaml and the manifest, before anything runs; files that killed processes left half-written are removed."""
    from study.fields.given import publish_given
    from study.fields.store import FieldStore
    from study.rows.records import write_text

    for folder in (config.folder, *(config.folder / name for name in FOLDERS), config.place / "fields" / ".training"):
        clean_temporary(folder)
    write_text(config.folder / "study.yaml", config.to_yaml())
    work.write_manifest()
    if config.given is not None and work.rows_left:
        publish_given(config.given, config.info, FieldStore(config.place))


def write_report(folder: Place) -> bool:
    """Make the report in a process of its own (analysis needs neither torch nor ray); whether it was made."""
    done = subprocess.run([sys.executable, "-m", "analysis.report", folder.uri], check=False)
    if done.returncode != 0:
        print(f"the rows are safe, but the report failed; try: python -m analysis.report {folder}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
