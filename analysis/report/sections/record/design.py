"""Say what the study was: data, design, counts, cost, versions, command and exclusions."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from analysis.report.blocks import Block, Code, Items, Section, TableBlock, Text
from analysis.report.study import Study
from analysis.rows.meta import design_of, study_of
from analysis.rows.metrics import default_metric, metric_values
from analysis.rows.units import field_key
from analysis.rows.words import format_value
from analysis.statistics.summary import failure_table


def section(study: Study) -> Section:
    """Say what the study was: data, design, counts, cost, versions, command and exclusions."""
    frame, disturbed, source = study.frame, study.disturbed, study_of(study.frame)
    blocks: list[Block] = [Items(tuple(_facts(study)))]
    blocks.append(TableBlock("counts", "Cells by outcome.", failure_table(frame).drop(columns="value")))
    if disturbed is not None:
        counts = failure_table(disturbed, "perturb_kind").rename(columns={"value": "disturbance"})
        blocks.append(TableBlock("counts-disturbed", "Rows of disturbed fields by outcome.", counts))
    blocks.append(TableBlock("search", "What was searched.", _search_table(frame)))
    blocks.append(Text("The command that made these rows, and continues an unfinished study:"))
    folder = f"{source.get('storage', 'results')}/{source.get('name', 'study')}"
    blocks.append(Code(f"python -m study.run {folder}/study.yaml\npython -m analysis.report {folder}", "bash"))
    excluded = [f"{reason}: {n}" for reason, n in {**frame.attrs["skipped"], **_unusable(frame)}.items()]
    blocks.append(Text("Left out of the statistics, and why: " + ("; ".join(excluded) if excluded else "nothing") + "."))
    return Section("design", "Data and design", tuple(blocks))


def _unusable(frame: pd.DataFrame) -> dict[str, int]:
    return metric_values(frame, default_metric(frame))[1]


def _facts(study: Study) -> list[str]:
    frame, disturbed, source = study.frame, study.disturbed, study_of(study.frame)
    seeds, evaluate = source.get("seeds") or {}, source.get("evaluate") or {}
    n, dim = frame["data_n"].dropna(), frame["data_dim"].dropna()
    shape = f", {int(n.iloc[0])} points in {int(dim.iloc[0])} dimensions" if len(n) and len(dim) else ""
    described = ", ".join(f"{key} {value}" for key, value in (source.get("network") or {}).items() if value is not None)
    given = source.get("field") or {}
    trained = "" if given else f" train seeds {seeds.get('train', '?')},"
    network = f"Network: {described}"
    if given:
        network = f"Field: given, {given.get('checkpoint')} ({given.get('format')}); nothing was trained"
    if given.get("exact"):
        network = f"Field: {given['exact']}, known exactly, n_aug = {given.get('n_aug') or 1:g}; there is no network"
    apart = [] if disturbed is None else [f"Rows of disturbed fields, counted apart: {outcome_words(disturbed)}."]
    return [
        f"Data: {(source.get('data') or {}).get('name', '?')}{shape}. {network}.",
        f"Design: {design_of(frame)};{trained} sample seeds {seeds.get('sample', '?')}"
        f"{', disjoint between training points' if seeds.get('disjoint') else ''};"
        f" {evaluate.get('samples', '?')} samples a cell.",
        f"Cells: {outcome_words(frame)}; {frame['point_id'].nunique()} training points,"
        f" {field_key(frame).nunique()} fields, {frame['sampler_id'].nunique()} sampler points.",
        *apart,
        _cost(study.every),
        _versions(frame),
    ]


def outcome_words(rows: pd.DataFrame) -> str:
    """Return ``6 planned, 4 complete, 1 failed or diverged, 1 pending``."""
    counts = rows["status"].value_counts().to_dict()
    complete, pending = counts.get("complete", 0), counts.get("pending", 0)
    bad = len(rows) - complete - pending
    return f"{len(rows)} planned, {complete} complete, {bad} failed or diverged, {pending} pending"


class Cost(NamedTuple):
    """The hours that a study used."""

    training_core_hours: float
    measuring_core_hours: float
    gpu_hours: float
    """Hours of the rows measured on a GPU (``prov_device`` cuda…), training included."""

    @property
    def core_hours(self) -> float:
        """Return the hours of training and measuring together."""
        return self.training_core_hours + self.measuring_core_hours


def cost(frame: pd.DataFrame) -> Cost:
    """Sum seconds × threads (core-hours) and seconds on a GPU: training once a field, sampling and metrics of every row."""
    threads = frame["prov_threads"].fillna(1).astype(float)
    on_gpu = frame["prov_device"].fillna("").astype(str).str.startswith("cuda")
    train, field = frame["cost_train_s"].fillna(0.0), field_key(frame)
    rest = frame["cost_sample_s"].fillna(0.0) + frame["cost_metric_s"].fillna(0.0)
    training = (train * threads).groupby(field).max().sum()
    gpu = train.where(on_gpu, 0.0).groupby(field).max().sum() + rest.where(on_gpu, 0.0).sum()
    return Cost(float(training) / 3600, float((rest * threads).sum()) / 3600, float(gpu) / 3600)


def _cost(frame: pd.DataFrame) -> str:
    used = cost(frame)
    reused = frame["prov_field_reused"].eq(True).fillna(False).astype(bool)
    note = (
        f" ({field_key(frame)[reused].nunique()} fields came from the store, their training included)" if reused.any() else ""
    )
    return (
        f"Cost: {used.training_core_hours:.2f} core-hours of training, {used.measuring_core_hours:.2f} of sampling and metrics,"
        f" {used.gpu_hours:.2f} GPU-hours{note}."
    )


def _versions(frame: pd.DataFrame) -> str:
    names = {"prov_version": "toolkit", "prov_git": "git", "prov_training_version": "training version", "prov_torch": "torch",
             "prov_python": "python", "prov_device": "device", "prov_cpu": "cpu"}  # fmt: skip
    parts = []
    for column, name in names.items():
        values = sorted({format_value(v) for v in frame[column].dropna()})
        if values:
            parts.append(f"{name} {' and '.join(values)}")
    dates = sorted(str(v)[:10] for v in frame["prov_finished_at"].dropna())
    when = f"; rows finished {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else "") if dates else ""
    return f"Versions: {', '.join(parts) or 'none recorded'}{when}."


def _search_table(frame: pd.DataFrame) -> pd.DataFrame:
    search = study_of(frame).get("search") or {}
    rows = [
        {"parameter": name, "group": group, "distribution": ", ".join(f"{k}: {v}" for k, v in distribution.items())}
        for group in ("train", "sampler")
        for name, distribution in (search.get(group) or {}).items()
    ]
    return pd.DataFrame(rows, columns=["parameter", "group", "distribution"])
