"""Which fields are handed out together: of one kind, not yet trained, as many as keep every worker busy."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from helpers.folder import Folder

from pfgm.flow.trained import Field
from pfgm.training.trainer import Trainer
from study.fields.store import FieldStore
from study.measure.job import data_of
from study.plan.bundles import bundles_line, size_of_next
from study.plan.make import make_plan
from study.plan.trial import Trial
from study.plan.worklist import Worklist

KINDS = {"train": {"process": {"choice": ["pfgm", "ve"]}, "steps": {"choice": [10, 20, 30]}}}
"""Six fields of a grid, three of each process."""


@pytest.mark.parametrize(
    ("waiting", "most", "free", "expected"),
    [(16, 4, 2, 4), (16, 4, 1, 4), (6, 4, 2, 3), (3, 4, 2, 2), (1, 4, 2, 1), (100, 1, 1, 1), (7, 16, 3, 3), (5, 16, 8, 1)],
)
def test_a_bundle_leaves_its_share_to_every_free_worker(waiting: int, most: int, free: int, expected: int) -> None:
    assert size_of_next(waiting, most, free) == expected


def handed_out(work: Worklist, slots: int = 1) -> list[list[Trial]]:
    """What is handed out where all trials take the same time."""
    found: list[list[Trial]] = []
    while trials := work.take_together(max(slots - len(found), 1)):
        found.append(trials)
    return found


def worklist(folder: Folder, most: int, **sections: Any) -> Worklist:
    config = folder.load(**sections)
    work = Worklist(config, make_plan(config))
    work.most = most
    return work


def test_fields_of_a_bundle_are_of_one_kind(folder: Folder) -> None:
    work = worklist(folder, 4, search=KINDS, design={"name": "grid"})
    bundles = handed_out(work)
    assert [[t.train.process for t in trials] for trials in bundles] == [["pfgm"] * 3, ["ve"] * 3]
    assert set(work.busy) == {t.trial_id for trials in bundles for t in trials} and not work.waiting
    line = bundles_line(work.planned, (), 4, 1)
    assert line == "  bundles         2 trials of 3 fields"


def test_the_plan_says_what_is_handed_out(folder: Folder) -> None:
    """For several sizes and numbers of workers."""
    six = {"train": {"sigma": {"choice": [0.1, 0.12, 0.14, 0.16, 0.18, 0.2]}}}
    for most, slots in ((1, 1), (4, 1), (4, 2), (16, 1), (16, 2), (2, 8)):
        work = worklist(folder, most, search=six)
        line = bundles_line(work.waiting, (), most, slots)
        for size, n in Counter(map(len, handed_out(work, slots))).items():
            assert f"{n} trial{'s' if n > 1 else ''} of {size} field{'s' if size > 1 else ''}" in line


def test_what_cannot_be_bundled_goes_alone_and_the_plan_says_why(folder: Folder) -> None:
    search = {"train": {"bf16": {"choice": [False, True]}, "sigma": {"choice": [0.1, 0.15]}}}
    work = worklist(folder, 4, search=search, design={"name": "grid"})
    line = bundles_line(work.waiting, (), 4, 1)
    assert "1 trial of 2 fields, 2 trials of 1 field; 2 fields alone, bf16: is not for bundles of fields" in line
    assert sorted(tuple(t.train.bf16 for t in trials) for trials in handed_out(work)) == [(False, False), (True,), (True,)]


def test_trained_fields_and_those_of_their_last_try_go_alone(folder: Folder) -> None:
    work = worklist(folder, 4, search={"train": {"sigma": {"choice": [0.1, 0.12, 0.14, 0.16]}}})
    trials, config = work.planned, work.config
    assert trials[1].network is not None
    trainer = Trainer(data_of(config.data, config.info.hash), trials[1].network, trials[1].train, trials[1].seed)
    list(trainer.run())
    FieldStore(config.place).publish(trials[1].train_id, Field.from_trainer(trainer))
    assert work.published() == {trials[1].train_id}
    (first,) = work.take_together(4)
    assert first is trials[0], "four free workers share the four fields"
    work.postpone(work.give_back(first.trial_id), alone=True)
    work.not_before.clear()
    assert handed_out(work) == [[trials[1]], [trials[2], trials[3]], [trials[0]]]


def test_a_given_field_is_no_bundles(folder: Folder) -> None:
    work = worklist(folder, 4, field={"exact": "empirical"}, network=None, train=None, search=None)
    assert [len(trials) for trials in handed_out(work)] == [1]
    assert bundles_line(work.planned, (), 4, 1) == "  bundles         no field is to be trained"
