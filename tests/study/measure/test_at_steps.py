"""Rows on the way (``evaluate.at_steps``): one training, the same final rows, and no row lost, doubled or silently left out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.folder import Folder, near_rows, same_rows

from analysis import load_study, summarize, to_csv, to_optuna, validate
from pfgm.training.history import Progress, TrainingDiverged
from pfgm.training.trainer import Trainer
from study.cost import estimate as estimates
from study.fields.store import FieldStore, on_the_way
from study.measure.job import Job, data_of
from study.plan.make import make_plan
from study.plan.trial import Trial, rebuilt
from study.plan.worklist import Worklist
from study.rows.on_the_way import step_at, steps_on_the_way
from study.rows.storage import Place
from study.status import status

TRAIN: dict[str, Any] = {"steps": 120, "batch_size": 32}
MEASURED: dict[str, Any] = {"samples": 60, "metrics": ["fid", "sliced_wasserstein"]}
SHARES = [0.3, 0.75]
"""Steps 36 and 90, between the reports of a training, which come after 50, 100 and 120."""
ON_THE_WAY: dict[str, Any] = {"train": TRAIN, "evaluate": {**MEASURED, "at_steps": SHARES}}
ALONE: dict[str, Any] = {"train": TRAIN, "evaluate": MEASURED}
ONE: dict[str, Any] = {"train": {"sigma": {"choice": [0.1]}}}
Rows = dict[str, dict[str, Any]]

pytestmark = pytest.mark.usefixtures("one_thread")


def final(rows: Rows) -> Rows:
    return {cell: row for cell, row in rows.items() if row["is_final"]}


def on_way(rows: Rows) -> Rows:
    return {cell: row for cell, row in rows.items() if not row["is_final"]}


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the training steps that are taken while the block runs."""
    steps, whole = [0], Trainer.count_step

    def count(trainer: Trainer) -> None:
        steps[0] += 1
        whole(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "count_step", count)
        yield steps


class Killed(BaseException):
    """The process dies."""


def kill_at(step: int, folder: Folder) -> None:
    """Run a study in a process that dies when a training says that it is at a step, before its state is saved."""

    def tell(job: Job, progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "tell", tell)
        with pytest.raises(Killed):
            folder.run("--inline")


@pytest.fixture(scope="module")
def with_and_without(make_folder: Callable[[str], Folder]) -> tuple[Rows, Rows, Folder]:
    """Rows of two fields measured on the way, rows of the same without, and the folder of the first."""
    folder, other = make_folder("at-steps"), make_folder("at-the-end")
    other.write(**ALONE)
    other.run("--inline")
    folder.write(**ON_THE_WAY)
    with counted() as steps:
        said, _ = folder.run("--inline")
    assert steps == [2 * 120], "each field is trained once"
    assert "8 planned" in said and "on the way      4 of the rows, at 0.3, 0.75 of the steps" in said
    return folder.rows(), other.rows(), folder


def test_final_rows_are_those_of_a_study_without(with_and_without: tuple[Rows, Rows, Folder]) -> None:
    rows, without, _ = with_and_without
    same_rows(final(rows), without)
    assert all(row["is_final"] and row["step"] == 120 for row in without.values())


def test_statistics_see_the_end_alone(with_and_without: tuple[Rows, Rows, Folder]) -> None:
    """Rows on the way are loaded where they are asked for, and are a fault of no study."""
    rows, without, folder = with_and_without
    study = folder.path / "results/tiny"
    frame = load_study(study)
    assert set(frame["cell_id"]) == set(without) and frame.attrs["skipped"] == {"intermediate step (is_final false)": 4}
    every = load_study(study, on_the_way=True)
    assert set(every["cell_id"]) == set(rows) and every.attrs["skipped"] == {} and validate(study).empty
    table, same = summarize(every), summarize(frame)
    assert table.equals(same) and table.attrs["skipped"] == {"row of a field on the way": 4}
    assert "8 of 8 rows, 8 complete" in status(Place.of(study))[0]


