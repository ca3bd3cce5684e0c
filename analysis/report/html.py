"""The report as one self-contained HTML page: a pure function of the blocks."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from analysis.report.assets import SCRIPT, STYLE
from analysis.report.blocks import Block, Code, Figure, Items, Links, Section, TableBlock, Text
from analysis.rows.words import RATING_MARKS

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def to_html(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return one self-contained page: images inlined, nothing loaded from outside."""
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


def _table_html(block: TableBlock) -> str:
    wide, name, caption = block.interactive, _anchor(block.name), html.escape(block.shown_caption)
    names = [html.escape(str(column)) for column in block.frame.columns]
    heads = "".join(f'<th scope="col">{f"<button type=button>{name}</button>" if wide else name}</th>' for name in names)
    shown = block.shown
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
