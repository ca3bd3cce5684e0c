"""The report as data: sections of paragraphs, tables, figures and code, rendered as HTML and as Markdown.

Both renderers are pure functions of the blocks, so equal rows give equal bytes.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.report.assets import SCRIPT, STYLE
from analysis.rows.words import RATING_MARKS


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
    """Of the heading; 3 for the sections of one study among several."""


def within_study(section: Section, name: str) -> Section:
    """A section of one study among several: names of its anchors, figures and tables begin with the study's."""
    blocks = tuple(replace(b, name=f"{name}/{b.name}") if isinstance(b, TableBlock | Figure) else b for b in section.blocks)
    sources = tuple(
        replace(b, source=f"{name}/{b.source}") if isinstance(b, TableBlock) and b.source is not None else b for b in blocks
    )
    return Section(f"{name}-{section.key}", f"{name}: {section.title}", sources, 3)


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def to_html(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """One self-contained page: images inlined, nothing loaded from outside."""
    links = "".join(_link(s) for s in sections if s.level == 2)
    body = "\n".join(_section_html(section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(title)}</title>
<style>
{STYLE}</style>
</head>
<body>
<a class="skip" href="#short">Skip to the verdict</a>
<header><h1>{html.escape(title)}</h1><p>{html.escape(subtitle)}</p></header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{body}
</main>
<script>
{SCRIPT}</script>
</body>
</html>
"""


def _link(section: Section) -> str:
    return f'<li><a href="#{html.escape(section.key)}">{html.escape(section.title)}</a></li>'


def _section_html(section: Section) -> str:
    blocks = "\n".join(_block_html(block) for block in section.blocks)
    key, level = html.escape(section.key), section.level
    heading = f'<h{level} id="{key}-h">{html.escape(section.title)}</h{level}>'
    return f'<section id="{key}" aria-labelledby="{key}-h">{heading}\n{blocks}\n</section>'


def _anchor(name: str) -> str:
    return html.escape(name.replace("/", "-"))


def _block_html(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p{' class=lead' if block.lead else ''}>{html.escape(block.text)}</p>"
    if isinstance(block, Items):
        return f"<ul>{''.join(f'<li>{html.escape(item)}</li>' for item in block.items)}</ul>"
    if isinstance(block, Code):
        return f'<pre tabindex="0"><code>{html.escape(block.text)}</code></pre>'
    if isinstance(block, Figure):
        data = base64.b64encode(block.png).decode("ascii")
        image = f'<img src="data:image/png;base64,{data}" alt="{html.escape(block.alt)}">'
        box = f'<div class="pan" tabindex="0" role="group" aria-label="Figure {_anchor(block.name)}">{image}</div>'
        caption = f"<figcaption>{html.escape(block.caption)}</figcaption>"
        return f'<figure id="fig-{_anchor(block.name)}">{box}{caption}</figure>'
    if isinstance(block, Links):
        return f"<ul>{''.join(_link(section) for section in block.sections)}</ul>"
    return _table_html(block)


MAX_ROWS = 200
"""Rows of a static table on the page; the rest is in its CSV, and the caption says so."""


def _caption(block: TableBlock) -> str:
    n = len(block.frame)
    if block.interactive or n <= MAX_ROWS:
        return block.caption
    return f"{block.caption} The first {MAX_ROWS} of {n} rows; all are in tables/{block.name}.csv."


def _table_html(block: TableBlock) -> str:
    wide, name, caption = block.interactive, _anchor(block.name), html.escape(_caption(block))
    names = [html.escape(str(column)) for column in block.frame.columns]
    heads = "".join(f'<th scope="col">{f"<button type=button>{name}</button>" if wide else name}</th>' for name in names)
    shown = block.frame if wide else block.frame.head(MAX_ROWS)
    rows = "\n".join(_row_html(row) for row in shown.itertuples(index=False, name=None))
    search = (
        f'<p><label>Filter rows <input type="search" data-table="table-{name}" placeholder="e.g. diverged"></label>'
        f' <output aria-live="polite">{len(shown)} of {len(shown)} rows</output></p>'
        if wide
        else ""
    )
    return (
        f'{search}<div class="scroll" tabindex="0" role="region" aria-label="Table {name}: {caption}">'
        f'<table id="table-{name}"{" class=full" if wide else ""}><caption>{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )


def _row_html(row: tuple[object, ...]) -> str:
    cells = []
    for value in row:
        text = html.escape(str(value))
        rating = f' class="{text.replace(" ", "-")}"' if text in RATING_MARKS else ""
        mark = f"{RATING_MARKS[text]} " if text in RATING_MARKS else ""
        cells.append(f"<td{rating}>{mark}{text}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def to_markdown(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The same report as Markdown; figures link to figures/*.png, the long table to its CSV."""
    parts = [f"# {title}", subtitle]
    for section in sections:
        parts.append(f"{'#' * section.level} {section.title}")
        parts += [_block_markdown(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block_markdown(block: Block) -> str:
    if isinstance(block, Text):
        return f"**{block.text}**" if block.lead else block.text
    if isinstance(block, Items):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Code):
        return f"```{block.language}\n{block.text.rstrip()}\n```"
    if isinstance(block, Figure):
        return f"![{block.alt}](figures/{block.name}.png)\n\n*{block.caption}*"
    if isinstance(block, Links):
        return "\n".join(f"- {section.title}" for section in block.sections)
    if block.interactive:
        source = block.source or block.name
        return f"{block.caption} See [tables/{source}.csv](tables/{source}.csv)."
    lines = [[str(column) for column in block.frame.columns], ["---"] * block.frame.shape[1]]
    lines += [
        [str(value).replace("|", "\\|").replace("\n", " ") for value in row]
        for row in block.frame.head(MAX_ROWS).itertuples(index=False, name=None)
    ]
    return f"*{_caption(block)}*\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