def test_other_programs_get_the_columns_of_a_step_and_optuna_the_end_alone(
    with_and_without: tuple[Rows, Rows, Folder], tmp_path: Path
) -> None:
    rows, without, folder = with_and_without
    every = load_study(folder.path / "results/tiny", on_the_way=True)
    back = pd.read_csv(to_csv(every, tmp_path / "rows.csv")).set_index("cell_id")
    assert set(back.index) == set(rows)
    for cell, row in rows.items():
        for column in ("step", "is_final", *(name for name in row if name.startswith("metric_"))):
            got, wanted = back.loc[cell, column], row[column]
            assert (wanted is None and pd.isna(got)) or got == wanted, column
    for unit in ("configuration", "row"):
        trials = to_optuna(every, unit=unit).trials
        assert {cell for trial in trials for cell in trial.user_attrs["cell_ids"]} == set(without)
        assert sorted(trial.value for trial in trials) == pytest.approx(sorted(r["metric_fid"] for r in without.values()))
    shape = to_optuna(every, "sliced_wasserstein", unit="row").trials
    values = {trial.user_attrs["cell_ids"][0]: trial.value for trial in shape}
    assert values == pytest.approx({cell: row["metric_sliced_wasserstein"] for cell, row in without.items()}, rel=1e-12)


def test_rows_on_the_way_are_of_the_averaged_network_of_their_step(with_and_without: tuple[Rows, Rows, Folder]) -> None:
    """The network in the store is, bit for bit, the average that a training by itself has after that step."""
    rows, _, folder = with_and_without
    way = sorted(on_way(rows).values(), key=lambda row: (row["train_id"], row["step"]))
    assert [row["step"] for row in way] == [36, 90, 36, 90] and {row["status"] for row in way} == {"complete"}
    assert {row["sampler_steps"] for row in way} == {4} and len({row["metric_fid"] for row in rows.values()}) == 8
    spent = {row["train_id"]: row["cost_train_s"] for row in final(rows).values()}
    assert all(0 < row["cost_train_s"] < spent[row["train_id"]] for row in way)
    config = folder.load(**ON_THE_WAY, storage=str(folder.path / "results"))
    trial = make_plan(config)[0]
    assert trial.network is not None
    trainer = Trainer(data_of(config.data, config.info.hash), trial.network, trial.train, trial.seed)
    stored = FieldStore(config.place)
    for progress in trainer.run(report_every=1):
        kept = stored.load(on_the_way(trial.train_id, progress.step), "cpu")
        if progress.step in (36, 90):
            assert kept is not None
            assert all(torch.equal(a, p) for a, p in zip(trainer.average, kept.network.parameters(), strict=True))
        else:
            assert kept is None


def test_cells_on_the_way_are_named_by_their_step_alone(folder: Folder) -> None:
    """Neither other shares nor the share itself, which may round to the same step, move a cell."""
    names = {}
    for shares in ([0.3], [0.1, 0.3004, 0.9], [1.0]):
        config = folder.load(train=TRAIN, evaluate={**MEASURED, "at_steps": shares})
        trials = make_plan(config)
        assert [rebuilt(config, t.handout()).cells for t in trials] == [t.cells for t in trials], "as a Ray worker makes them"
        names[len(shares), shares[0]] = {(c.trial.train_id, c.step, c.sampler_id): c.cell_id for t in trials for c in t.cells}
    few, many, none = names.values()
    assert few.items() <= many.items() and none.items() <= few.items()
    assert len(few) == 4 + 2 and len(many) == 4 + 6 and len(none) == 4


def test_shares_become_whole_steps() -> None:
    assert [step_at(share, 1300) for share in (0.25, 0.5, 1.0)] == [325, 650, 1300]
    assert steps_on_the_way([0.01, 0.02, 0.5, 1.0], 3) == (1, 2), "a step is measured once, and the end is the end"


