"""load_study is manifest ⟕ evals: every planned cell once, nothing dropped without a count."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from analysis import AnalysisError, load_history, load_study, searched_axes
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from study.rows.records import EVALS, MANIFEST, read_table, write_table

SMALL = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), train_seeds=2, samples=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pending = SMALL.changed(status=lambda row: "pending" if row["sampler_T_ratio"] == 5.0 else "complete")
    return write_study(tmp_path / "small", pending)


def test_every_planned_cell_is_one_row_and_unmeasured_ones_are_pending(folder: Path) -> None:
    frame = load_study(folder)
    planned = [row["cell_id"] for row in read_table(folder / "manifest.parquet")]
    assert frame["cell_id"].tolist() == planned
    assert frame["status"].value_counts().to_dict() == {"complete": 24, "pending": 6}
    assert frame.loc[frame["status"].eq("pending"), "sampler_T_ratio"].eq(5.0).all()
    assert frame.attrs["skipped"] == {}


def test_duplicates_and_unplanned_rows_are_counted(folder: Path) -> None:
    rows = read_table(folder / "evals" / "f000s0.parquet")
    write_table(folder / "evals" / "again.parquet", [rows[0], {**rows[1], "cell_id": "other"}], EVALS)
    frame = load_study(folder)
    assert len(frame) == 31
    assert frame["cell_id"].is_unique
    assert frame.attrs["skipped"] == {"duplicate row": 1, "row not in the plan (kept)": 1}


def test_perturbed_rows_enter_only_when_asked(folder: Path) -> None:
    rows = read_table(folder / "evals" / "f000s0.parquet")
    noisy = [{**row, "cell_id": f"n{i}", "perturb_kind": "noise", "perturb_level": 0.1} for i, row in enumerate(rows)]
    write_table(folder / "evals" / "noisy.parquet", noisy, EVALS)
    frame = load_study(folder)
    assert len(frame) == 30 and frame["perturb_kind"].isna().all()
    assert frame.attrs["skipped"]["perturbed field (load_study(…, perturbed=True) keeps it)"] == len(noisy)
    assert load_study(folder, perturbed=True)["perturb_level"].notna().sum() == len(noisy)


def test_intermediate_steps_are_counted(folder: Path) -> None:
    row = read_table(folder / "evals" / "f000s0.parquet")[0]
    write_table(folder / "evals" / "step.parquet", [{**row, "step": 100, "is_final": False}], EVALS)
    assert load_study(folder).attrs["skipped"] == {"intermediate step (is_final false)": 1}


def test_a_truncated_file_is_one_line_that_names_it(folder: Path) -> None:
    path = folder / "evals" / "f000s1.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AnalysisError, match=r"f000s1\.parquet: not a readable Parquet file") as caught:
        load_study(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_study_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"no study at .*nowhere: run python -m study\.run search\.yaml"):
        load_study(tmp_path / "nowhere")
    with pytest.raises(AnalysisError, match="no study at"):
        load_history(tmp_path / "nowhere")


def test_a_newer_schema_is_refused(folder: Path) -> None:
    row = read_table(folder / "evals" / "f000s0.parquet")[0]
    write_table(folder / "evals" / "newer.parquet", [{**row, "cell_id": "new", "schema_version": 99}], EVALS)
    with pytest.raises(AnalysisError, match="row schema 99"):
        load_study(folder)


def test_a_study_with_a_plan_and_no_row_is_all_pending(folder: Path) -> None:
    shutil.rmtree(folder / "evals")
    assert load_study(folder)["status"].eq("pending").all()


def test_an_empty_study_says_so(folder: Path) -> None:
    shutil.rmtree(folder / "evals")
    write_table(folder / "manifest.parquet", [], MANIFEST)
    with pytest.raises(AnalysisError, match="no planned cell and no row"):
        load_study(folder)


def test_axes_carry_scale_range_and_resolved_default(tmp_path: Path) -> None:
    axes = {axis.name: axis for axis in searched_axes(load_study(write_study(tmp_path / "all", Truth(train_seeds=1))))}
    assert list(axes) == ["sigma", "M", "tau", "reference_batch_size", "T_ratio", "rtol", "solver", "steps"]
    assert [axes["sigma"].log, axes["sigma"].low, axes["sigma"].high, axes["sigma"].default] == [True, 0.03, 0.3, 0.1]
    assert (axes["M"].log, axes["M"].default) == (False, 121.0)
    assert (axes["reference_batch_size"].high, axes["reference_batch_size"].default) == (1797.0, 1797.0)
    assert (axes["solver"].categorical, axes["solver"].default) == (True, "dopri5")
    assert axes["steps"].default is None
    assert axes["T_ratio"].column == "sampler_T_ratio"


def test_scientific_numbers_without_a_point_are_numbers(folder: Path) -> None:
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["search"]["train"]["sigma"]["log_uniform"] = ["3e-2", "3e-1"]  # what PyYAML makes of 3e-2
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    assert searched_axes(load_study(folder))[0].low == 0.03


def test_history_is_sorted_by_step(folder: Path) -> None:
    history = load_history(folder)
    assert history.groupby("train_id")["step"].is_monotonic_increasing.all()
    assert history["train_id"].nunique() == 6
