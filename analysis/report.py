"""The report of a study, or of several side by side: ``python -m analysis.report results/<study> …``.

Writes ``report/report.html`` (one self-contained page), ``report.md``, ``figures/*.png`` and ``*.svg``, ``tables/*.csv``
into the study folder. Equal rows give equal bytes; dates appear only where the rows carry them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis import report_sections, report_several
from analysis.load import AnalysisError, design_of, load_study, place_of, study_of
from analysis.report_build import build_sections, rate, write_files
from analysis.report_design import disturbed_rows
from analysis.robustness import ToleranceInterval
from study.storage import Place
from study.terminal import command

EPILOG = """\
what it shows
  The verdict first: for each searched parameter the tested values, the tolerance interval around the default, and a rating.
    robust        the metric stays within the tolerance at every tested value (simultaneous 95 % bounds)
    sensitive     at some tested value it is certainly beyond the tolerance, or runs fail or diverge
    undetermined  too few train seeds to say; the report prints how many would settle it
  Then noise and power, a panel per parameter, the quality-cost front, failures, samples, and the full table.
  Several studies: their verdicts in one table, each parameter that two of them searched in one figure (as a ratio to each
  study's own default), counts and cost; then the sections of each. The reports of the single studies stay as they are.

examples
  python -m analysis.report results/digits                      report into results/digits/report/
  python -m analysis.report results/digits --output /tmp/report another folder
  python -m analysis.report results/digits --tolerance 0.25     rate against 25 % instead of the study's tolerance
  python -m analysis.report results/digits results/fashion      side by side, into results/report-digits-fashion/

Studies in different folders are put into the folder that holds both; in different object stores, name one with --output.
A partial study is fine: cells that were not measured yet are counted as pending. Exit codes: 0 written, 2 no such study or
an unreadable file.
"""


def write_report(path: str | Path, output: str | Path | None = None, tolerance: float | None = None) -> str:
    """Write the report of a study and return the path (or URI) of its HTML page.

    Args:
        path: a study folder, ``results/<study>``, or its ``s3://`` URI.
        output: folder to write to; default ``<path>/report``.
        tolerance: rate against this fraction instead of the study's ``analysis.tolerance``.
    Raises:
        AnalysisError: no study there, or an unreadable file.
    """
    frame = _load(path, tolerance)
    return _write_one(_studies([frame])[0], _output([path], [frame], output)).uri


def write_reports(paths: Sequence[str | Path], output: str | Path | None = None, tolerance: float | None = None) -> str:
    """Write one report of several studies side by side and return the path (or URI) of its HTML page.

    Args:
        paths: two or more study folders.
        output: folder to write to; default ``report-<name>-<name>`` beside the studies, where they have a common folder.
        tolerance: rate against this fraction instead of each study's own.
    Raises:
        AnalysisError: a study is missing, unreadable or named twice, or there is no common folder.
    """
    studies = _studies([_load(path, tolerance) for path in paths])
    return _write_several(studies, _output(paths, [study.frame for study in studies], output)).uri


def _studies(frames: Sequence[pd.DataFrame]) -> list[report_several.Study]:
    labels = report_several.labels(frames)
    return [
        report_several.Study(name, frame, rate(frame), disturbed_rows(frame))
        for name, frame in zip(labels, frames, strict=True)
    ]


def _output(paths: Sequence[str | Path], frames: Sequence[pd.DataFrame], output: str | Path | None) -> Place:
    if output is not None:
        return place_of(output)
    if len(paths) == 1:
        return place_of(paths[0]) / "report"
    return report_several.default_output([place_of(path) for path in paths], report_several.labels(frames))


def _load(path: str | Path, tolerance: float | None) -> pd.DataFrame:
    frame = load_study(path)
    if tolerance is not None:
        study = study_of(frame)
        study["analysis"] = {**(study.get("analysis") or {}), "tolerance": tolerance}
    return frame


def _write_one(study: report_several.Study, output: Place) -> Place:
    frame = study.frame

    def write(folder: Path) -> Path:
        sections = build_sections(frame, study.intervals, folder / "figures", study.disturbed)
        n_done = int(frame["status"].ne("pending").sum())
        title = f"{study_of(frame).get('name', 'study')}: robustness report"
        subtitle = f"{design_of(frame)} design, {n_done} of {len(frame)} cells measured"
        return write_files(folder, title, subtitle, sections, study.tables)

    return _publish(write, output)


def _write_several(studies: Sequence[report_several.Study], output: Place) -> Place:
    def write(folder: Path) -> Path:
        sections = report_several.sections(studies, folder / "figures")
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


def print_verdict(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval], console: Console) -> None:
    """The verdict in words and as a table, and the equivalence line if there is one."""
    for sentence in report_sections.verdict_sentences(frame, intervals):
        console.print(sentence, markup=False, highlight=False)
    table = Table(title=f"Verdict at {int(frame['status'].ne('pending').sum())} of {len(frame)} cells")
    shown = report_sections.verdict_table(intervals)[["parameter", "default", "tolerance interval", "rating", "rule"]]
    for column in shown.columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("parameter", "default", "rating"))
    for row in shown.itertuples(index=False):
        table.add_row(*(str(value).replace("[", r"\[") for value in row))
    if len(shown):
        console.print(table)
    equivalence = report_sections.equivalence_result(frame)
    if equivalence is not None:
        console.print(equivalence, markup=False, highlight=False)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description="Turn the rows of a study, or of several, into a report.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("study", nargs="+", help="the study folder, results/<study>, or its s3:// URI; several: side by side")
    parser.add_argument(
        "--output", default=None, help="folder to write to (default: <study>/report; several: report-<name>-<name> beside them)"
    )
    parser.add_argument("--tolerance", type=float, default=None, help="rate against this fraction, e.g. 0.25")
    options = parser.parse_args(arguments)
    output: Place | None = None
    try:
        if options.tolerance is not None and not 0 < options.tolerance < 10:
            raise AnalysisError(f"--tolerance: must be a fraction above 0, e.g. 0.10 for 10 %, got {options.tolerance:g}")
        frames = [_load(path, options.tolerance) for path in options.study]
        output = _output(options.study, frames, options.output)
        studies = _studies(frames)
        page = _write_one(studies[0], output) if len(studies) == 1 else _write_several(studies, output)
    except AnalysisError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        place = output or options.output
        print(f"cannot write {place} ({error.strerror or error}); name another folder with --output", file=sys.stderr)
        return 2
    console = Console()
    for study in studies:
        if len(studies) > 1:
            console.rule(study.name)
        print_verdict(study.frame, study.intervals, console)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