@pytest.mark.parametrize("constant", [True, False])
def test_at_a_constant_rate_the_way_is_a_shorter_training(constant: bool, folder: Folder) -> None:
    """Bit for bit, once the warm-up is over; where the rate falls it is not."""
    config = folder.load(train={**TRAIN, "warmup_steps": 10, "constant_rate": constant}, evaluate=MEASURED)
    data, trial = data_of(config.data, config.info.hash), make_plan(config)[0]
    assert trial.network is not None
    shorter = trial.train.model_copy(update={"steps": 60})
    long, short = (Trainer(data, trial.network, train, trial.seed) for train in (trial.train, shorter))
    long.keep_at = [60]
    for trainer in (long, short):
        list(trainer.run())
    assert all(torch.equal(a, b) for a, b in zip(long.kept[60], short.average, strict=True)) is constant


@pytest.mark.parametrize("step", [50, 100])
def test_a_killed_training_that_goes_on_gives_every_row_once(
    step: int, folder: Folder, with_and_without: tuple[Rows, Rows, Folder]
) -> None:
    folder.write(**ON_THE_WAY, limits={"checkpoint_seconds": 1e-9})
    kill_at(step, folder)
    assert not folder.rows()
    folder.run("--inline", "--take-over")
    same_rows(folder.rows(), with_and_without[0])
    assert len(list((folder.path / "results/tiny/evals").iterdir())) == 8


def test_rows_that_are_there_are_not_measured_again(folder: Folder, with_and_without: tuple[Rows, Rows, Folder]) -> None:
    """A larger study on the same storage measures its own rows alone, from the networks that are there."""
    folder.write(**ON_THE_WAY)
    folder.run("--inline")
    before = folder.rows()
    (folder.path / f"results/tiny/evals/{next(iter(on_way(before)))}.parquet").unlink()
    folder.write(**ON_THE_WAY, seeds={"train": 1, "sample": 2})
    with counted() as steps:
        folder.run("--inline")
    rows = folder.rows()
    assert steps == [0] and len(rows) == 16 and len(on_way(rows)) == 8
    assert {row["status"] for row in rows.values()} == {"complete"}
    same_rows({cell: rows[cell] for cell in before}, with_and_without[0])


def cost_of(trial: Trial) -> estimates.Cost:
    """Half a second a step, two a row, ten an exact solution."""
    samplers = [point.sampler_id for point in trial.sampler_points]
    steps = {estimates.kind_of_step(trial): 0.5}
    return estimates.Cost(steps, dict.fromkeys(samplers, 2.0), dict.fromkeys(samplers, 10.0), 0.0)


