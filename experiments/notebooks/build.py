"""Run the notebooks (the numbered .py files here) on the bundled study and write each beside its source as .ipynb with outputs.

    python experiments/notebooks/build.py            # all of them; `make notebooks` does the same

The .py files are the source. What differs from run to run without meaning (cell ids, timings) is left out of the .ipynb.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
LIMIT = 400_000
"""Bytes of a notebook that may be committed."""
COLOURS = 256
"""Of a stored picture: its smoothed lines have more, which nobody sees and which take three times the bytes."""


def sources() -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def read(path: Path) -> nbformat.NotebookNode:
    """A percent file as a notebook without outputs, its cells named by their place."""
    notebook = jupytext.read(path)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:02d}"
    return notebook


def run(path: Path, study: str | None = None, timeout: int = 600) -> nbformat.NotebookNode:
    """Execute a notebook in its own folder and return it with its outputs.

    Args:
        path: the percent file.
        study: the study's folder; default: the bundled one.
        timeout: seconds that one cell may take.
    """
    return execute(read(path), study, timeout)


def execute(notebook: nbformat.NotebookNode, study: str | None = None, timeout: int = 600) -> nbformat.NotebookNode:
    """Execute a notebook that was read, as `run` does."""
    environment = {key: value for key, value in os.environ.items() if key != "STUDY"}
    environment |= {"STUDY": study} if study else {}
    environment["PYTHONWARNINGS"] = "ignore:IProgress not found"  # a progress bar that nobody would see
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(HERE)}})
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = base64.b64encode(lighter(base64.b64decode(output["data"]["image/png"]))).decode()
    notebook.metadata.pop("language_info", None)
    return notebook


def lighter(png: bytes) -> bytes:
    """A picture in at most COLOURS colours, on white; as it is where it has a palette, or where that takes no fewer bytes."""
    stored = Image.open(io.BytesIO(png))
    if stored.mode == "P":
        return png  # its colours in another order might take a few bytes less: the same picture, other bytes
    picture = stored.convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    out = io.BytesIO()
    opaque.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return min(png, out.getvalue(), key=len)


def main(arguments: list[str] | None = None) -> int:
    """Build the named notebooks, or all."""
    parser = argparse.ArgumentParser(description="Run the notebooks on the bundled study and store them with outputs.")
    parser.add_argument("notebooks", type=Path, nargs="*", help="percent files; default: all")
    for path in parser.parse_args(arguments).notebooks or sources():
        text = nbformat.writes(run(path)) + "\n"
        if len(text.encode()) > LIMIT:
            sys.stderr.write(f"{path.name}: {len(text.encode())} bytes with outputs, at most {LIMIT} are committed\n")
            return 1
        path.with_suffix(".ipynb").write_text(text)
        sys.stdout.write(f"{len(text.encode()):>9,}  {path.with_suffix('.ipynb').name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
