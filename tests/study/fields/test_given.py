"""Studies of a field that is given: nothing is trained, the rows have the same schema, and what cannot be is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.authors_layout import contents, random_network, saved
from helpers.edm_layout import written
from helpers.edm_reference import Options
from helpers.folder import Folder

from analysis import AnalysisError, load_study, power_table, summarize, tolerance_interval, write_report
from pfgm.flow.checkpoint import load_field
from study.config.yaml_source import ConfigError
from study.rows.records import COLUMNS

SAMPLER = {"T_ratio": {"choice": [0.5, 1, 2]}}


def given(path: Path | str, **sections: Any) -> dict[str, Any]:
    """Sections of a study of the checkpoint at ``path``."""
    changed = {"field": {"checkpoint": str(path)}, "train": None, "network": None, "seeds": {"sample": 2}}
    return {**changed, "search": {"sampler": SAMPLER}, "name": "given", **sections}


@pytest.fixture(scope="module")
def trained(make_folder: Any) -> tuple[Folder, Path]:
    """A folder with a finished study, and the field of it."""
    folder = make_folder("given")
    folder.write(search=None)
    folder.run("--inline")
    (name,) = folder.fields()
    return folder, folder.path / "results/fields" / name


def test_only_sampler_parameters_vary(trained: tuple[Folder, Path]) -> None:
    folder, field = trained
    folder.write(**given(field))
    out, _ = folder.run("--inline")
    assert "nothing is trained" in out
    rows = folder.rows("given")
    assert len(rows) == 6  # three sampler points, two sample seeds
    assert all(row["status"] == "complete" and row["metric_fid"] > 0 for row in rows.values())
    assert list(next(iter(rows.values()))) == list(COLUMNS), "the same schema"
    trained_row = next(iter(folder.rows().values()))
    for key in ("train_sigma", "train_M", "train_steps", "train_reference_batch_size", "network_width", "data_hash"):
        assert {row[key] for row in rows.values()} == {trained_row[key]}
    default = next(r for r in rows.values() if r["design_sampler_role"] == "default" and r["seed_sample"] == 0)
    assert default["metric_fid"] == trained_row["metric_fid"], "the very field, at the sampler point it was measured at"
    assert len(folder.fields()) == 2, "a copy under the name of its content"
    out, _ = folder.run("--inline")
    assert "finished, nothing to do" in out


def test_samplings_are_the_units_of_a_given_field(trained: tuple[Folder, Path]) -> None:
    """Intervals over sample seeds, for this field; more of them extend the study."""
    folder, field = trained
    folder.write(**given(field, name="units", seeds={"sample": 1}))
    folder.run("--inline")
    rows = load_study(folder.path / "results/units")
    rule = "one sample seed: no variance, so no interval; raise seeds.sample to 3 or more"
    assert tolerance_interval(rows, "T_ratio").rule == rule
    with pytest.raises(AnalysisError, match=r"raise seeds\.sample"):
        power_table(rows, (3,))
    folder.write(**given(field, name="units", seeds={"sample": 4}))
    folder.run("--inline")
    rows = load_study(folder.path / "results/units")
    assert len(rows) == 12
    means = summarize(rows)
    assert means["n_sample_seeds"].eq(4).all()
    default = np.log(rows.loc[rows["design_sampler_role"].eq("default"), "metric_fid"].astype(float))
    assert means.loc[means["sampler_T_ratio"].eq(1), "mean"].item() == pytest.approx(np.exp(default.mean()))
    assert tolerance_interval(rows, "T_ratio").rule != rule
    write_report(folder.path / "results/units")
    text = (folder.path / "results/units/report/report.md").read_text()
    assert "Field: given" in text and "intervals hold for this field" in text


def test_the_store_keeps_it(trained: tuple[Folder, Path], tmp_path: Path) -> None:
    """Measured from the copy in the store: the checkpoint may move; another one under the same study is refused."""
    folder, field = trained
    moved = tmp_path / "elsewhere"
    shutil.copytree(field, moved)
    folder.write(**given(moved, name="moved"))
    folder.run("--inline")
    shutil.move(moved, tmp_path / "again")
    folder.write(**given(tmp_path / "again", name="moved"))
    out, _ = folder.run("--inline")
    assert "nothing to do" in out or "6 measured" in out
    other = folder.path / "other"
    folder.write(name="other", train={"steps": 4, "batch_size": 32}, search=None)
    folder.run("--inline")
    (new,) = {row["train_id"] for row in folder.rows("other").values()}
    shutil.copytree(folder.path / "results/fields" / new, other)
    folder.write(**given(other, name="moved"))
    _, err = folder.run("--inline", expect=2)
    assert "is another checkpoint than" in err


def test_optuna_may_look_for_the_best_sampling(trained: tuple[Folder, Path]) -> None:
    """Of a tpe study, design.trials is how many points are proposed: it stays."""
    folder, field = trained
    design = {"name": "tpe", "trials": 2}
    folder.write(**given(field, name="tpe", design=design, seeds={"sample": 1}))
    folder.run("--inline")
    assert len(folder.rows("tpe")) == 2


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"sigma": 0.2}}, "train: the field is given by field.checkpoint and nothing is trained"),
        ({"network": {"width": 8}}, "network: the field is given"),
        ({"search": {"train": {"sigma": {"uniform": [0.1, 0.2]}}}}, "search.train: the field is given"),
        ({"seeds": {"train": 2}}, "seeds.train: the field is given"),
        (
            {"seeds": {"sample": "own"}},
            "seeds.sample: is own, which is the train seed, and this field is given; write how many",
        ),
        ({"design": {"name": "sobol", "trials": 4}}, "design.trials: the field is given"),
        ({"data": {"name": "rings", "n": 300, "center": False}}, "data: the field was trained on .*centred differently"),
        ({"data": {"name": "digits"}}, "data: the field was trained on .*these are others"),
        ({"field": {"checkpoint": "none"}}, "field.checkpoint: nothing at none; give the folder of a field"),
        ({"field": {"checkpoint": "none", "format": "poisson_flow"}}, "nothing at none; give the authors' file"),
        ({"field": {"checkpoint": "search.yaml", "format": "poisson_flow"}}, "field.checkpoint: .*search.yaml"),
        ({"field": {"checkpoint": __file__}}, "is a file; for one of the authors' code add format: poisson_flow"),
        ({"field": {"checkpiont": "x"}}, "field.checkpiont: unknown key .*did you mean `checkpoint`"),
        ({"field": {"checkpoint": "x", "format": "onnx"}}, "field.format: must be 'pfgm', 'poisson_flow', 'edm' or 'pfgmpp'"),
    ],
)
def test_what_does_not_go_with_a_given_field(trained: tuple[Folder, Path], sections: dict, message: str) -> None:
    folder, field = trained
    with pytest.raises(ConfigError, match=message):
        folder.load(**{**given(field), **sections})


def test_a_checkpoint_of_the_authors(folder: Folder) -> None:
    """RGB images that are not centred; with centring on it is refused, and nothing is written."""
    saved(folder.path / "checkpoint_7.pth", contents(random_network((3, 16, 16))))
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    np.savez(folder.path / "images.npz", images)
    data = {"name": "npz", "path": str(folder.path / "images.npz"), "center": False}
    sections = given(
        folder.path / "checkpoint_7.pth", data=data, seeds=None,
        field={"checkpoint": str(folder.path / "checkpoint_7.pth"), "format": "poisson_flow"},
        sampler={"solver": "euler", "steps": 2, "T": 40.0, "batch_size": 50},
        search={"sampler": {"steps": {"choice": [1, 2]}}},
        evaluate={"samples": 50, "metrics": ["fid", "kid"]},
    )  # fmt: skip
    folder.write(**{**sections, "data": {**data, "center": True}})
    _, err = folder.run("--inline", expect=2)
    assert "data.center: the authors' checkpoints are trained on data that are not centred; set center: false" in err
    assert not (folder.path / "results").exists()
    folder.write(**sections)
    folder.run("--inline")
    rows = folder.rows("given").values()
    assert [row["status"] for row in rows] == ["complete"] * 2
    assert {(row["train_sigma"], row["train_M"], row["network_name"], row["data_center"]) for row in rows} == {
        (0.01, 291.0, "ddpmpp", False)
    }
    assert {row["metric_features"] for row in rows} == {"random"}
    (name,) = folder.fields()
    assert load_field(folder.path / "results/fields" / name).process.info.center is False
    assert folder.run("--dry-run", "--inline")[0].count("estimated cost") == 1


def test_checkpoints_of_edm_and_pfgmpp(folder: Folder) -> None:
    """Read in a study, stored, measured from the store; D and label are part of what the field is."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(folder.path / "images.npz", images)
    path, _ = written(folder.path / "network-snapshot-000001.pkl", Options(labels=3, augment=9))
    pp, _ = written(folder.path / "training-state.pkl", Options(), pfgmpp=True, D=128)
    data = {"name": "npz", "path": str(folder.path / "images.npz"), "center": False}
    heun = {"solver": "heun2", "steps": 17, "grid": "rho", "T": 80.0, "t_min": 2e-3, "denoise": True, "batch_size": 50}
    sections = given(
        path, data=data, seeds=None, sampler=heun, search={"sampler": {"steps": {"choice": [2, 17]}}},
        field={"checkpoint": str(path), "format": "edm", "label": 2}, evaluate={"samples": 50, "metrics": ["fid"]},
    )  # fmt: skip
    folder.write(**sections)
    folder.run("--inline")
    rows = {row["sampler_steps"]: row for row in folder.rows("given").values()}
    assert {row["status"] for row in rows.values()} == {"complete"}
    assert (rows[17]["cost_nfe"], rows[2]["cost_nfe"]) == (35, 5), "EDM's 18 steps"
    told = (
        "network_name",
        "network_head",
        "network_form",
        "network_label",
        "network_attention",
        "train_n_aug",
        "train_process",
    )
    assert [rows[17][key] for key in told] == ["edm", "edm", "ddpmpp", 2, "4", float("inf"), "pfgmpp"]
    stored = [load_field(folder.path / "results/fields" / name) for name in folder.fields()]
    assert [field.network_config.model_dump()["label"] for field in stored] == [2]
    folder.write(**{**sections, "field": {**sections["field"], "label": 1}})
    _, err = folder.run("--inline", expect=2)
    assert "field.label" in err and "2" in err, "another class is another study"
    names = {
        str(extra): folder.load(**{**sections, "field": {"checkpoint": str(file), **extra}}).field_source.train_id
        for file, extra in (
            (path, {"format": "edm"}), (path, {"format": "edm", "label": 1}), (path, {"format": "edm", "label": 2}),
            (pp, {"format": "pfgmpp"}), (path, {"format": "pfgmpp", "n_aug": 64.0}), (path, {"format": "pfgmpp", "n_aug": 8.0}),
        )
    }  # fmt: skip
    assert len(set(names.values())) == 6
    for extra, message in (
        ({"format": "edm", "label": 3}, r"field.label: .* knows classes 0 to 2, got 3; take one"),
        ({"format": "pfgmpp"}, r"field.n_aug: .* does not say its D; give the one"),
        ({"format": "edm", "n_aug": 8.0}, r"field.n_aug: belongs to exact fields and to format pfgmpp"),
        ({"format": "poisson_flow", "label": 1}, r"field.label: belongs to checkpoints of format edm or pfgmpp"),
        (
            {"format": "poisson_flow"},
            r"field.checkpoint: .*which holds source code and would run it; use format: edm or pfgmpp",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            folder.load(**{**sections, "field": {"checkpoint": str(path), **extra}})
