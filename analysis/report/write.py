"""The report of a study, or of several side by side: ``python -m analysis.report results/<study> …``.

Writes ``report/report.html`` (one self-contained page), ``report.md``, ``figures/*.png`` and ``*.svg``, ``tables/*.csv``
into the study folder. Equal rows give equal bytes; dates appear only where the rows carry them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.report import several
from analysis.report.build import build_sections, write_files
from analysis.report.study import Study, disturbed_rows, early_rows, rate
from analysis.rows.load import load_study, place_of
from analysis.rows.meta import design_of, study_of
from analysis.rows.question import decided_rows
from study.rows.storage import Place


def write_report(path: str | Path, output: str | Path | None = None, tolerance: float | None = None) -> str:
    """Write the report of a study and return the path (or URI) of its HTML page.

    Args:
        path: a study folder, ``results/<study>``, or its ``s3://`` URI.
        output: folder to write to; default ``<path>/report``.
        tolerance: rate against this fraction instead of the study's ``analysis.tolerance``.
    Raises:
        AnalysisError: no study there, or an unreadable file.
    """
    frame = load(path, tolerance)
    return write_one(studies_of([frame])[0], output_of([path], [frame], output)).uri


def write_reports(paths: Sequence[str | Path], output: str | Path | None = None, tolerance: float | None = None) -> str:
    """Write one report of several studies side by side and return the path (or URI) of its HTML page.

    Args:
        paths: two or more study folders.
        output: folder to write to; default ``report-<name>-<name>`` beside the studies, where they have a common folder.
        tolerance: rate against this fraction instead of each study's own.
    Raises:
        AnalysisError: a study is missing, unreadable or named twice, or there is no common folder.
    """
    studies = studies_of([load(path, tolerance) for path in paths])
    return write_several(studies, output_of(paths, [study.frame for study in studies], output)).uri


def studies_of(frames: Sequence[pd.DataFrame]) -> list[Study]:
    """Name each study of a report, rate it and set its disturbed rows apart."""
    labels, decided = several.labels(frames), [decided_rows(frame) for frame in frames]
    named = zip(labels, decided, strict=True)
    return [Study(name, frame, rate(frame), disturbed_rows(frame), early_rows(frame)) for name, frame in named]


def output_of(paths: Sequence[str | Path], frames: Sequence[pd.DataFrame], output: str | Path | None) -> Place:
    """Return the folder of a report: the one asked for, or the default for one study or several."""
    if output is not None:
        return place_of(output)
    if len(paths) == 1:
        return place_of(paths[0]) / "report"
    return several.default_output([place_of(path) for path in paths], several.labels(frames))


def load(path: str | Path, tolerance: float | None) -> pd.DataFrame:
    """Load a study; a tolerance given here replaces that of the study."""
    frame = load_study(path)
    if tolerance is not None:
        study = study_of(frame)
        study["analysis"] = {**(study.get("analysis") or {}), "tolerance": tolerance}
    return frame


def write_one(study: Study, output: Place) -> Place:
    """Write the report of one study and return its page."""

    frame = study.frame

    def write(folder: Path) -> Path:
        sections = build_sections(replace(study, figures=folder / "figures"))
        n_done = int(frame["status"].ne("pending").sum())
        title = f"{study_of(frame).get('name', 'study')}: robustness report"
        subtitle = f"{design_of(frame)} design, {n_done} of {len(frame)} cells measured"
        return write_files(folder, title, subtitle, sections, study.tables)

    return _publish(write, output)


def write_several(studies: Sequence[Study], output: Place) -> Place:
    """Write one report of several studies and return its page."""

    def write(folder: Path) -> Path:
        sections = several.sections(studies, folder / "figures")
        title = f"{', '.join(study.name for study in studies)}: robustness side by side"
        rows = {f"{study.name}/{name}": table for study in studies for name, table in study.tables.items()}
        return write_files(folder, title, f"{len(studies)} studies", sections, rows)

    return _publish(write, output)


def _publish(write: Callable[[Path], Path], output: Place) -> Place:
    """Write the report; for an object store it is made in a temporary folder and uploaded, the page last."""
    if not output.remote:
        write(output.local)
        return output / "report.html"
    with tempfile.TemporaryDirectory(prefix="pfgm-report-") as temporary:
        page = write(Path(temporary))
        for file in sorted(Path(temporary).rglob("*"), key=lambda path: path == page):
            if file.is_file():
                (output / file.relative_to(temporary).as_posix()).write(file.read_bytes())
    return output / "report.html"
