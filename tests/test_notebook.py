"""The notebook runs from top to bottom on a study, and draws three plots."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from analysis_study import Truth, write_study
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "experiments" / "notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    study = write_study(tmp_path / "synthetic", Truth())
    monkeypatch.setenv("STUDY", str(study))
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3
    nbformat.validate(notebook)