def test_a_step_that_is_past_is_a_row_that_says_so(
    folder: Folder, with_and_without: tuple[Rows, Rows, Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is added to a finished study: its fields are not trained again, unless someone removes them."""
    folder.write(**ALONE)
    folder.run("--inline")
    folder.write(**ON_THE_WAY)
    config = folder.load(**ON_THE_WAY)
    monkeypatch.setattr(estimates, "calibrate", lambda *_: cost_of(make_plan(config)[0]))
    wall, core = estimates.estimate(config, Worklist(config, make_plan(config)), 1)
    assert (wall, core) == (estimates.START_S + estimates.REPORT_S, 0.0), "there is nothing that can be measured"
    with counted() as steps:
        said, told = folder.run("--inline", expect=1)
    assert "4 of the rows, at 0.3, 0.75 of the steps; 4 of them cannot be measured, their fields are trained already" in said
    assert "4 rows on the way are missed: the field was trained past this step" in told and steps == [0]
    rows = folder.rows()
    assert {row["status"] for row in on_way(rows).values()} == {"missed"} and len(rows) == 8
    assert all(str(row["error"]).startswith("the field was trained past this step") for row in on_way(rows).values())
    said, _ = folder.run("--inline", expect=1)
    assert "finished, nothing to do" in said, "it is not tried at every start"
    shutil.rmtree(folder.path / "results/fields")
    folder.run("--inline", "--retry-failed")
    same_rows(folder.rows(), with_and_without[0])


def test_a_training_on_its_way_gives_the_steps_that_are_left(folder: Folder) -> None:
    folder.write(**ALONE, search=ONE, limits={"checkpoint_seconds": 1e-9})
    kill_at(100, folder)  # its state is that of step 50
    folder.write(**ON_THE_WAY, search=ONE)
    folder.run("--inline", "--take-over", expect=1)
    assert {row["step"]: row["status"] for row in folder.rows().values()} == {36: "missed", 90: "complete", 120: "complete"}


def test_what_a_diverging_training_reached_is_measured(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Trainer.report

    def report(trainer: Trainer, meter: Any) -> Progress:
        if trainer.step == 100:
            raise TrainingDiverged("the loss is not finite")
        return whole(trainer, meter)

    monkeypatch.setattr(Trainer, "report", report)
    folder.write(**ON_THE_WAY, search=ONE)
    folder.run("--inline", expect=1)
    assert {row["step"]: row["status"] for row in folder.rows().values()} == {36: "complete", 90: "diverged", 120: "diverged"}


def test_fields_of_a_bundle_are_measured_on_the_way(folder: Folder, with_and_without: tuple[Rows, Rows, Folder]) -> None:
    together = ("--inline", "--set", "resources.bundle=2")
    folder.write(**ALONE)
    folder.run(*together, "--set", "storage=other")
    folder.write(**ON_THE_WAY)
    with counted() as steps:
        folder.run(*together)
    rows = folder.rows()
    assert steps == [2 * 120] and {row["prov_bundle"] for row in rows.values()} == {2}
    same_rows(final(rows), folder.rows(storage="other"))
    near_rows(rows, with_and_without[0])


def test_what_rows_on_the_way_cost_is_in_the_estimate(folder: Folder) -> None:
    """Each is a row more, and each step needs exact solutions of its own."""
    seconds = {}
    for sections in (ALONE, ON_THE_WAY):
        work = Worklist(folder.load(**sections), make_plan(folder.load(**sections)))
        first = work.trials[0]
        seconds[work.rows_planned] = cost_of(first).trial_s(first, first.cells, trained=False)
    assert seconds == {4: 60.0 + 2 * 2.0 + 10.0, 8: 60.0 + 4 * 2.0 + 3 * 10.0}


def test_the_written_study_names_the_shares_where_there_are_some(folder: Folder) -> None:
    assert "at_steps" not in folder.load(**ALONE).to_yaml()
    config = folder.load(**ON_THE_WAY)
    assert config.dump()["evaluate"]["at_steps"] == [0.3, 0.75, 1.0], "the end is measured in any case"


def constant(steps: int, **keys: Any) -> dict[str, Any]:
    """Sections of a study of two fields at a constant rate."""
    return {"train": {**TRAIN, "steps": steps, "constant_rate": True, "warmup_steps": 10, **keys}, "evaluate": MEASURED}


@pytest.mark.parametrize("bundle", [1, 2])
def test_more_steps_go_on_from_a_shorter_training(make_folder: Callable[[str], Folder], bundle: int) -> None:
    """At a constant rate 120 steps after 60 are 60 more, and the rows of 120 in one go; not where the warm-up is longer."""
    folder, other = make_folder(f"longer-{bundle}"), make_folder(f"at-once-{bundle}")
    together = {"resources": {"bundle": bundle}}
    folder.write(**constant(60), **together)
    folder.run("--inline")
    folder.write(**constant(120), **together, name="longer")
    other.write(**constant(120), **together, name="longer")
    for where, taken in ((folder, 60), (other, 120)):
        with counted() as steps:
            where.run("--inline")
        assert steps == [2 * taken]
    same_rows(folder.rows("longer"), other.rows("longer"))
    for name, sections in {
        "shorter": constant(30), "warm": constant(60, warmup_steps=80), "warmer": constant(90, warmup_steps=80),
        "falling": constant(150, constant_rate=False),
        "on_the_way": {**constant(150), "evaluate": {**MEASURED, "at_steps": [0.5]}},
    }.items():  # fmt: skip
        folder.write(**sections, **together, name=name)
        with counted() as steps:
            folder.run("--inline")
        assert steps == [2 * sections["train"]["steps"]], name
    folder.write(**constant(130), **together, name="again")
    with counted() as steps:
        folder.run("--inline")
    assert steps == [2 * 130], "the longest state is one of 150 steps"
