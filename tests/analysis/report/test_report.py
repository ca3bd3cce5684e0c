"""The report: equal bytes for equal rows, one self-contained page, and studies of every degenerate kind."""

from __future__ import annotations

import contextlib
import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.folder import Folder
from helpers.undrawn import draw_nothing

from analysis import load_study, write_report
from analysis.report.__main__ import main
from analysis.report.sections.record.design import cost
from analysis.report.sections.record.runnable import run_yaml
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from study.load import load_study_config
from study.rows.records import EVALS, MANIFEST, read_table, write_table
from study.run import main as run_study

ROOT = Path(__file__).parents[3]
TINY = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), train_seeds=2)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its report."""
    folder = write_study(tmp_path_factory.mktemp("drawn") / "study", TINY)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def undrawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study without pictures of samples, and its report without figures."""
    folder = write_study(tmp_path_factory.mktemp("undrawn") / "study", TINY.changed(samples=False))
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        write_report(folder)
    return folder


def copy_of(study: Path, folder: Path) -> Path:
    """The study without its report, in another place."""
    return Path(shutil.copytree(study, folder, ignore=shutil.ignore_patterns("report")))


def test_the_page_is_self_contained_and_in_order(drawn: Path) -> None:
    page = (drawn / "report/report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert not re.search(r"@import|url\(|fetch\(", page)
    headings = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert headings == ["In short", "Data and design", "Verdict", "Noise floor and power", "Training parameters", "Sampler",
                        "Training × sampler", "The whole searched box", "Importance", "Theory beside measurement", "Failures",
                        "Learning curves", "Samples", "Default and best as runnable YAML", "Full table",
                        "Methods and limits"]  # fmt: skip
    images = re.findall(r"<img [^>]*>", page)
    assert images
    assert all(re.search(r'alt="[^"]{20,}"', image) and 'src="data:image/png;base64,' in image for image in images)
    assert str(drawn.parent) not in page


ONE_FIELD = Truth(train_axes=(), sampler_axes=(), train_seeds=1)
SOBOL = TINY.changed(design="sobol", trials=40, train_seeds=1, sampler_points=3, sampler_axes=("T_ratio",))

DEGENERATE: dict[str, tuple[Truth, list[str]]] = {
    "one trial": (ONE_FIELD, [
        "The default reaches FID (digits-cnn, n = 1000) =", "in one field: no interval",
        "Nothing was searched, so there is nothing to rate.", "the seed noise is unknown. Raise seeds.train to 3",
        "No training parameter was searched.",
        "No sampler parameter was searched: every field was sampled one way, the default.",
        "it takes a numeric training parameter and a numeric sampler parameter, both searched",
        "No cell failed, diverged, met the step limit or timed out.",
    ]),
    "one seed": (TINY.changed(train_seeds=1), [
        "Undetermined: sigma", "one train seed: no variance, so no interval; raise seeds.train to 3 or more",
        "the seed noise is unknown",
    ]),
    "all failed": (TINY.changed(status=lambda row: "failed"), [
        "The default point has no complete row with FID", "(2 failed, 0 diverged)", "logs/t0-0.log", "30 failed of 30 cells",
        "30 planned, 0 complete, 30 failed or diverged, 0 pending", "No configuration is known to be within tolerance",
        "No sample grid was stored for the default, best or worst configuration.",
    ]),
    "all diverged but one": (
        TINY.changed(status=lambda row: "complete" if row["cell_id"] == "c000-0-00-0" else "diverged"),
        ["29 diverged of 30 cells", "in one field: no interval"],
    ),
    "nothing measured": (TINY.changed(status=lambda row: "pending"), [
        "30 planned, 0 complete, 0 failed or diverged, 30 pending", "The default point has no complete row with FID",
    ]),
    "no sampler sweep": (TINY.changed(sampler_axes=()), [
        "No sampler parameter was searched: every field was sampled one way, the default.", "Undetermined: sigma",
    ]),
    "every metric null": (TINY.changed(metrics=False), [
        "The default point has no complete row with FID", "fid missing: 30", "No configuration is known to be within tolerance",
        "30 planned, 30 complete",
    ]),
    "no search, no metrics, no samples": (ONE_FIELD.changed(metrics=False, samples=False), [
        "Nothing was searched, so there is nothing to rate.", "No sample grid was stored",
    ]),
    "categorical only": (TINY.changed(train_axes=(), sampler_axes=("solver",)), [
        "Robust: solver", "dopri5, heun2", "No training parameter was searched.",
        "it takes a numeric training parameter and a numeric sampler parameter, both searched",
    ]),
    "tpe without a default": (
        TINY.changed(design="tpe", trials=4, sampler_points=3, with_default=False, train_seeds=1),
        ["The default point is not part of this study.", "Not rated: sigma, T_ratio", "Nothing is rated: the tpe design",
         "Not shown: the tpe design moves to good values", "design: sobol"],
    ),
    "pixels": (TINY.changed(features="pixels"), ["The default reaches sliced Wasserstein (data units)"]),
    "sobol with conditional sampler": (
        TINY.changed(design="sobol", trials=3, train_seeds=1, sampler_axes=("solver", "steps"), sampler_points=4),
        ["needs 32 distinct training points, this study has 3"],
    ),
    "sobol": (SOBOL, ["By curves, which allow for what the other parameters do: ", "By bins of the tested values"]),
    "sobol, all failed": (SOBOL.changed(status=lambda row: "failed"), ["The default point has no complete row with FID"]),
    "sobol, no cell at the default": (
        SOBOL.changed(status=lambda row: "pending" if row["design_role"] == "default" else "complete"),
        ["The default point has no complete row with FID", "the default has no value"],
    ),
}  # fmt: skip


@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_degenerate_studies_have_a_report(tmp_path: Path, name: str) -> None:
    truth, sentences = DEGENERATE[name]
    page = html.unescape(Path(write_report(write_study(tmp_path / "study", truth))).read_text())
    assert [sentence for sentence in sentences if sentence not in page] == []
    sections = re.findall(r"<section .*?</section>", page, flags=re.DOTALL)
    assert len(sections) >= 15
    empty = [section[:80] for section in sections if not re.search(r"<(p|li|td|img)\b", section)]
    assert empty == [], "a section without content says why in a sentence"


@pytest.mark.usefixtures("no_rendering")
def test_a_parameter_with_one_value_is_undetermined(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", ONE_FIELD.changed(train_seeds=3))
    study = yaml.safe_load((folder / "study.yaml").read_text())
    (folder / "study.yaml").write_text(yaml.safe_dump(study | {"search": {"train": {"sigma": {"choice": [0.1]}}}}))
    page = Path(write_report(folder)).read_text()
    assert "Undetermined: sigma." in page and "no other value was measured" in page


def disturb(folder: Path) -> int:
    """Every row of one field under noise, the first two diverged; how many there are."""
    rows = read_table(folder / "evals" / "f000s0.parquet")
    noisy = [{**row, "cell_id": f"n{i}", "perturb_kind": "noise", "perturb_level": 0.1} for i, row in enumerate(rows)]
    for row in noisy[:2]:
        row |= {"status": "diverged", "metric_fid": None, "error": "12 samples are not finite", "error_log": "logs/n.log"}
    write_table(folder / "evals" / "noisy.parquet", noisy, EVALS)
    return len(noisy)


@pytest.mark.usefixtures("no_rendering")
def test_rows_of_disturbed_fields_are_counted_apart(tmp_path: Path, undrawn: Path) -> None:
    """Their failures are told, their columns written, and they change no count or table of the cells."""
    folder, plain = copy_of(undrawn, tmp_path / "study"), undrawn / "report"
    n = disturb(folder)
    text = Path(write_report(folder, output=tmp_path / "report")).with_name("report.md").read_text()
    assert "Cells: 30 planned, 30 complete, 0 failed or diverged, 0 pending" in text
    assert f"Rows of disturbed fields, counted apart: {n} planned, {n - 2} complete, 2 failed or diverged, 0 pending." in text
    assert "No cell failed, diverged, met the step limit or timed out." in text
    assert f"2 diverged of {n} rows of disturbed fields, by disturbance and level." in text
    lost = pd.read_csv(tmp_path / "report/tables/failures-disturbed.csv").iloc[0]
    assert lost[["status", "disturbance", "level", "log", "cells"]].tolist() == ["diverged", "noise", 0.1, "logs/n.log", 2]
    assert f"of the {n} rows of disturbed fields in tables/disturbed.csv" in text
    tables = [pd.read_csv(tmp_path / "report/tables" / f"{name}.csv") for name in ("rows", "disturbed")]
    assert [len(table) for table in tables] == [30, n]
    assert all(list(table.columns) == EVALS.names for table in tables)
    for name in ("rows", "verdict", "counts", "power"):
        first, second = ((where / f"tables/{name}.csv").read_bytes() for where in (plain, tmp_path / "report"))
        assert first == second, name
    assert not (plain / "tables/disturbed.csv").exists()


@pytest.mark.usefixtures("no_rendering")
def test_the_tolerance_asked_for_is_that_of_every_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_study(tmp_path / "study", TINY.changed(train_axes=(), samples=False))
    disturb(folder)
    seen = []
    drawn = "analysis.report.sections.measured.degradation.plot_perturbation_robustness"
    monkeypatch.setattr(drawn, lambda rows, *_, **__: seen.append(rows))
    write_report(folder, tolerance=0.25)
    assert {rows.attrs["study"]["analysis"]["tolerance"] for rows in seen} == {0.25}


@pytest.mark.parametrize("bits", [True, False])
@pytest.mark.usefixtures("no_rendering")
def test_the_likelihood_is_in_the_report(tmp_path: Path, undrawn: Path, bits: bool) -> None:
    """A row a configuration: geometric nothing, plain means; se of a row, the level, the points; bits before nats."""
    assert "Likelihood and prior error" not in (undrawn / "report/report.md").read_text()
    folder = write_study(tmp_path / "study", TINY.changed(sampler_axes=(), samples=False))
    for path in (folder / "evals").glob("*.parquet"):
        rows = read_table(path)
        for row in rows:
            own = 3.0 + float(row["seed_train"]) + 10 * (row["train_sigma"] == 0.3)  # type: ignore[arg-type]
            row |= {"metric_nats_per_dim": -own, "metric_n_likelihood": 256, "metric_divergence": "exact"}
            row |= {"metric_likelihood_t": 0.0625, "metric_dequantization": "none"}
            if bits:
                row |= {"metric_bits_per_dim": own, "metric_bits_per_dim_se": 0.25}
        write_table(path, rows, EVALS)
    text = Path(write_report(folder, output=tmp_path / "report")).with_name("report.md").read_text()
    assert "## Likelihood and prior error" in text
    tables = tmp_path / "report/tables"
    assert (tables / "bits-per-dim.csv").exists() is bits
    assert (tables / "nats-per-dim.csv").exists() is not bits
    table = pd.read_csv(tables / f"{'bits' if bits else 'nats'}-per-dim.csv").set_index("configuration")
    sign = 1 if bits else -1
    assert table.loc["default", "mean"] == pytest.approx(sign * 3.5)
    assert table.loc["sigma = 0.3", "mean"] == pytest.approx(sign * 13.5)
    assert table.loc["default", "low"] < sign * 3.5 < table.loc["default", "high"]
    assert table["se"].eq(0.25 if bits else "–").all()
    assert table[["n", "level t", "data points"]].drop_duplicates().to_numpy().tolist() == [[2, 0.0625, 256]]
    headings = re.findall(r"<th[^>]*>(.*?)</th>", (tmp_path / "report/report.html").read_text(), flags=re.DOTALL)
    words = " ".join(headings)
    assert "nats_per_dim" in words and ("bits_per_dim" in words) is bits


@pytest.mark.usefixtures("no_rendering")
def test_a_page_shows_some_rows_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = TINY.changed(status=lambda row: "diverged" if row["cell_id"] == "c002-1-04-0" else "complete", samples=False)
    folder = write_study(tmp_path / "study", truth)
    monkeypatch.setattr("analysis.report.sections.record.table.PAGE_ROWS", 12)
    page = Path(write_report(folder))
    text = page.read_text()
    assert "12 of 30 cells, so that the page stays quick" in text and "Every column of every row is in tables/rows.csv" in text
    shown = re.findall(r"<td>(c\d{3}-[\d-]+)</td>", text.split('id="rows"')[1])
    assert len(shown) == 12 and {"c000-0-00-0", "c000-1-00-0", "c002-1-04-0"} <= set(shown) and shown == sorted(shown)
    rows = pd.read_csv(page.parent / "tables" / "rows.csv")
    frame = load_study(folder)
    assert rows["cell_id"].tolist() == frame["cell_id"].tolist() and list(rows.columns) == list(frame.columns)
    np.testing.assert_array_equal(rows["metric_fid"], frame["metric_fid"])
    assert not (page.parent / "tables" / "cells.csv").exists()


@pytest.mark.usefixtures("no_rendering")
def test_a_static_table_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.report.blocks.MAX_ROWS", 3)
    page = Path(write_report(write_study(tmp_path / "study", TINY.changed(status=lambda row: "failed"))))
    assert "The first 3 of 6 rows; all are in tables/failures.csv." in page.read_text()
    assert len(pd.read_csv(page.parent / "tables" / "failures.csv")) == 6
    assert "The first 3 of 6 rows" in (page.parent / "report.md").read_text()
    assert page.read_text().split('id="table-failures"')[1].split("</tbody>")[0].count("<tr>") == 1 + 3, "a heading, three rows"


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
        r"Equivalence of tau = 0.01 to 0.03: .* 90 % interval .* \(6 and 6 fields\), inside 0.80 to 1.25: equal", out
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


def test_the_yaml_of_another_process_is_runnable(folder: Folder) -> None:
    """Fixed keys of one process are no part of the other's configuration, nor are defaults that say nothing."""
    train = {"steps": 4, "batch_size": 32, "gamma": 2.0, "reference_batch_size": 100}
    folder.write(train=train, search={"train": {"process": {"choice": ["pfgm", "pfgmpp"]}}})
    folder.run("--inline")
    frame = load_study(folder.path / "results/tiny")
    for process, keys in (("pfgm", {"gamma", "reference_batch_size"}), ("pfgmpp", set())):
        text = run_yaml(frame, frame.loc[frame["train_process"].eq(process)].iloc[0], "again")
        folder.file.write_text(text)
        assert load_study_config(folder.file).training({}).process == process
        found = yaml.safe_load(text)
        assert {"gamma", "reference_batch_size"} & found["train"].keys() == keys
        assert found["data"]["name"] == "rings" and None not in found["data"].values()


@pytest.mark.usefixtures("no_rendering")
def test_the_command_prints_the_verdict_and_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.usefixtures("no_rendering")
def test_cost_counts_processor_and_gpu_hours(tmp_path: Path) -> None:
    """60 s of training a field, shared by its rows; measuring adds up; GPU-hours only where the row names a GPU."""
    frame = load_study(write_study(tmp_path / "study", TINY.changed(samples=False)))
    on_gpu = frame["design_role"].ne("default")
    frame["prov_device"] = np.where(on_gpu, "cuda (a card)", "cpu")
    frame["prov_threads"] = 2
    seconds = frame["cost_sample_s"] + frame["cost_metric_s"]
    used = cost(frame)
    assert used.training_core_hours == pytest.approx(6 * 60 * 2 / 3600)
    assert used.measuring_core_hours == pytest.approx(2 * seconds.sum() / 3600)
    assert used.gpu_hours == pytest.approx((4 * 60 + seconds[on_gpu].sum()) / 3600)


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "ray"):
            raise ImportError(f"{name} is not to be had here")
sys.meta_path.insert(0, Blocked())
from analysis import load_study, write_report
print(len(load_study(sys.argv[1])), write_report(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def elsewhere(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The same rows in a folder of another name, and their report made by a process that has neither torch nor Ray."""
    moved = copy_of(drawn, tmp_path_factory.mktemp("elsewhere") / "renamed")
    command = [sys.executable, "-c", BLOCKED, str(moved)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return moved, subprocess.run(command, capture_output=True, text=True, env=environment, cwd=moved.parent)


def test_equal_rows_give_equal_bytes_wherever_the_study_lies(
    drawn: Path, elsewhere: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    files, others = (
        {str(p.relative_to(folder)): p.read_bytes() for p in (folder / "report").rglob("*") if p.is_file()}
        for folder in (drawn, elsewhere[0])
    )
    names = ("report.html", "report.md", "tables/rows.csv", "tables/verdict.csv", "figures/train-sigma.svg")
    assert {f"report/{name}" for name in names} <= set(files)
    assert files == others


def test_analysis_runs_without_torch_and_ray(elsewhere: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = elsewhere
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["30", f"{folder}/report/report.html"]
    refused = subprocess.run([sys.executable, "-c", BLOCKED.replace("from analysis", "import torch\nfrom analysis")],
                             capture_output=True, text=True, cwd=ROOT)  # fmt: skip
    assert "torch is not to be had here" in refused.stderr, "the block works"


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_a_run_writes_the_report_and_refreshes_it(folder: Folder) -> None:
    def run(*options: str) -> str:
        with contextlib.chdir(folder.path):
            assert run_study(["search.yaml", "--inline", *options]) == 0
        return (folder.path / "results" / "tiny" / "report" / "report.html").read_text()

    folder.write(seeds={"train": 1})
    first = run()
    assert "4 planned, 4 complete" in first and "one train seed: no variance" in first
    assert run() == first, "a finished study and its report stay as they are"
    grown = run("--set", "seeds.train=2")
    assert "8 planned, 8 complete" in grown and "2 fields" in grown


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, analysis; assert not {'torch', 'ray', 'pandas', 'matplotlib'} & set(sys.modules); analysis.load_study"
    code += "; import analysis.report.write; assert not {'torch', 'ray', 'pfgm.config'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
