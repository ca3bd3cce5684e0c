"""``python -m analysis.report results/<study> …``: the report of a study, or of several side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from analysis.report.sections.answers import equivalence, short, verdict
from analysis.report.study import Study
from analysis.report.write import load, output_of, studies_of, write_one, write_several
from analysis.rows.meta import AnalysisError
from pfgm.terminal import command
from study.rows.storage import Place

EPILOG = """\
what it shows
  The verdict first: for each searched parameter the tested values, the tolerance interval around the default, and a rating.
    robust        the metric stays within the tolerance at every tested value (simultaneous 95 % bounds)
    sensitive     at some tested value it is certainly beyond the tolerance, or runs fail or diverge
    undetermined  too few train seeds to say; the report prints how many would settle it
  Then noise and power, a panel per parameter, the quality-cost front, failures, samples, and the full table.
  Several studies: their verdicts in one table, each parameter that two of them searched in one figure (as a ratio to each
  study's own default), counts and cost; then the sections of each. The reports of the single studies stay as they are.

examples
  python -m analysis.report results/digits                      report into results/digits/report/
  python -m analysis.report results/digits --output /tmp/report another folder
  python -m analysis.report results/digits --tolerance 0.25     rate against 25 % instead of the study's tolerance
  python -m analysis.report results/digits results/fashion      side by side, into results/report-digits-fashion/

Studies in different folders are put into the folder that holds both; in different object stores, name one with --output.
A partial study is fine: cells that were not measured yet are counted as pending. Exit codes: 0 written, 2 no such study or
an unreadable file.
"""


def print_verdict(study: Study, console: Console) -> None:
    """Print the verdict in words and as a table, and the equivalence line if there is one."""
    for sentence in short.verdict_sentences(study):
        console.print(sentence, markup=False, highlight=False)
    frame = study.frame
    table = Table(title=f"Verdict at {int(frame['status'].ne('pending').sum())} of {len(frame)} cells")
    shown = verdict.verdict_table(study.intervals)[["parameter", "default", "tolerance interval", "rating", "rule"]]
    for column in shown.columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("parameter", "default", "rating"))
    for row in shown.itertuples(index=False):
        table.add_row(*(str(value).replace("[", r"\[") for value in row))
    if len(shown):
        console.print(table)
    found = equivalence.equivalence_result(frame)
    if found is not None:
        console.print(found, markup=False, highlight=False)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description="Turn the rows of a study, or of several, into a report.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("study", nargs="+", help="the study folder, results/<study>, or its s3:// URI; several: side by side")
    parser.add_argument(
        "--output", default=None, help="folder to write to (default: <study>/report; several: report-<name>-<name> beside them)"
    )
    parser.add_argument("--tolerance", type=float, default=None, help="rate against this fraction, e.g. 0.25")
    options = parser.parse_args(arguments)
    output: Place | None = None
    try:
        if options.tolerance is not None and not 0 < options.tolerance < 10:
            raise AnalysisError(f"--tolerance: must be a fraction above 0, e.g. 0.10 for 10 %, got {options.tolerance:g}")
        frames = [load(path, options.tolerance) for path in options.study]
        output = output_of(options.study, frames, options.output)
        studies = studies_of(frames)
        page = write_one(studies[0], output) if len(studies) == 1 else write_several(studies, output)
    except AnalysisError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        place = output or options.output
        print(f"cannot write {place} ({error.strerror or error}); name another folder with --output", file=sys.stderr)
        return 2
    console = Console()
    for study in studies:
        if len(studies) > 1:
            console.rule(study.name)
        print_verdict(study, console)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
