"""The report as Markdown: a pure function of the blocks."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.report.blocks import Block, Code, Figure, Items, Links, Section, Text


def to_markdown(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the report as Markdown: figures link to figures/*.png, the long table to its CSV."""
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
        for row in block.shown.itertuples(index=False, name=None)
    ]
    return f"*{block.shown_caption}*\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
