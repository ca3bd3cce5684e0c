"""The command line: start, continue, extend or finish a study."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pfgm.terminal import command
from study.config.options import Options
from study.config.yaml_source import START, ConfigError, read_source

if TYPE_CHECKING:
    pass

DESCRIPTION = """\
Run the study that a YAML file describes: train a field for every training point and seed, sample each at every sampler
point, and measure quality (FID) and cost (NFE). The rows go to <storage>/<name>/, a report to report/report.html there.

The same command continues a study that was stopped, for whatever reason: finished rows are never measured again, trained
fields never trained again. More trials, seeds, sampler points or metrics in the file extend it. On a finished study it does
nothing.
"""
EPILOG = """\
examples:
  python -m study.run --example > search.yaml                        a study file to start from, with what it may say
  python -m study.run search.yaml                                    run it
  python -m study.run my.yaml --dry-run                              what would run, and how long it would take
  python -m study.run my.yaml --dry-run --pilot results/digits       and what its seeds could tell, from another study's noise
  python -m study.run my.yaml --set train.steps=500 --set name=quick a variant, without editing the file
  python -m study.run my.yaml --inline                               no Ray: trials one by one, for a debugger
  python -m study.run my.yaml --address 10.0.0.5:6379                on a standing Ray cluster (or set RAY_ADDRESS)
  python -m study.run my.yaml --set storage=s3://bucket/results      rows, fields and report in an object store
  python -m study.status results/my-study                            how it is going, from another terminal or machine

exit codes: 0 every row complete, 1 finished but some rows, or the report, failed, or the storage failed on the way, 2 a
mistake in the study file or the command, or another driver runs the study, 130 stopped by Ctrl-C, 143 by SIGTERM (run it again
to continue).
"""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = parser().parse_args(arguments)
    if given.example:
        print(resources.files("study").joinpath("example.yaml").read_text(encoding="utf-8"), end="")
        return 0
    address = given.address or (None if given.inline else os.environ.get("RAY_ADDRESS", "").strip() or None)
    try:
        if given.study is None:
            raise ConfigError(f"search.yaml: name a study file; {START}")
        if given.inline and address:
            raise ConfigError("--inline: runs in this process, without Ray; remove --address")
        if given.pilot and not given.dry_run:
            raise ConfigError("--pilot: tells the power of a plan; add --dry-run")
        return run(
            Options(
                study=given.study,
                overrides=tuple(given.overrides),
                dry_run=given.dry_run,
                pilot=given.pilot,
                no_report=given.no_report,
                retry_failed=given.retry_failed,
                inline=given.inline,
                address=address,
                address_from="--address" if given.address else "RAY_ADDRESS",
                take_over=given.take_over,
                command=shlex.join(["python", "-m", "study.run", *(sys.argv[1:] if arguments is None else arguments)]),
            )
        )
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line's options and help."""
    p = argparse.ArgumentParser(
        prog="python -m study.run", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("study", type=Path, nargs="?", metavar="search.yaml", help="the study file; --example writes one")
    p.add_argument("--example", action="store_true", help="print a study file to start from, and do nothing else")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override one key")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its estimated cost; create nothing")
    p.add_argument(
        "--pilot", metavar="STUDY", help="with --dry-run: what the plan could tell, from the noise of this measured study"
    )
    p.add_argument("--no-report", action="store_true", help="measure the rows only; python -m analysis.report makes it later")
    p.add_argument(
        "--retry-failed", action="store_true", help="measure rows that failed or ran out of time again (old rows are dropped)"
    )
    p.add_argument("--inline", action="store_true", help="run the trials one after another in this process, without Ray")
    p.add_argument("--address", metavar="HOST:PORT", help="join a standing Ray cluster (auto: the one this machine is part of)")
    p.add_argument("--take-over", action="store_true", help="run although another driver holds the study; that one stops")
    return p


def run(options: Options) -> int:
    """Read the study file, and run the study; returns the exit code.

    Raises:
        ConfigError: the study file, or what it would change, is refused, or its storage cannot be used.
    """
    source = read_source(options.study, options.overrides)
    from study.driver import start  # torch and all the rest take seconds: a bad file is told before

    return start(source, options)


if __name__ == "__main__":
    sys.exit(main())
