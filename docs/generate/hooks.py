"""What MkDocs calls while it builds the site: adds the generated pages, and lets pages link to files of the repository."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))  # this folder as the package `generate`
sys.path.insert(0, str(ROOT))

from generate import columns, commands, gallery, keys, names  # noqa: E402

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)[^)#\s]*)(#[^)\s]*)?\)")
"""A link to a relative address that begins with ../ and is no picture."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every generated page and picture."""
    for module in (keys, columns, commands, names):
        for address, text in module.pages().items():
            files.append(File.generated(config, address, content=text))
    for address, content in gallery.files().items():
        files.append(File.generated(config, address, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside docs/ into plain links from the site to the repository; a missing file is an error."""
    here = (Path(config.docs_dir) / page.file.src_uri).parent
    built = (Path(config.site_dir) / page.file.dest_uri).parent

    def rewrite(match: re.Match[str]) -> str:
        text, address, anchor = match.group(1), match.group(2), match.group(3) or ""
        target = Path(os.path.normpath(here / address))
        if target.is_relative_to(config.docs_dir):
            return match.group(0)
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: the repository has no {address}")
        return f'<a href="{os.path.relpath(target, built)}{anchor}">{text}</a>'

    return LINK.sub(rewrite, markdown)
