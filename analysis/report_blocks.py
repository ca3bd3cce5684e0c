"""The report as data: sections of paragraphs, tables, figures and code, rendered as HTML and as Markdown.

Both renderers are pure functions of the blocks, so equal rows give equal bytes.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.report_assets import SCRIPT, STYLE


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


@dataclass(frozen=True)
class Figure:
    """A figure stored as figures/<name>.png and .svg."""

    name: str
    caption: str
    alt: str
    png: bytes


Block = Text | Items | Code | TableBlock | Figure


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    key: str
    title: str
    blocks: tuple[Block, ...]


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def to_html(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """One self-contained page: images inlined, nothing loaded from outside."""
    links = "".join(f'<li><a href="#{s.key}">{html.escape(s.title)}</a></li>' for s in sections)
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


def _section_html(section: Section) -> str:
    blocks = "\n".join(_block_html(block) for block in section.blocks)
    heading = f'<h2 id="{section.key}-h">{html.escape(section.title)}</h2>'
    return f'<section id="{section.key}" aria-labelledby="{section.key}-h">{heading}\n{blocks}\n</section>'


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
        return f'<figure id="fig-{block.name}">{image}<figcaption>{html.escape(block.caption)}</figcaption></figure>'
    return _table_html(block)


def _table_html(block: TableBlock) -> str:
    wide = block.interactive
    names = [html.escape(str(column)) for column in block.frame.columns]
    heads = "".join(f'<th scope="col">{f"<button type=button>{name}</button>" if wide else name}</th>' for name in names)
    rows = "\n".join(_row_html(row) for row in block.frame.itertuples(index=False))
    search = (
        f'<p><label>Filter rows <input type="search" data-table="table-{block.name}" placeholder="e.g. diverged"></label>'
        ' <output aria-live="polite"></output></p>'
        if wide
        else ""
    )
    return (
        f'{search}<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(block.caption)}">'
        f'<table id="table-{block.name}"{" class=full" if wide else ""}><caption>{html.escape(block.caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )


def _row_html(row: tuple[object, ...]) -> str:
    cells = []
    for value in row:
        text = html.escape(str(value))
        rating = f' class="{text.replace(" ", "-")}"' if text in _MARKS else ""
        mark = f"{_MARKS[text]} " if text in _MARKS else ""
        cells.append(f"<td{rating}>{mark}{text}</td>")
    return f"<tr>{''.join(cells)}</tr>"


_MARKS = {"robust": "●", "sensitive": "▲", "undetermined": "○", "not rated": "–"}
"""Shapes beside the words, so that no rating is told by colour alone."""


def to_markdown(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The same report as Markdown; figures link to figures/*.png, the long table to its CSV."""
    parts = [f"# {title}", subtitle]
    for section in sections:
        parts.append(f"## {section.title}")
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
    if block.interactive:
        return f"{block.caption} See [tables/{block.name}.csv](tables/{block.name}.csv)."
    lines = [[str(column) for column in block.frame.columns], ["---"] * block.frame.shape[1]]
    lines += [
        [str(value).replace("|", "\\|").replace("\n", " ") for value in row] for row in block.frame.itertuples(index=False)
    ]
    return f"*{block.caption}*\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
