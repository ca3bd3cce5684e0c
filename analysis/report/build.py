"""The sections of one study's report, in reading order, and the files that the page is made from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from analysis.report.blocks import Section, TableBlock
from analysis.report.html import to_html
from analysis.report.markdown import to_markdown
from analysis.report.study import Study
from pfgm.registry import Registry
from study.rows.records import write_text

logger = logging.getLogger("analysis.report")


SECTIONS: Registry[Callable[[Study], Section | None]] = Registry(
    "section",
    short="analysis.report.sections.answers.short:section",
    design="analysis.report.sections.record.design:section",
    verdict="analysis.report.sections.answers.verdict:section",
    noise="analysis.report.sections.record.noise:section",
    training="analysis.report.sections.measured.parameters:section",
    sampler="analysis.report.sections.measured.sampler:section",
    partial="analysis.report.sections.measured.partial:section",
    length="analysis.report.sections.answers.length:section",
    likelihood="analysis.report.sections.measured.likelihood:section",
    interaction="analysis.report.sections.measured.interaction:section",
    box="analysis.report.sections.answers.box:section",
    importance="analysis.report.sections.measured.importance:section",
    theory="analysis.report.sections.measured.theory:section",
    degradation="analysis.report.sections.measured.degradation:section",
    equivalence="analysis.report.sections.answers.equivalence:section",
    failures="analysis.report.sections.record.failures:section",
    learning="analysis.report.sections.record.runs:learning",
    samples="analysis.report.sections.record.runs:samples",
    yaml="analysis.report.sections.record.runnable:section",
    rows="analysis.report.sections.record.table:section",
    methods="analysis.report.sections.record.methods:section",
)
"""The sections in reading order; one that returns None has nothing to say about a study."""


def build_sections(study: Study) -> list[Section]:
    """Return all sections in reading order; figures are written on the way, and the seconds of each section logged."""
    sections = []
    for name, make in SECTIONS.items():
        start = time.perf_counter()
        section = make(study)
        logger.debug("section %s: %.2f s", name, time.perf_counter() - start)
        sections += [section] if section is not None else []
    return sections


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
        bare = frame.copy(deep=False)
        bare.attrs = {}  # no part of a CSV, and not all of it can be written
        columns = pa.Table.from_pandas(bare, preserve_index=False)
        csv.write_csv(columns, tables / f"{name}.csv", csv.WriteOptions(quoting_style="needed"))
    write_text(folder / "report.md", to_markdown(title, subtitle, sections))
    page = folder / "report.html"
    write_text(page, to_html(title, subtitle, sections))
    logger.debug("section %s: %.2f s", "files", time.perf_counter() - start)
    return page
