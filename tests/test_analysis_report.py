"""The report: equal bytes for equal rows, one self-contained page, and studies of every degenerate kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from analysis_study import Truth, write_study
from matplotlib.figure import Figure

from analysis import load_study, write_report
from analysis.report import main
from analysis.report_yaml import run_yaml
from study.config import load_study_config
from study.records import MANIFEST, read_table, write_table

TINY = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), train_seeds=2)


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", TINY)
    first, second = (Path(write_report(folder, output=tmp_path / name)).parent for name in ("a", "b"))
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert {"report.html", "report.md", "tables/rows.csv", "tables/verdict.csv", "figures/train-sigma.svg"} <= set(names)
    assert [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []


def test_the_page_is_self_contained_and_in_order(tmp_path: Path) -> None:
    page = Path(write_report(write_study(tmp_path / "study", TINY))).read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert not re.search(r"@import|url\(|fetch\(", page)
    headings = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert headings == ["In short", "Data and design", "Verdict", "Noise floor and power", "Training parameters", "Sampler",
                        "Training × sampler", "Failures", "Learning curves", "Samples", "Default and best as runnable YAML",
                        "Full table", "Methods and limits"]  # fmt: skip
    images = re.findall(r"<img [^>]*>", page)
    assert images
    assert all(re.search(r'alt="[^"]{20,}"', image) and 'src="data:image/png;base64,' in image for image in images)
    assert str(tmp_path) not in page


@pytest.fixture
def no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are built but not drawn to files, which takes most of a report's time."""
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda figure: None)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: None)


DEGENERATE = {
    "all failed": TINY.changed(status=lambda row: "failed"),
    "all diverged but one": TINY.changed(status=lambda row: "complete" if row["cell_id"] == "c000-0-00-0" else "diverged"),
    "nothing measured": TINY.changed(status=lambda row: "pending"),
    "one field, no search, no metrics, no samples": Truth(
        train_axes=(), sampler_axes=(), train_seeds=1, metrics=False, samples=False
    ),
    "tpe without a default": TINY.changed(design="tpe", trials=4, sampler_points=3, with_default=False, train_seeds=1),
    "pixels": TINY.changed(features="pixels"),
    "sobol with conditional sampler": TINY.changed(
        design="sobol", trials=3, train_seeds=1, sampler_axes=("solver", "steps"), sampler_points=4
    ),
}


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_degenerate_studies_have_a_report(tmp_path: Path, name: str) -> None:
    page = Path(write_report(write_study(tmp_path / "study", DEGENERATE[name]))).read_text()
    assert "<h2" in page
    if name == "all failed":
        assert "The default point has no complete row" in page
        assert "logs/t0-0.log" in page
        assert "30 failed of 30 cells" in page
    if name == "pixels":
        assert "sliced Wasserstein" in page


@pytest.mark.usefixtures("no_rendering")
def test_equivalence_is_printed_for_disjoint_seeds_and_two_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = Truth(train_axes=("tau",), sampler_axes=(), disjoint=True, train_seeds=6, samples=False,
                  status=lambda row: "pending" if row["train_tau"] == 0.1 else "complete")  # fmt: skip
    folder = write_study(tmp_path / "study", truth)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    assert main([str(folder)]) == 0
    assert "Equivalence" not in capsys.readouterr().out  # three planned values
    write_table(
        folder / "manifest.parquet", [r for r in read_table(folder / "manifest.parquet") if r["train_tau"] != 0.1], MANIFEST
    )
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    assert main([str(folder)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"Equivalence of tau = 0.01 to 0.03: .* 90 % interval .* \(6 and 6 fields\), inside 0.80 to 1.25: equivalent", out
    )


def test_best_row_is_runnable_yaml(tmp_path: Path) -> None:
    frame = load_study(write_study(tmp_path / "study", Truth(samples=False, train_seeds=1)))
    row = frame.loc[frame["design_role"].eq("arm:M") & frame["design_sampler_role"].eq("arm:steps")].iloc[0]
    text = run_yaml(frame, row, "study-best")
    (tmp_path / "best.yaml").write_text(text)
    assert load_study_config(tmp_path / "best.yaml").name == "study-best", "the command line must accept it"
    best = yaml.safe_load(text)
    assert "search" not in best
    assert (best["name"], best["design"]) == ("study-best", {"name": "one_at_a_time"})
    assert (best["train"]["M"], best["train"]["height_ratio"], best["train"]["reference_batch_size"]) == (60.0, None, "all")
    assert (best["sampler"]["solver"], best["sampler"]["steps"], "rtol" in best["sampler"]) == ("heun2", 8, False)
    assert (best["sampler"]["T"], best["sampler"]["T_ratio"]) == ("rule", 1.0)


@pytest.mark.usefixtures("no_rendering")
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_study(tmp_path / "study", TINY.changed(samples=False))
    assert main([str(folder), "--tolerance", "5"]) == 0
    out = capsys.readouterr().out
    assert "Verdict at 30 of 30 cells" in out
    assert "report: " in out
    assert main([str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("no study at")
    assert error.count("\n") == 1
    assert main([str(folder), "--tolerance", "-1"]) == 2
    assert "must be a fraction above 0" in capsys.readouterr().err
    shutil.rmtree(folder / "report")


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, analysis; assert not {'torch', 'ray', 'pandas', 'matplotlib'} & set(sys.modules); analysis.load_study"
    code += "; import analysis.report; assert not {'torch', 'ray', 'pfgm'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
