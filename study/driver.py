"""One run of a study from start to end: hold the lease, run what is missing, report.

Whatever ends it, a signal, a lost lease or a storage that cannot be written, what is finished stays, and the same command
continues.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from pfgm.terminal import STOPPED
from study.cluster.environment import ClusterError, prepare
from study.config.options import Options
from study.config.study import StudyConfig
from study.config.yaml_source import ConfigError, Source
from study.cost.bundles import Capacity, choose
from study.cost.estimate import estimate, estimate_line
from study.describe import RETRIED, describe_plan, summarise
from study.existing import check_against_existing, write_origins
from study.fields.given import publish_given
from study.fields.store import FieldStore
from study.host.gathering import gathering
from study.host.lease import DriverLease, LeaseLost, StudyHeld
from study.host.machine import gpu_count, usable_cpus
from study.host.progress import Progress
from study.host.slots import only_on_gpus, slots, warn_without_gpu
from study.host.stop import Stop
from study.inline import run_inline
from study.load import load_source
from study.measure.outcomes import one_line
from study.measure.trackers.names import trackers_of
from study.measure.trackers.tracker import never_failing
from study.plan.axes import searched_axes
from study.plan.bundles import bundles_line
from study.plan.designs.settle import HOUR_S, first_seeds
from study.plan.trial import Trial
from study.plan.worklist import Worklist
from study.rows.records import write_text
from study.rows.storage import Place, StorageError, clean_temporary

NO_BOUND = 2000
"""Fields that a forecast goes up to where a study has no budget."""


def start(source: Source, options: Options) -> int:
    """Do what the command line asks for; returns the exit code.

    Raises:
        ConfigError: the study file, or what it would change, is refused, or its storage cannot be used.
    """
    config, trials = load_source(source)
    try:
        check_against_existing(source, config)
        work = Worklist(config, trials)
        if work.rows_left and options.address is None and (key := only_on_gpus(config, gpu_count())):
            raise source.error(key, "tf32 is arithmetic of NVIDIA's GPUs, and no trial gets one here; use bf16, or remove it")
        if options.dry_run:
            return stoppable_dry_run(config, work, options.pilot)
        if work.rows_left == 0 and not options.retry_failed and is_written(work, options.no_report):
            print(f"{describe_plan(config, work)}\nfinished, nothing to do", flush=True)
            return summarise(work)
        return hold_and_drive(source, work, options)
    except StorageError as error:
        raise source.error(("storage",), f"{error}; name a storage that you may read and write") from error


def stoppable_dry_run(config: StudyConfig, work: Worklist, pilot: str | None) -> int:
    """`dry_run`, ended by a signal with one line and nothing left behind."""
    with Stop() as stop:
        try:
            return dry_run(config, work, pilot)
        except KeyboardInterrupt:
            print(STOPPED if stop.signal != signal.SIGTERM else "stopped by SIGTERM", file=sys.stderr)
            return stop.exit_code


def dry_run(config: StudyConfig, work: Worklist, pilot: str | None) -> int:
    """Print the plan, what it would cost on this machine, and what it could tell if there is a pilot's noise to go by."""
    here = Capacity(usable_cpus(), gpu_count())
    try:
        together = choose(config, work, here, tell=True)
        n_slots = here.at_once(config, together.fields)
        print(describe_plan(config, work, together.fields), flush=True)
        if config.resources.bundle == 1:
            print(estimate_line(config, work, n_slots), flush=True)
        else:
            print(bundles_line(work.waiting, work.there, together.fields, n_slots), f"  together        {together}", sep="\n")
            print(estimate_line(config, work, n_slots, together.gain), flush=True)
    except ValueError as error:  # what cannot be had here, such as weights that must be downloaded
        raise ConfigError(f"{config.name}: {one_line(error)}") from error
    if pilot is None:
        return 0
    kind, n_seeds = config.field_source.unit, len(config.field_source.seeds(config.seeds))
    if work.in_rounds:
        n_seeds = first_seeds(config)
    if n_seeds < 2:
        print(f"  power           none: one {kind} seed has no noise to compare with; raise seeds.{kind}")
        return 0
    roles = [p.role for t in work.trials for p in t.sampler_points]
    if kind == "train":
        roles = list({t.point_id: t.role for t in work.trials}.values())
    arms = Counter(arm for role in roles for arm in role.arms)
    values = max(arms.values(), default=1)
    told = {"seeds": n_seeds, "comparisons": values, "tolerance": config.analysis.tolerance}
    command = [sys.executable, "-m", "analysis.power", pilot, *(f"--{name}={value}" for name, value in told.items())]
    if work.in_rounds:
        axes = [dataclasses.asdict(axis.rule) for axis in searched_axes(config)]
        command += [f"--axes={json.dumps(axes)}", f"--budget={budget_in_fields(config, work, n_slots)}"]
    return subprocess.run(command, check=False).returncode


