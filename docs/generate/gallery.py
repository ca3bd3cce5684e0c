"""The gallery: every public plot function of `analysis` with its picture and the lines that made it."""

from __future__ import annotations

import contextlib
import inspect
import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch

import analysis
from generate import names
from generate.pictures import FIELD_PICTURES, SETUP, STUDY_PICTURES

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 5

LEAD = """# Gallery

Every plot function of `analysis`, with the lines that made its picture. A function takes an optional `ax` and returns the
Axes that it drew on. Pictures of studies show the small study of digits that comes with the notebooks. Where a design must
fill the box, they show a made-up study. All pieces run in the folder of the repository, after this beginning:
"""


def pieces() -> dict[str, str]:
    """{name of a plot function: its lines}; a function without a picture, or with too many lines, is an error."""
    found = STUDY_PICTURES | FIELD_PICTURES
    public = {name for name in names.public("analysis") if name.startswith("plot_")}
    if public != found.keys():
        raise ValueError(f"docs/generate/pictures.py: one piece for each of {sorted(public ^ found.keys())}")
    long = [name for name, code in found.items() if code.count("\n") >= MAX_LINES]
    if long:
        raise ValueError(f"docs/generate/pictures.py: more than {MAX_LINES} lines: {long}")
    return found


def draw() -> dict[str, bytes]:
    """Run every piece, in order, in the folder of the repository; {name: PNG}."""
    mpl.use("Agg")
    torch.set_num_threads(1)  # small work; more threads would wait for each other
    scope: dict[str, Any] = {}
    pictures = {}
    with contextlib.chdir(ROOT), mpl.rc_context({"figure.dpi": 90, "savefig.bbox": "tight", "figure.max_open_warning": 0}):
        exec(SETUP, scope)
        for name, code in pieces().items():
            plt.close("all")
            exec(code, scope)
            sink = io.BytesIO()
            plt.gcf().savefig(sink, format="png")
            pictures[name] = sink.getvalue()
        plt.close("all")
    return pictures


def homes() -> dict[str, str]:
    """The page of the reference on which each name of `analysis` stands."""
    return {name: question.address for question in names.QUESTIONS for name in question.names.split()}


def page() -> str:
    """The Markdown of the gallery."""
    home = homes()
    parts = [LEAD, f"```python\n{SETUP}```\n"]
    for title, group in (("Studies", STUDY_PICTURES), ("Fields, priors and training points", FIELD_PICTURES)):
        parts.append(f"## {title}\n")
        for name, code in group.items():
            told = (inspect.getdoc(getattr(analysis, name)) or "").split("\n\n")[0].replace("\n", " ")
            link = f"[Reference]({home[name]}#analysis.{name})"
            picture = f"![What analysis.{name} draws](gallery/{name}.png)"
            parts.append(f"### {name}\n\n{told} {link}\n\n```python\n{code}\n```\n\n{picture}\n")
    return "\n".join(parts)


def files() -> dict[str, str | bytes]:
    """The page and its pictures, by address."""
    return {"gallery.md": page()} | {f"gallery/{name}.png": content for name, content in draw().items()}
