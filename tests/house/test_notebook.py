"""The notebooks run from top to bottom on the bundled study and on synthetic ones; the committed ones hold their source."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import load_history, load_study, plot_samples, validate
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth

mpl.use("Agg")

FOLDER = Path(__file__).parents[2] / "experiments" / "notebooks"
BUNDLE = FOLDER / "digits_bundle"


def script(name: str) -> ModuleType:
    """A script beside the notebooks, as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


build, make_bundle = script("build"), script("make_bundle")
NOTEBOOKS = build.sources()
OF_STUDIES, OF_FIELDS, OF_DATA = NOTEBOOKS[:4], NOTEBOOKS[4:5], NOTEBOOKS[5:]
"""Those that read a study, the one that draws exact fields, and the one that trains on data of one's own."""


def least(path: Path) -> int:
    """Pictures that a notebook has at least."""
    return 7 if path in OF_FIELDS else 1 if path in OF_DATA else 2


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


def test_there_are_six() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]
    assert all("STUDY" in path.read_text() for path in OF_STUDIES)
    assert not any("STUDY" in path.read_text() for path in OF_FIELDS + OF_DATA)


def study_with_failures(folder: Path) -> Path:
    """One sigma fails with one seed, one rtol diverges."""

    def status(row: dict[str, object]) -> str:
        bad = row["train_sigma"] == 0.3 and row["seed_train"] == 0
        return "failed" if bad else "diverged" if row["sampler_rtol"] == 0.1 else "complete"

    axes = {"train_axes": ("sigma", "M"), "sampler_axes": ("solver", "rtol")}
    return write_study(folder, Truth(status=status, sample_seeds=2, **axes))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Path], nbformat.NotebookNode]:
    """Every notebook on the bundle, and those of studies on one with failures: in one process, each with its own namespace."""
    failing = study_with_failures(tmp_path_factory.mktemp("notebooks") / "synthetic")
    runs = [("bundle", path) for path in OF_STUDIES + OF_DATA] + [("failures", path) for path in OF_STUDIES]
    runs += [("bundle", path) for path in OF_FIELDS]  # last: it sets torch's own default
    read = {run: build.read(run[1]) for run in runs}
    joined = nbformat.v4.new_notebook(metadata=read[runs[0]].metadata)
    for (kind, _), notebook in read.items():
        first = ["%reset -f", f"%env STUDY={failing}"] if kind == "failures" else ["%reset -f"]
        joined.cells += [*map(nbformat.v4.new_code_cell, first), *notebook.cells]
    for i, cell in enumerate(joined.cells):
        cell.id = f"cell-{i:03d}"
    build.execute(joined)
    return read


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs_on_the_bundle(executed: dict[tuple[str, Path], nbformat.NotebookNode], path: Path) -> None:
    notebook = executed["bundle", path]
    nbformat.validate(notebook)
    assert all(cell.execution_count is not None for cell in notebook.cells if cell.cell_type == "code")
    assert pictures(notebook) >= least(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_STUDIES, ids=lambda p: p.stem)
def test_it_runs_on_a_study_with_failures(executed: dict[tuple[str, Path], nbformat.NotebookNode], path: Path) -> None:
    notebook = executed["failures", path]
    shown = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert pictures(notebook) >= 2
    assert path != NOTEBOOKS[1] or ("failed" in shown and "diverged" in shown)


@pytest.mark.slow
def test_the_report_step_by_step_on_a_small_sobol_study(tmp_path: Path) -> None:
    truth = Truth(design="sobol", trials=6, train_seeds=1, samples=False, train_axes=("sigma", "M"))
    study = write_study(tmp_path / "sobol", truth)
    assert pictures(build.run(NOTEBOOKS[1], str(study))) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_committed_notebook_is_the_source_with_outputs(path: Path) -> None:
    stored, source = nbformat.read(path.with_suffix(".ipynb"), 4), build.read(path)
    assert [(c.cell_type, c.source) for c in stored.cells] == [(c.cell_type, c.source) for c in source.cells]
    assert all(cell.execution_count is not None for cell in stored.cells if cell.cell_type == "code")
    assert not [o for c in stored.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert pictures(stored) >= least(path)
    assert path.with_suffix(".ipynb").stat().st_size <= build.LIMIT


@pytest.mark.usefixtures("clean_figures")
def test_a_lighter_picture_looks_the_same() -> None:
    """Ten smoothed lines over a gradient: half the bytes, and colours that differ by 1 % on average, 15 % at most."""
    figure, ax = plt.subplots()
    ax.imshow(np.outer(np.linspace(0, 1, 50), np.linspace(0, 1, 50)), extent=(0, 1, 0, 1))
    ax.plot(np.linspace(0, 1, 9), np.random.default_rng(0).random((9, 10)))
    plain = io.BytesIO()
    figure.savefig(plain, format="png")
    lighter = build.lighter(plain.getvalue())
    assert len(lighter) < 0.5 * len(plain.getvalue())
    before, after = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float) for png in (plain.getvalue(), lighter))
    difference = np.abs(after - before) / 255
    assert difference.mean() < 0.01 and difference.max() < 0.15
    assert build.lighter(lighter) == lighter


def test_the_bundle_is_a_whole_small_study() -> None:
    assert sum(path.stat().st_size for path in BUNDLE.rglob("*.parquet")) < make_bundle.LIMIT
    frame = load_study(BUNDLE)
    assert len(frame) == 816 and frame["status"].eq("complete").all()
    assert frame.attrs["skipped"] == {} and validate(BUNDLE).empty
    assert load_history(BUNDLE)["train_id"].nunique() == frame["train_id"].nunique() == 24
    assert len(plot_samples(frame, "default").images) == 1


def test_packing_keeps_every_row_and_column(tmp_path: Path) -> None:
    truth = Truth(train_axes=("sigma",), status=lambda row: "pending" if row["sampler_rtol"] == 0.1 else "complete")
    source = write_study(tmp_path / "study", truth)
    make_bundle.pack(source, tmp_path / "packed")
    pd.testing.assert_frame_equal(load_study(tmp_path / "packed"), load_study(source))
    pd.testing.assert_frame_equal(load_history(tmp_path / "packed"), load_history(source))
    assert len(list((tmp_path / "packed" / "evals").iterdir())) == 1
    assert 1 <= len(list((tmp_path / "packed" / "samples").iterdir())) <= 3
    with pytest.raises(ValueError, match="remove it first"):
        make_bundle.pack(source, tmp_path / "packed")


def test_too_big_a_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_study(tmp_path / "study", Truth(train_axes=(), sampler_axes=(), samples=False))
    monkeypatch.setattr(make_bundle, "LIMIT", 100)
    with pytest.raises(ValueError, match="plan fewer cells"):
        make_bundle.pack(source, tmp_path / "packed")
