"""Claims: docs/claims.md says what the committed rows say, and its verdicts what the intervals say."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import contrast, load_study
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from study.load import load_study_config
from study.plan.make import make_plan

FOLDER = Path(__file__).parents[2] / "experiments" / "claims"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims_build", FOLDER / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["claims_build"] = module
    spec.loader.exec_module(module)
    return module


build = script()
CLAIMS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "claims.yaml").read_text())
STUDIES = sorted({str(claim["study"]) for claim in CLAIMS})


def test_the_page_is_what_the_rows_say() -> None:
    """Written again from the committed rows, docs/claims.md is the same text."""
    assert build.page(CLAIMS) == build.PAGE.read_text(), "run python experiments/claims/build.py"


@pytest.mark.parametrize("name", STUDIES)
def test_committed_rows_are_of_the_study_file(name: str) -> None:
    """Every planned cell of experiments/claims/<name>.yaml is a complete row; three train seeds a side, equal steps."""
    path = FOLDER / f"{name}.yaml"
    frame = load_study(build.ROWS / name, perturbed=True)
    assert set(frame["status"]) == {"complete"}
    assert frame.groupby("point_id")["seed_train"].nunique().min() >= 3
    assert frame["train_steps"].nunique() == frame["train_batch_size"].nunique() == 1
    if name == "fashion" and not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("no Fashion-MNIST: apt-get install dataset-fashion-mnist")
    config = load_study_config(path)
    planned = {cell.cell_id for trial in make_plan(config) for cell in trial.cells}
    assert planned == set(frame["cell_id"])


@pytest.mark.parametrize(
    ("low", "high", "bad", "verdict"),
    [
        (0.5, 0.99, 0, "**holds**"),
        (1.01, 3.0, 0, "**does not**"),
        (0.9, 1.1, 0, "undecided"),
        (math.nan, math.nan, 0, "undecided"),
        (0.5, 0.6, 1, "undecided"),
    ],
)
def test_verdicts(low: float, high: float, bad: int, verdict: str) -> None:
    assert build.Finding(1.0, low, high, 0.2, (3, 3), bad).verdict == verdict


def test_equal_is_a_verdict_and_holm_weakens_verdicts_alone() -> None:
    """Two one-sided tests give *equal*; over a page of 20 a p-value of 0.01 is not enough, one of 0.001 is."""
    equal = build.Finding(1.01, 0.95, 1.07, 0.1, (9, 9), 0, (0.7, 0.01))
    assert equal.verdict == "**equal within 10 %**"
    assert build.Finding(1.01, 0.95, 1.07, 0.1, (9, 9), 1, (0.7, 0.01)).verdict == "undecided", "a row of it failed"
    weak, strong = (build.Finding(0.8, 0.7, 0.9, 0.1, (3, 3), 0, (p, 0.9)) for p in (0.01, 0.001))
    nothing = [build.Finding(1.0, 0.5, 2.0, 0.5, (3, 3), 0, (0.9, 0.9))] * 17
    assert build.together([equal, weak, strong, *nothing])[:3] == ["undecided", "undecided", "**holds**"]
    assert build.together([equal, weak, strong]) == [equal.verdict, "**holds**", "**holds**"]


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """A grid of known effects: vp is twice as bad, a narrow network 1.5 times as bad, with vp 3 times."""
    rows = load_study(write_study(tmp_path / "s", Truth()))
    rows = rows.loc[rows["design_role"].eq("default") & rows["design_sampler_role"].eq("default")]
    parts = []
    for process, width, factor in (("pfgm", 512, 1.0), ("vp", 512, 2.0), ("pfgm", 128, 1.5), ("vp", 128, 6.0)):
        role = "default" if (process, width) == ("pfgm", 512) else "grid"
        part = rows.assign(train_process=process, network_width=width, design_role=role, metric_fid=rows["metric_fid"] * factor)
        name = f"{process}{width}"
        parts.append(part.assign(train_id=part["train_id"] + name, point_id=part["point_id"] + name))
    result = pd.concat(parts, ignore_index=True)
    search = {"train": {"process": {"choice": ["pfgm", "vp"]}, "width": {"choice": [128, 512]}}}
    result.attrs = {**rows.attrs, "study": {**rows.attrs["study"], "search": search, "design": {"name": "grid"}}}
    return result


def test_ratio_of_two_processes(frame: pd.DataFrame) -> None:
    """The known factor 2 comes back; asked the other way round, its inverse, and the other verdict."""
    asked = {"claim": "", "ratio": {"metric": "fid", "of": {"process": "pfgm"}, "to": {"process": "vp"}}}
    found = build.measure(asked, frame)
    assert found.ratio == pytest.approx(0.5)
    assert found.verdict == "**holds**"
    other = build.measure({"claim": "", "ratio": {"metric": "fid", "of": {"process": "vp"}, "to": {"process": "pfgm"}}}, frame)
    assert other.ratio == pytest.approx(2.0)
    assert other.verdict == "**does not**"


def test_weaker_network(frame: pd.DataFrame) -> None:
    """1.5 against 3: ratio one half, by the contrast of four groups."""
    asked = {"metric": "fid", "of": {"process": "pfgm"}, "to": {"process": "vp"}, "key": "width", "from": 512, "down_to": 128}
    found = build.measure({"claim": "", "weaker": asked}, frame)
    assert found.ratio == pytest.approx(0.5)
    groups = [
        (sign, np.log(frame.query(f"train_process == '{p}' and network_width == {w}").groupby("train_id")["metric_fid"].mean()))
        for sign, p, w in ((1, "pfgm", 128), (-1, "pfgm", 512), (-1, "vp", 128), (1, "vp", 512))
    ]
    assert (found.low, found.high) == pytest.approx(contrast(groups)[1:3], rel=1e-6)


def test_a_failed_row_leaves_a_claim_undecided(frame: pd.DataFrame) -> None:
    broken = frame.copy()
    broken.attrs = frame.attrs
    broken.loc[broken["train_process"].eq("vp").idxmax(), ["status", "metric_fid"]] = ["diverged", math.nan]
    asked = {"claim": "", "ratio": {"metric": "fid", "of": {"process": "pfgm"}, "to": {"process": "vp"}}}
    assert build.measure(asked, broken).verdict == "undecided"


def test_a_series_that_is_not_there_is_named(frame: pd.DataFrame) -> None:
    """Not an empty side, which would read as undecided."""
    disturbed = frame.assign(perturb_kind="noise", perturb_level=0.2)
    both = pd.concat([frame, disturbed], ignore_index=True)
    both.attrs = frame.attrs
    asked = {"kind": "noise", "level": 0.2, "of": "pfgm, width = 512", "to": "vpp, width = 512"}
    with pytest.raises(ValueError, match="no series 'vpp, width = 512'; there are: pfgm, width = 128; pfgm, width = 512"):
        build.measure({"claim": "x", "degradation": asked}, both)
    assert build.measure({"claim": "x", "degradation": asked | {"to": "vp, width = 512"}}, both).ratio == pytest.approx(1.0)
    both.loc[both["train_process"].eq("vp") & both["network_width"].eq(128), "status"] = "diverged"
    assert build.measure({"claim": "x", "degradation": asked | {"to": "vp, width = 512"}}, both).n_bad == 0, "not a row of it"


def test_a_claim_without_a_measurement_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'x' names no ratio, degradation or weaker network"):
        build.measure({"claim": "x"}, frame)
