"""A study that settles, from start to end: killed in the middle, under Ray and without, it measures the same rows."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers.folder import Folder, same_rows

from analysis import load_study, tolerance_edges, tolerance_interval, validate
from analysis.robustness.ratios import level_ratios
from analysis.rows.question import ask
from study.load import load_study_config
from study.plan.designs.settle import SettleProposals, rated_column
from study.rows.settle.judge import Judged, judge

SETTLE: dict[str, Any] = {
    "search": {
        "train": {"sigma": {"log_uniform": [0.05, 0.4], "levels": 2}},
        "sampler": {"T_ratio": {"log_uniform": [0.3, 3.0], "levels": 2}, "solver": {"choice": ["heun2", "euler"]}},
    },
    "design": {"name": "settle", "budget": {"fields": 10}},
    "seeds": {"train": 2},
    "resources": {"concurrent": 2},
}


def verdicts(folder: Folder) -> dict[str, Judged]:
    """What the driver makes of the rows that a folder has, by parameter."""
    config, rows = load_study_config(folder.file), folder.rows()
    proposals = SettleProposals(config)
    while trials := proposals.next(rows):
        proposals.add(trials)
    table = proposals.bench.table(rows, rated_column(config))
    return {axis.key: judge(axis.rule, table, proposals.limit) for axis in proposals.axes}


@pytest.mark.slow
def test_killed_and_continued_under_ray_it_is_what_it_would_be_inline(make_folder: Callable[[str], Folder]) -> None:
    """A kill -9 after round 0 and then two trials at once, against one by one in this process; then a larger budget goes on."""
    alone, killed = make_folder("alone"), make_folder("killed")
    for folder in (alone, killed):
        folder.write(**SETTLE)
    out, _ = alone.run("--inline")
    rows = alone.rows()
    n_fields = len({row["train_id"] for row in rows.values()})
    assert n_fields == 10 and f"rounds and {n_fields} fields" in out
    n_first = 6 * 4
    process = killed.start("--inline")
    try:
        while len(list((killed.path / "results/tiny/evals").glob("*.parquet"))) <= n_first:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert n_first < len(killed.rows()) < len(rows)
    killed.run()
    same_rows(killed.rows(), rows)
    assert "finished, nothing to do" in killed.run("--inline")[0]

    alone.run("--inline", "--set", "design.budget.fields=14")
    more = alone.rows()
    assert rows.keys() < more.keys() and len({row["train_id"] for row in more.values()}) > n_fields

    assert validate(killed.path / "results/tiny").empty, "further seeds belong to the plan"
    frame = load_study(killed.path / "results/tiny")
    for parameter, judged in verdicts(killed).items():
        own = level_ratios(ask(frame, parameter)).set_index("level")
        for level in judged.levels:
            told = own.loc[level.value if isinstance(level.value, str) else own.index[abs(own.index - level.value).argmin()]]
            bounds = [(level.low, level.high), (told["low"], told["high"])]
            assert bounds[0] == pytest.approx(bounds[1], abs=1e-9), f"driver and report differ at {parameter} {level.value}"
    assert f"solver {tolerance_interval(frame, 'solver').rating}" in out
    upper = tolerance_edges(frame, "T").lower
    assert upper is not None and upper.outside is not None and upper.inside is not None
    assert upper.inside / upper.outside <= 1.5 * (1 + 1e-3) and "T_ratio sensitive" in out

    next_study = ("--set", "name=next", "--set", "design.budget.fields=40", "--set", "resources.concurrent=1")
    out, _ = alone.run("--dry-run", "--pilot", "results/tiny", *next_study)
    assert "trials so far; a round follows where a verdict is open (seeds: 2 train at first, 1 sample)" in out
    assert "for this round alone" in out and "Settled by at most 40 fields, in made-up studies with this noise" in out