def budget_in_fields(config: StudyConfig, work: Worklist, n_slots: int) -> int:
    """Return the fields that the budget of a study of rounds is enough for; hours by what those of the next round take."""
    budget = config.design.budget
    if budget is None:
        return NO_BOUND
    if budget.hours is None:
        return budget.fields or NO_BOUND
    seconds = estimate(config, work, n_slots)[1] / max(len({trial.train_id for trial in work.waiting}), 1)
    return max(int(budget.hours * HOUR_S / max(seconds, 1e-9)), 1)


def is_written(work: Worklist, no_report: bool) -> bool:
    """Return whether the stored study is this one, word by word, with its report. A finished one then stays untouched."""
    folder = work.config.folder
    try:
        same = (folder / "study.yaml").read().decode() == work.config.to_yaml()
    except FileNotFoundError:
        return False
    reported = no_report or (folder / "report" / "report.html").is_file()
    return same and reported and (folder / "manifest.parquet").is_file() and not work.measured.untidy


def hold_and_drive(source: Source, work: Worklist, options: Options) -> int:
    """Take the study's lease and run what is missing; nothing that is finished is lost, however this ends."""
    config = work.config
    with Stop() as stop:
        try:
            with DriverLease(config.folder, options.take_over, stop.because) as lease:
                return drive(source, work, options, stop, lease)
        except (StudyHeld, ClusterError) as error:
            raise ConfigError(str(error)) from None
        except KeyboardInterrupt:
            if stop.error is not None:
                print(f"stopped: {stop.error}", file=sys.stderr)
            print(f"\n{_progress_made(work)}; the same command continues: {options.command}", flush=True)
            return stop.exit_code


def drive(source: Source, work: Worklist, options: Options, stop: Stop, lease: DriverLease) -> int:
    """Run what is missing, then the report. The lease is ours."""
    config = work.config
    check_against_existing(source, config)  # again: another driver may just have finished
    work.restart()
    if options.retry_failed:
        drop_failed(work)
    print(describe_plan(config, work), flush=True)
    write_study(config, work)
    try:
        work.measured.tidy()
        if work.rows_left == 0:
            print("finished, nothing to do")
        else:
            execute(config, work, options, stop)
        lease.check()  # what went wrong since the last renewal
        work.measured.tidy()
        work.fold()
        reported = options.no_report or write_report(config.folder)
        return summarise(work) or int(not reported)
    except (StorageError, LeaseLost) as error:
        stop.error = str(error)
        raise KeyboardInterrupt from error
    except OSError:  # of whatever writes into the folder, such as TensorBoard's log: the folder may be gone
        try:
            lease.check()
        except (StorageError, LeaseLost) as error:
            stop.error = str(error)
            raise KeyboardInterrupt from error
        raise


def _progress_made(work: Worklist) -> str:
    try:
        work.restart()
        return f"stopped with {work.rows_planned - work.rows_left} of {work.rows_planned} rows"
    except StorageError as error:
        return f"stopped; the rows cannot be counted now ({error})"


FOLDERS = ("evals", "history", "samples", "logs")


