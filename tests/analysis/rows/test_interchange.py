"""A study in other programs: Optuna reads the configurations, CSV the numbers, and the checks find what was broken."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
import pytest

from analysis import AnalysisError, load_studies, load_study, of_study, summarize, to_csv, to_optuna
from analysis.rows import optuna_trials
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from study.rows.records import EVALS

PLOTS = ("optimization_history", "param_importances", "slice", "contour", "parallel_coordinate", "edf", "rank", "timeline")
EFFECTS = {"sigma": lambda v: 2 * math.log(v / 0.1) ** 2, "T_ratio": lambda v: 0.3 * abs(math.log(v))}


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def status(row: dict[str, object]) -> str:
    if row["train_sigma"] == 0.3 and row["seed_train"] == 0:
        return "failed"
    return "diverged" if row["sampler_T_ratio"] == 5.0 else "pending" if row["sampler_rtol"] == 1e-2 else "complete"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    truth = Truth(status=status, effects=EFFECTS, samples=False, sample_seeds=2)
    return write_study(tmp_path_factory.mktemp("studies") / "synthetic", truth)


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    return load_study(folder)


@pytest.fixture(scope="module")
def sobol(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    truth = Truth(design="sobol", trials=12, effects=EFFECTS, samples=False, train_seeds=2)
    return load_study(write_study(tmp_path_factory.mktemp("sobol") / "synthetic", truth))


def test_one_trial_a_configuration_with_the_mean_of_its_seeds(frame: pd.DataFrame) -> None:
    before = frame.copy()
    study = to_optuna(frame)
    pd.testing.assert_frame_equal(frame, before)
    means = summarize(frame).set_index(["point_id", "sampler_id"])
    measured = frame.loc[frame["status"].ne("pending")].drop_duplicates(["point_id", "sampler_id"])
    assert len(study.trials) == len(measured)
    for trial in study.trials:
        expected = means.loc[(trial.user_attrs["point_id"], trial.user_attrs["sampler_id"])]
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.value == pytest.approx(expected["mean"], rel=1e-12)
            assert trial.user_attrs["train_seeds"] == [0, 1, 2] and trial.user_attrs["sample_seeds"] == [0, 1]
    every = frame.drop_duplicates(["point_id", "sampler_id"])
    assert study.user_attrs["skipped"]["configuration without a measured cell"] == len(every) - len(measured) > 0


def test_failed_and_diverged_configurations_are_no_winners(frame: pd.DataFrame) -> None:
    states = optuna.trial.TrialState
    for trial in to_optuna(frame).trials:
        bad = trial.user_attrs["statuses"]
        expected = states.FAIL if "failed" in bad else states.PRUNED if "diverged" in bad else states.COMPLETE
        assert trial.state == expected
        if expected != states.COMPLETE:
            assert trial.value is None


def test_parameters_are_there_where_they_are_active(frame: pd.DataFrame) -> None:
    for trial in to_optuna(frame).trials:
        heun = trial.params["sampler.solver"] == "heun2"
        assert ("sampler.steps" in trial.params) == heun
        assert ("sampler.rtol" in trial.params) == (not heun)
    space = next(t.distributions for t in to_optuna(frame).trials if "sampler.rtol" in t.params)
    assert space["train.sigma"] == optuna.distributions.FloatDistribution(0.03, 0.3, log=True)
    assert space["train.M"] == optuna.distributions.FloatDistribution(60.0, 180.0)
    assert set(space["train.reference_batch_size"].choices) == {128, 512, "all"}


def test_one_trial_a_row(frame: pd.DataFrame) -> None:
    study = to_optuna(frame, "precision", unit="row")
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert len(study.trials) == frame["status"].ne("pending").sum()
    values = frame.set_index("cell_id")["metric_precision"]
    done = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    assert all(t.value == values[t.user_attrs["cell_ids"][0]] for t in done)
    with pytest.raises(AnalysisError, match="use configuration or row"):
        to_optuna(frame, unit="seed")


def test_a_default_outside_the_box_widens_it_and_says_so(frame: pd.DataFrame) -> None:
    narrow = frame.copy()
    narrow.attrs = {**frame.attrs, "study": {**frame.attrs["study"]}}
    search = narrow.attrs["study"]["search"]
    train = {**search["train"], "sigma": {"log_uniform": [0.15, 0.3]}}
    narrow.attrs["study"]["search"] = {**search, "train": train}
    study = to_optuna(narrow)
    assert study.user_attrs["widened"] == ["train.sigma"]
    assert study.trials[0].distributions["train.sigma"].low == pytest.approx(0.03)


@pytest.fixture(scope="module")
def studies(frame: pd.DataFrame, sobol: pd.DataFrame) -> dict[str, optuna.Study]:
    return {"one_at_a_time": to_optuna(frame), "sobol": to_optuna(sobol)}


@pytest.mark.parametrize("design", ["one_at_a_time", "sobol"])
@pytest.mark.parametrize("plot", PLOTS)
def test_optunas_plots_draw_it(plot: str, design: str, studies: dict[str, optuna.Study]) -> None:
    study = studies[design]
    keys = {} if plot != "contour" else {"params": ["train.sigma", "sampler.T_ratio"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = getattr(optuna.visualization.matplotlib, f"plot_{plot}")(study, **keys)
    drawn = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()[0]
    assert drawn.has_data()


@pytest.mark.parametrize("plot", PLOTS)
def test_optunas_plotly_plots_draw_it(plot: str, studies: dict[str, optuna.Study]) -> None:
    pytest.importorskip("plotly")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = getattr(optuna.visualization, f"plot_{plot}")(studies["one_at_a_time"])
    assert len(figure.data) >= 1


def test_times_come_from_the_rows(frame: pd.DataFrame) -> None:
    trial = to_optuna(frame).trials[0]
    assert trial.datetime_complete.isoformat() == "2026-01-02T03:04:05"
    assert trial.datetime_start < trial.datetime_complete


@pytest.mark.parametrize("unit", ["configuration", "row"])
def test_a_trial_holds_what_a_plain_loop_finds(frame: pd.DataFrame, unit: str) -> None:
    rows = frame.copy()
    late = rows.index % 3 == 0
    rows["prov_finished_at"] = rows["prov_finished_at"].where(~late, "2026-01-02T05:00:00.250000+00:00").where(rows.index > 5)
    keys = ["cell_id"] if unit == "row" else ["point_id", "sampler_id"]
    groups = [group.loc[group["status"].ne("pending")] for _, group in rows.groupby(keys, sort=False)]
    groups = [group for group in groups if len(group)]
    trials = to_optuna(rows, unit=unit).trials
    assert len(trials) == len(groups)
    for trial, group in zip(trials, groups, strict=True):
        facts = trial.user_attrs
        assert facts["cell_ids"] == group["cell_id"].tolist() and facts["n_rows"] == len(group)
        assert facts["statuses"] == group["status"].value_counts().to_dict()
        assert facts["errors"] == sorted(set(group["error"].dropna()))[:3]
        assert facts["train_seeds"] == sorted(set(group["seed_train"]))
        done = group.loc[group["status"].eq("complete")]
        assert facts["nfe"] == (pytest.approx(done["cost_nfe"].mean()) if len(done) else None)
        means = np.log(done["metric_fid"].astype(float)).groupby(done["train_id"]).mean()
        assert facts["mean_of_complete"] == (pytest.approx(math.exp(means.mean())) if len(done) else None)
        ends = [pd.Timestamp(text).tz_localize(None).to_pydatetime() for text in group["prov_finished_at"].dropna()]
        assert trial.datetime_complete == (max(ends) if ends else datetime(1970, 1, 1))
        assert trial.datetime_start < trial.datetime_complete if ends else trial.datetime_start == datetime(1970, 1, 1)


def test_a_point_is_read_once_however_many_its_rows(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    read = optuna_trials._declared_point
    monkeypatch.setattr(optuna_trials, "_declared_point", lambda row, wanted: seen.append(row) or read(row, wanted))
    to_optuna(frame, unit="row")
    assert len(seen) == len(frame.drop_duplicates(["point_id", "sampler_id"])) < len(frame) / 5


@pytest.mark.slow
def test_the_dashboard_serves_it(frame: pd.DataFrame, tmp_path: Path, free_port: int) -> None:
    pytest.importorskip("optuna_dashboard")
    url = f"sqlite:///{tmp_path / 'study.db'}"
    to_optuna(frame.loc[frame["design_role"].eq("default")], storage=url)
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", url, "--host", "127.0.0.1"]
    server = subprocess.Popen([*command, "--port", str(free_port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{free_port}/api/studies", timeout=10).read().decode()
                break
            except OSError:
                assert server.poll() is None, "the dashboard ended"
                time.sleep(0.3)
        assert '"study_name": "synthetic"' in answer
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_csv_reads_back_to_the_same_numbers(frame: pd.DataFrame, tmp_path: Path) -> None:
    back = pd.read_csv(to_csv(frame, tmp_path / "new" / "rows.csv"))
    assert back["cell_id"].tolist() == frame["cell_id"].tolist()
    np.testing.assert_array_equal(back["metric_fid"], frame["metric_fid"])


def test_studies_side_by_side_keep_their_own_facts(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "synthetic"
    write_study(other, Truth(train_axes=("sigma",), sampler_axes=(), samples=False, tolerance=0.2))
    both = load_studies([folder, other])
    names = list(both.attrs["studies"])
    assert len(set(names)) == 2 and all(name.endswith("/synthetic") for name in names)
    assert list(both.columns) == [*EVALS.names, "study"]
    assert len(both) == len(load_study(folder)) + len(load_study(other))
    back = of_study(both, names[1])
    pd.testing.assert_frame_equal(back, load_study(other), check_dtype=False)  # whole numbers beside nulls are floats
    assert back.attrs["study"]["analysis"]["tolerance"] == 0.2
    with pytest.raises(AnalysisError, match="not a study of this frame"):
        of_study(both, "third")
    with pytest.raises(AnalysisError, match="named twice"):
        load_studies([folder, folder])
    with pytest.raises(AnalysisError, match="no study given"):
        load_studies([])
