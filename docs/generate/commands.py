"""The reference of the command lines: what each says with --help."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "study.run": "Run a study, continue it, extend it, or only plan it.",
    "study.status": "See how a study is going.",
    "study.fields ls": "List the trained fields of a storage.",
    "analysis.report": "Write a report from rows that are there.",
    "analysis.power": "See what more seeds would tell.",
    "pfgm fit": "Train a field on your data, without a study file.",
    "pfgm sample": "Sample from a field.",
    "pfgm evaluate": "Measure a field against data.",
    "pfgm.data describe": "See what is in a data set before training on it.",
}


def help_of(command: str) -> str:
    """What ``python -m <command> --help`` prints, 88 characters wide."""
    environment = {**os.environ, "COLUMNS": "88", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    call = [sys.executable, "-m", *command.split(), "--help"]
    return subprocess.run(call, capture_output=True, text=True, check=True, env=environment, timeout=120).stdout.rstrip()


def pages() -> dict[str, str]:
    """The page of all commands."""
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(help_of, COMMANDS))
    lead = "# Commands\n\nEach command is a module. What [exit codes](exit-codes.md) mean is the same everywhere.\n"
    parts = [
        f"## python -m {command}\n\n{words}\n\n```text\n{text}\n```\n"
        for (command, words), text in zip(COMMANDS.items(), texts, strict=True)
    ]
    return {"reference/commands.md": "\n".join([lead, *parts])}