def drop_failed(work: Worklist) -> None:
    """Remove the planned rows that failed or ran out of time, so that they are measured again."""
    failed = {c.cell_id for c in work.cells if c.cell_id in work.rows and work.rows[c.cell_id]["status"] in RETRIED}
    if failed:
        work.measured.drop(failed)
        work.restart()


def execute(config: StudyConfig, work: Worklist, options: Options, stop: Stop) -> None:
    """Run what is missing, with the display."""
    with gathering(partial(work.measured.gather, work.in_use), config.folder.remote):
        if options.inline:
            set_fields_together(config, work, Capacity(usable_cpus(), gpu_count(), 1))
            with display(config, work, 1) as (progress, start):
                run_inline(config, work, progress, start)
        else:
            execute_with_ray(config, work, options, stop)


def execute_with_ray(config: StudyConfig, work: Worklist, options: Options, stop: Stop) -> None:
    """Run what is missing on a private Ray, or on a standing cluster, with the display."""
    prepare(options.address)
    # ray reads its settings when it is imported, and a run without it must not load it
    from study.cluster.scheduler import run_with_ray  # loads ray
    from study.cluster.session import ray_session  # loads ray

    local = None
    if not options.address:
        here = Capacity(usable_cpus(), gpu_count())
        set_fields_together(config, work, here)
        local = here.at_once(config, work.most)
    with ray_session(config, options.address, (local or 1) * config.resources.cpus, options.address_from) as room:
        if local is None:
            set_fields_together(config, work, Capacity(room.cpus, room.gpus))
        n_slots = local or slots(config, room.cpus, room.gpus, work.most)
        warn_without_gpu(config, room.gpus)
        print(f"  running         {n_slots} trials at once on {room}", flush=True)
        with display(config, work, n_slots) as (progress, start):
            run_with_ray(config, work, progress, start, stop, room)


def set_fields_together(config: StudyConfig, work: Worklist, capacity: Capacity) -> None:
    """Decide how many fields a trial trains, and say so where it is not one as ever."""
    if config.resources.bundle != 1:
        together = choose(config, work, capacity)
        work.most = together.fields
        print(f"  together        {together}", flush=True)


@contextmanager
def display(config: StudyConfig, work: Worklist, n_slots: int) -> Iterator[tuple[Progress, Callable[[Trial], None]]]:
    """Show a run while the block lasts; yields the display, and what to call with every trial that is handed out."""
    before, there = work.rows_planned - work.rows_left, work.published()
    first: dict[str, str] = {}
    with Progress(config.folder, work.rows_planned, before, work.rows_left, work.steps_left(there), n_slots) as progress:

        def start(trial: Trial) -> None:
            if work.rows_planned > progress.rows_total:
                progress.grow(work.rows_planned, work.steps_of([trial, *work.waiting], there))
            to_train = config.field_source.trains and trial.train_id not in there
            to_train &= first.setdefault(trial.train_id, trial.trial_id) == trial.trial_id  # no look into the storage
            progress.start(trial, len(work.missing(trial)), trial.train.steps if to_train else 0)

        yield progress, start


def write_study(config: StudyConfig, work: Worklist) -> None:
    """study.yaml and the manifest, before anything runs; files that killed processes left half-written are removed."""
    for folder in (config.folder, *(config.folder / name for name in FOLDERS), config.place / "fields" / ".training"):
        clean_temporary(folder)
    write_text(config.folder / "study.yaml", config.to_yaml())
    write_origins(config)
    work.write_manifest()
    for name, kind in trackers_of(config.trackers, config.folder.remote).items():
        with never_failing(name):
            kind.prepare(config.name, config.folder)
    if work.rows_left:
        publish_given(config.field_source, config.info, FieldStore(config.place))


def write_report(folder: Place) -> bool:
    """Make the report in a process of its own (analysis needs neither torch nor ray); whether it was made."""
    done = subprocess.run([sys.executable, "-m", "analysis.report", folder.uri], check=False)
    if done.returncode != 0:
        print(f"the rows are safe, but the report failed; try: python -m analysis.report {folder}", file=sys.stderr)
    return done.returncode == 0
