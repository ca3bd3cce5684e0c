"""A study for other programs: several studies in one frame, Optuna's plots and dashboard, a CSV table.

What leaves this package loses the rules that its statistics keep, so each function says what one record of the other
program stands for. Optuna knows one value a trial and no seeds: a trial here is a configuration, training point ×
sampler point, valued by the geometric mean over its train and sample seeds; or, on request, one measured row.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.rows.facts import column_of
from analysis.rows.load import load_study
from analysis.rows.meta import AnalysisError, Shared, study_of
from analysis.rows.metrics import is_log, metric_values
from analysis.rows.optuna_trials import declared_points, distributions, frozen_trial, trial_facts
from analysis.rows.question import MAIN, statistic
from study.rows.storage import Place

if TYPE_CHECKING:
    import optuna


def load_studies(paths: Iterable[str | Path | Place]) -> pd.DataFrame:
    """Load several studies into one frame, for the same study on two data sets or on two machines.

    The frame has the columns of one study and ``study``, the folder's name; the counts and the YAML of each stay apart,
    because an axis, a default or a tolerance belongs to one study. `of_study` gives one study back, as `load_study` does.

    Args:
        paths: study folders or ``s3://`` URIs; folders of one name are told apart by their parent's.
    Returns:
        Rows of all studies, whole numbers as floats where another study has none; ``attrs["studies"]``: {name: attrs of
        `load_study`}; ``attrs["skipped"]``: {"name: reason": count}.
    Raises:
        AnalysisError: no path given, one path given twice, or a study that cannot be read.
    """
    frames = [load_study(path) for path in paths]
    if not frames:
        raise AnalysisError("load_studies: no study given; name at least one folder, results/<study>")
    names = _distinct_names([str(frame.attrs["path"]) for frame in frames])
    attrs = {name: dict(frame.attrs) for name, frame in zip(names, frames, strict=True)}
    labelled = []
    for name, frame in zip(names, frames, strict=True):
        frame.attrs = {}
        labelled.append(frame.assign(study=name))
    result = pd.concat(labelled, ignore_index=True)
    skipped = {f"{name}: {reason}": n for name, own in attrs.items() for reason, n in own["skipped"].items()}
    result.attrs = {"studies": Shared(attrs), "skipped": skipped}
    return result


def of_study(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return one study of a `load_studies` frame with its own ``attrs``, for every function that takes one study.

    Raises:
        AnalysisError: no such study in the frame.
    """
    studies = frame.attrs.get("studies") or {}
    if name not in studies:
        raise AnalysisError(f"{name}: not a study of this frame; it holds {', '.join(studies) or 'none'}")
    result = frame.loc[frame["study"].eq(name)].drop(columns="study").reset_index(drop=True)
    result.attrs = dict(studies[name])
    return result


def _distinct_names(paths: list[str]) -> list[str]:
    """Return the shortest tails of the paths that differ: ``digits``, or ``a/digits`` beside ``b/digits``."""
    parts = [Place.of(path).absolute().path.rstrip("/").split("/") for path in paths]
    if len({tuple(part) for part in parts}) < len(parts):
        raise AnalysisError(f"load_studies: a study is named twice in {', '.join(paths)}; name each once")
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return paths


def to_csv(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a frame as UTF-8 CSV that reads back to the same numbers (17 digits); null is an empty field.

    Args:
        frame: any frame of this package.
        path: the file; its folder is made when missing.
    Returns:
        The path. ``attrs`` (the YAML, the counts of skipped rows) do not fit in a table and stay behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(target, index=False, float_format="%.17g", encoding="utf-8")
    return target


@statistic()
def to_optuna(
    frame: pd.DataFrame,
    metric: str = MAIN,
    *,
    unit: str = "configuration",
    storage: str | None = None,
    name: str | None = None,
) -> optuna.Study:
    """Return the study as an Optuna study, for ``optuna.visualization`` and optuna-dashboard.

    unit "configuration": one trial a (training point, sampler point), value exp(mean of log metric over the fields' means)
    (shares: the plain mean). A configuration with a failed or timed-out cell is FAIL, with a diverged one PRUNED, whatever
    its other seeds gave: a mean of survivors would look too good. That mean is the user attribute ``mean_of_complete``.
    unit "row": one trial a measured cell, its train and sample seeds as user attributes.

    Parameters carry their group (``train.sigma``, ``sampler.rtol``) and appear where they are active only. Distributions
    are those of the search section, widened where the declared default lies outside (user attribute ``widened``).

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``; maximised where more is better, as of precision, else minimised.
        unit: ``configuration`` or ``row``.
        storage: an Optuna storage URL such as ``sqlite:///study.db``; in memory if None.
        name: name of the Optuna study (default: the study's).
    Returns:
        The Optuna study; its user attributes hold metric, unit, skipped ({reason: count}), widened and path.
    Raises:
        AnalysisError: another unit, or no searched parameter.
    """
    if unit not in ("configuration", "row"):
        raise AnalysisError(f"unit: got {unit}; use configuration or row")
    import optuna  # optional, and slow to import

    points = declared_points(frame)
    space, widened = distributions(frame, points)
    best = optuna.study.StudyDirection
    direction = best.MAXIMIZE if column_of(frame, metric).higher_is_better else best.MINIMIZE
    title = name or str(study_of(frame).get("name") or "study")
    study = optuna.create_study(storage=storage, study_name=title, direction=direction)
    values, skipped = metric_values(frame, metric)
    found = trial_facts(frame, values, ["cell_id"] if unit == "row" else ["point_id", "sampler_id"], is_log(frame, metric))
    study.add_trials(frozen_trial(facts, points[facts.row], space) for facts in found if facts.statuses)
    empty = sum(not facts.statuses for facts in found)
    if empty:
        skipped = {**skipped, f"{unit} without a measured cell": empty}
    facts = {"metric": metric, "unit": unit, "skipped": skipped, "widened": widened, "path": frame.attrs.get("path", "")}
    for key, value in facts.items():
        study.set_user_attr(key, value)
    return study
