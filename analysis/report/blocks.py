"""The report as data: sections of paragraphs, tables, figures and code, rendered as HTML and as Markdown.

Both renderers are pure functions of the blocks, so equal rows give equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    lead: bool = False
    """Printed larger: a verdict."""


@dataclass(frozen=True)
class Items:
    """A bulleted list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """A block of code to copy."""

    text: str
    language: str = "yaml"


MAX_ROWS = 200
"""Rows of a static table on the page; the rest is in its CSV, and the caption says so."""


@dataclass(frozen=True)
class TableBlock:
    """A table of text cells, also written as tables/<name>.csv by the report."""

    name: str
    caption: str
    frame: pd.DataFrame
    interactive: bool = False
    """Sortable and filterable, for the long one."""
    source: str | None = None
    """tables/<source>.csv holds every row of the long one, of which the page shows some; it is then not written again."""

    @property
    def shown(self) -> pd.DataFrame:
        """Return the rows that stand on the page."""
        return self.frame if self.interactive else self.frame.head(MAX_ROWS)

    @property
    def shown_caption(self) -> str:
        """Return the caption, which says so where the page does not show every row."""
        n = len(self.frame)
        if self.interactive or n <= MAX_ROWS:
            return self.caption
        return f"{self.caption} The first {MAX_ROWS} of {n} rows; all are in tables/{self.name}.csv."


@dataclass(frozen=True)
class Figure:
    """A figure stored as figures/<name>.png and .svg."""

    name: str
    caption: str
    alt: str
    png: bytes


@dataclass(frozen=True)
class Links:
    """A list of the sections that follow, for a long page."""

    sections: tuple[Section, ...]


Block = Text | Items | Code | TableBlock | Figure | Links


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    key: str
    title: str
    blocks: tuple[Block, ...]
    level: int = 2
    """Level of the heading; 3 for the sections of one study among several."""


def within_study(section: Section, name: str) -> Section:
    """Return a section of one study among several: its anchors, figures and tables begin with the study's name."""
    blocks = tuple(replace(b, name=f"{name}/{b.name}") if isinstance(b, TableBlock | Figure) else b for b in section.blocks)
    sources = tuple(
        replace(b, source=f"{name}/{b.source}") if isinstance(b, TableBlock) and b.source is not None else b for b in blocks
    )
    return Section(f"{name}-{section.key}", f"{name}: {section.title}", sources, 3)
