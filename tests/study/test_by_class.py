"""A study of a conditional field: one field, rows by guidance, and mistakes that are told in one line."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import yaml

from study.load import ConfigError, load_study_config
from study.plan.bundles import key_of
from study.plan.make import make_plan
from study.run import main

BASE = {
    "name": "by_class",
    "data": {"name": "digits"},
    "network": {"width": 16, "depth": 1},
    "train": {"conditional": True, "steps": 20, "batch_size": 32},
    "sampler": {"solver": "heun2", "steps": 3},
    "evaluate": {"samples": 60, "metrics": ["fid", "class_accuracy", "class_fid"]},
    "search": {"sampler": {"guidance": {"choice": [0, 1, 2]}}},
}


def written(tmp_path, **changes):
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(BASE | {"storage": str(tmp_path / "results")} | changes))
    return path


def plan_of(tmp_path, **changes):
    return make_plan(load_study_config(written(tmp_path, **changes)))


def test_a_study_over_guidance_trains_one_field(tmp_path):
    """Its rows say what was asked, how sure the samples are, and what a guided sample costs."""
    assert main([str(written(tmp_path)), "--inline", "--no-report"]) == 0
    tables = [pq.read_table(path) for path in (tmp_path / "results" / "by_class" / "evals").rglob("*.parquet")]
    rows = {row["sampler_guidance"]: row for table in tables for row in table.to_pylist()}
    assert sorted(rows) == [0.0, 1.0, 2.0] and {row["status"] for row in rows.values()} == {"complete"}
    assert len({row["train_id"] for row in rows.values()}) == 1
    assert [rows[w]["cost_nfe"] for w in (0.0, 1.0, 2.0)] == [7, 7, 14]
    for row in rows.values():
        assert (
            0 <= row["metric_class_accuracy"] <= 1 and row["metric_class_fid"] > 0 and row["metric_class_accuracy_real"] > 0.98
        )
        assert row["train_conditional"] is True and row["train_label_dropout"] == 0.1


def test_a_label_is_another_sampler_point_and_the_same_field(tmp_path):
    search = {"sampler": {"label": {"choice": ["all", 3, "7"]}}}
    (trial,) = plan_of(tmp_path, search=search)
    assert len({cell.sampler_id for cell in trial.cells}) == 3
    assert sorted(str(cell.to_row()["sampler_label"]) for cell in trial.cells) == ["3", "7", "all"]


def test_conditional_is_another_field_and_its_bundle_is_itself(tmp_path):
    (told,) = plan_of(tmp_path, search={})
    (plain,) = plan_of(
        tmp_path, search={}, train=BASE["train"] | {"conditional": False}, evaluate={"samples": 60, "metrics": ["fid"]}
    )
    (absent,) = plan_of(
        tmp_path, search={}, train={"steps": 20, "batch_size": 32}, evaluate={"samples": 60, "metrics": ["fid"]}
    )
    assert told.train_id != plain.train_id == absent.train_id and plain.point_id == absent.point_id
    assert key_of(told) is None and key_of(plain) is not None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"train": {"steps": 20}},
            r"evaluate\.metrics: 'class_accuracy' is of conditional fields; write train: .conditional: true",
        ),
        ({"train": {"steps": 20}, "evaluate": {"metrics": ["fid"]}}, "guidance.*asks a conditional field for a class"),
        (
            {"data": {"name": "rings"}, "evaluate": {"metrics": ["sliced_wasserstein"]}},
            r"train\.conditional: rings has no labels",
        ),
        ({"sampler": {"label": "eleven"}}, r"sampler\.label: no class 'eleven'; use all, a number from 0 to 9"),
        ({"sampler": {"label": 10}}, r"sampler\.label: no class 10"),
        ({"search": {"sampler": {"guidance": {"uniform": [-1, 2]}}}}, r"search\.sampler\.guidance"),
        ({"train": {"label_dropout": 0.2}, "search": {}}, r"train\.label_dropout: belongs to conditional fields"),
        ({"train": {"conditional": True, "label_dropout": 1.0}}, r"train\.label_dropout: .* less than 1"),
    ],
)
def test_mistakes(tmp_path, changes, text):
    with pytest.raises(ConfigError, match=text) as error:
        load_study_config(written(tmp_path, **changes))
    assert "\n" not in str(error.value)
