"""The sections of one study's report, in reading order, and the files that the page is made from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from analysis.report import figures as drawn
from analysis.report.blocks import Block, Section, TableBlock, Text, to_html, to_markdown
from analysis.report.sections import design, likelihood, results, runnable, table, verdict
from analysis.robustness.interval import ToleranceInterval, tolerance_interval
from analysis.rows.meta import searched_axes
from study.rows.records import write_text

logger = logging.getLogger("analysis.report")


def rate(frame: pd.DataFrame) -> list[ToleranceInterval]:
    """The verdict on every searched parameter."""
    return [tolerance_interval(frame, axis) for axis in searched_axes(frame) if axis.column in frame.columns]


def build_sections(
    frame: pd.DataFrame, intervals: Sequence[ToleranceInterval], figures: Path, disturbed: pd.DataFrame | None = None
) -> list[Section]:
    """All sections in reading order; figures are written to ``figures`` on the way, and the seconds of each logged.

    Args:
        frame: rows of `analysis.load_study`.
        intervals: from `rate`.
        figures: the folder of the figures.
        disturbed: the rows of disturbed fields, from `analysis.report.sections.design.disturbed_rows`.
    """
    rated = list(intervals)
    start = time.perf_counter()
    importance = results.importances(frame)
    logger.debug("section %s: %.2f s", "importances", time.perf_counter() - start)
    known, why = results.importance_words(importance), results.why_no_importance(frame, importance)
    parts: dict[str, Callable[[], Section | None]] = {
        "short": lambda: verdict.short(frame, rated, drawn.overview_panel(frame, figures, rated)),
        "design": lambda: design.overview(frame, disturbed),
        "verdict": lambda: verdict.verdict(frame, rated, known, why),
        "noise": lambda: _more(verdict.noise(frame), results.components_blocks(frame, figures)),
        "training": lambda: drawn.training_section(frame, figures, rated),
        "sampler": lambda: _more(drawn.sampler_section(frame, figures, rated), results.outlier_blocks(frame, figures)),
        "likelihood": lambda: likelihood.likelihood_section(frame),
        "interaction": lambda: drawn.interaction_section(frame, figures),
        "box": lambda: results.box_section(frame),
        "importance": lambda: results.importance_section(frame, figures, importance),
        "theory": lambda: results.theory_section(frame, figures),
        "degradation": lambda: results.degradation_section(frame, figures, disturbed),
        "equivalence": lambda: _equivalence(frame),
        "failures": lambda: verdict.failures(frame, disturbed),
        "learning": lambda: drawn.learning_section(frame, figures),
        "samples": lambda: drawn.samples_section(frame, figures),
        "yaml": lambda: runnable.runnable(frame),
        "rows": lambda: table.full_table(frame, disturbed),
        "methods": lambda: verdict.methods(frame),
    }
    sections = []
    for name, make in parts.items():
        start = time.perf_counter()
        section = make()
        logger.debug("section %s: %.2f s", name, time.perf_counter() - start)
        sections += [section] if section is not None else []
    return sections


def _more(section: Section, blocks: Sequence[Block]) -> Section:
    return replace(section, blocks=(*section.blocks, *blocks))


def _equivalence(frame: pd.DataFrame) -> Section | None:
    found = verdict.equivalence_result(frame)
    return Section("equivalence", "Equivalence", (Text(found, lead=True),)) if found is not None else None


def write_files(folder: Path, title: str, subtitle: str, sections: Sequence[Section], rows: dict[str, pd.DataFrame]) -> Path:
    """Write the tables, every row, the Markdown and, last, the page, whose path is returned.

    Args:
        folder: the report's folder; ``tables/`` is made in it.
        title: of the page.
        subtitle: one line below it.
        sections: from `build_sections`.
        rows: tables/<name>.csv of every row and column, by name.
    """
    start = time.perf_counter()
    tables = folder / "tables"
    for block in (b for section in sections for b in section.blocks if isinstance(b, TableBlock)):
        if block.source is None:
            path = tables / f"{block.name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            block.frame.to_csv(path, index=False)
    for name, frame in rows.items():
        (tables / name).parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        csv.write_csv(table, tables / f"{name}.csv", csv.WriteOptions(quoting_style="needed"))
    write_text(folder / "report.md", to_markdown(title, subtitle, sections))
    page = folder / "report.html"
    write_text(page, to_html(title, subtitle, sections))
    logger.debug("section %s: %.2f s", "files", time.perf_counter() - start)
    return page
