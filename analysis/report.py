"""The report of a study: ``python -m analysis.report results/<study>``.

Writes ``report/report.html`` (one self-contained page), ``report.md``, ``figures/*.png`` and ``*.svg``, ``tables/*.csv``
into the study folder. Equal rows give equal bytes; dates appear only where the rows carry them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis import report_design, report_figures, report_sections, report_yaml
from analysis.load import AnalysisError, design_of, load_study, place_of, searched_axes, study_of
from analysis.report_blocks import Section, TableBlock, Text, to_html, to_markdown
from analysis.robustness import ToleranceInterval, tolerance_interval
from study.records import write_text
from study.storage import Place

EPILOG = """\
what it shows
  The verdict first: for each searched parameter the tested values, the tolerance interval around the default, and a rating.
    robust        the metric stays within the tolerance at every tested value (simultaneous 95 % bounds)
    sensitive     at some tested value it is certainly beyond the tolerance, or runs fail or diverge
    undetermined  too few train seeds to say; the report prints how many would settle it
  Then noise and power, a panel per parameter, the quality-cost front, failures, samples, and the full table.

examples
  python -m analysis.report results/digits                      report into results/digits/report/
  python -m analysis.report results/digits --output /tmp/report another folder
  python -m analysis.report results/digits --tolerance 0.25     rate against 25 % instead of the study's tolerance

A partial study is fine: cells that were not measured yet are counted as pending. Exit codes: 0 written, 2 no such study or
an unreadable file.
"""


def build_sections(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval], figures: Path) -> list[Section]:
    """All sections in reading order; figures are written to ``figures`` on the way."""
    tuple_of = list(intervals)
    train = report_figures.parameter_panels(frame, figures, "train", tuple_of)
    sampler = report_figures.sampler_panels(frame, figures)
    sampler += report_figures.parameter_panels(frame, figures, "sampler", tuple_of)
    crossed = report_figures.interaction_panels(frame, figures)
    equivalence = report_sections.equivalence_result(frame)
    sections = [
        report_sections.short(frame, intervals),
        report_design.overview(frame),
        report_sections.verdict(frame, intervals),
        report_sections.noise(frame),
        Section("training", "Training parameters", tuple(train) or (Text("No training parameter was searched."),)),
        Section("sampler", "Sampler", tuple(sampler)),
    ]
    if crossed:
        sections.append(Section("interaction", "Training × sampler", tuple(crossed)))
    if equivalence is not None:
        sections.append(Section("equivalence", "Equivalence", (Text(equivalence[4], lead=True),)))
    sections += [
        report_sections.failures(frame),
        report_figures.learning_section(frame, figures),
        report_figures.samples_section(frame, figures),
        report_yaml.runnable(frame),
        report_sections.full_table(frame),
        report_sections.methods(frame),
    ]
    return sections


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
    return _write(frame, rate(frame), place_of(output) if output is not None else place_of(path) / "report").uri


def rate(frame: pd.DataFrame) -> list[ToleranceInterval]:
    """The verdict on every searched parameter."""
    return [tolerance_interval(frame, axis) for axis in searched_axes(frame) if axis.column in frame.columns]


def _load(path: str | Path, tolerance: float | None) -> pd.DataFrame:
    frame = load_study(path)
    if tolerance is not None:
        study = study_of(frame)
        study["analysis"] = {**(study.get("analysis") or {}), "tolerance": tolerance}
    return frame


def _write(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval], output: Place) -> Place:
    """Write the report; for an object store it is made in a temporary folder and uploaded, the page last."""
    if not output.remote:
        _write_local(frame, intervals, output.local)
        return output / "report.html"
    with tempfile.TemporaryDirectory(prefix="pfgm-report-") as temporary:
        page = _write_local(frame, intervals, Path(temporary))
        for file in sorted(Path(temporary).rglob("*"), key=lambda path: path == page):
            if file.is_file():
                (output / file.relative_to(temporary).as_posix()).write(file.read_bytes())
    return output / "report.html"


def _write_local(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval], folder: Path) -> Path:
    sections = build_sections(frame, intervals, folder / "figures")
    name = str(study_of(frame).get("name", "study"))
    n_done = int(frame["status"].ne("pending").sum())
    title = f"{name}: robustness report"
    subtitle = f"{design_of(frame)} design, {n_done} of {len(frame)} cells measured"
    tables = folder / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    for block in (b for section in sections for b in section.blocks if isinstance(b, TableBlock)):
        block.frame.to_csv(tables / f"{block.name}.csv", index=False)
    frame.to_csv(tables / "rows.csv", index=False)
    write_text(folder / "report.md", to_markdown(title, subtitle, sections))
    page = folder / "report.html"
    write_text(page, to_html(title, subtitle, sections))
    return page


def print_verdict(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval], page: Place, console: Console) -> None:
    """The verdict table, the equivalence line if there is one, and where the report is."""
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
        console.print(equivalence[4], markup=False, highlight=False)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description="Turn the rows of a study into a report.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("study", help="the study folder, results/<study>, or its s3:// URI")
    parser.add_argument("--output", default=None, help="folder to write to (default: <study>/report)")
    parser.add_argument("--tolerance", type=float, default=None, help="rate against this fraction, e.g. 0.25")
    options = parser.parse_args(arguments)
    try:
        if options.tolerance is not None and not 0 < options.tolerance < 10:
            raise AnalysisError(f"--tolerance: must be a fraction above 0, e.g. 0.10 for 10 %, got {options.tolerance:g}")
        frame = _load(options.study, options.tolerance)
        intervals = rate(frame)
        output = place_of(options.output) if options.output else place_of(options.study) / "report"
        page = _write(frame, intervals, output)
    except AnalysisError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        place = options.output or f"{options.study}/report"
        print(f"cannot write {place} ({error.strerror or error}); name another folder with --output", file=sys.stderr)
        return 2
    print_verdict(frame, intervals, page, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
