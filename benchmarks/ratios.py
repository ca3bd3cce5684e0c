"""The ratios that a benchmark finds, for `benchmarks/all.py`: told in a file beside what it prints.

    tell("training step, MLP", "a plain PyTorch loop", [1.01, 0.98, 1.0])

Above 1 is better than the baseline. Both were measured in the same run, so the ratio hardly knows how fast the machine is.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

FILE = "BENCHMARK_RATIOS"
"""The environment variable that names the file; without it nothing is told."""


def tell(what: str, baseline: str, ratios: Sequence[float], asked: str = "") -> None:
    """Add a line with the median, the least and the largest of some ratios.

    Args:
        what: was measured; names the line from run to run.
        baseline: what it is compared with.
        ratios: baseline over ours where less is better, so that above 1 is better; one a repetition.
        asked: what the ratio should be, in words.
    """
    if file := os.environ.get(FILE):
        line = {
            "what": what, "baseline": baseline, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios),
            "n": len(ratios), "asked": asked,
        }  # fmt: skip
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
