"""The command line: what is in a data set."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from pfgm.data.errors import DataError
from pfgm.terminal import command

DESCRIPTION = """\
Read a data set as a study would, and say what is in it: how many points of which shape, how they are stored, their range, mean
norm and spread, exact duplicates, the test split, and M, T and R_max by the authors' rules, for their σ and for the default.
"""
EPILOG = """\
examples:
  python -m pfgm.data describe digits                          the embedded data set
  python -m pfgm.data describe digits --no-center              as the authors train: the mean is left in
  python -m pfgm.data describe fashion_mnist --download        fetch it where it is not on this machine
  python -m pfgm.data describe cifar-10-python.tar.gz          by its path; also a folder of IDX files, or cifar-10-batches-py
  python -m pfgm.data describe photos/ --size 64               a folder or zip of pictures: centre squares, 64 × 64
  python -m pfgm.data describe mnist.parquet --column img      pictures in Parquet, as on the Hugging Face Hub
  python -m pfgm.data describe arrays.npy --reader vectors     items of any shape as vectors
  python -m pfgm.data describe table.csv --standardize         a table of numbers: .csv, .tsv or Parquet
  python -m pfgm.data describe shell --dim 10 --n 5000         a toy

The options are the keys of `data` in a study file. Decoded pictures and downloads are kept in $PFGM_CACHE, by default in
~/.cache/pfgm-study.
exit codes: 0 described, 2 a data set that cannot be used, or a mistake in the command.
"""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, describe a data set, and return the exit code."""
    options = vars(parser().parse_args(arguments))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from pfgm.data.describe import describe, read, text  # torch takes seconds, which help and a mistake need not wait for

    what, reader = options.pop("what"), options.pop("reader")
    options.pop("command")
    try:
        print(text(describe(read(what, reader, options))))
    except ValidationError as error:
        first = error.errors()[0]
        print(f"data.{'.'.join(str(k) for k in first['loc'])}: {first['msg']} (got {first['input']!r})", file=sys.stderr)
        return 2
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's options and help."""
    p = argparse.ArgumentParser(
        prog="python -m pfgm.data", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = p.add_subparsers(dest="command", required=True)
    d = commands.add_parser(
        "describe", help="say what is in a data set", description=DESCRIPTION, epilog=EPILOG, formatter_class=p.formatter_class
    )
    d.add_argument("what", metavar="NAME|PATH", help="a data set, or a file or folder, whose reader is then guessed")
    d.add_argument("--reader", metavar="NAME", help="the reader of a path, instead of a guess")
    d.add_argument("--center", action=argparse.BooleanOptionalAction, default=True, help="subtract the mean (default)")
    d.add_argument("--flip", action="store_true", help="count every image a second time, mirrored")
    d.add_argument("--holdout", type=float, metavar="F", help="keep this fraction apart as test points")
    d.add_argument("--standardize", action="store_true", help="vectors: bring every column to unit variance")
    d.add_argument("--key", metavar="NAME", help="the array of an .npz file that has several (default: x)")
    d.add_argument("--size", type=int, metavar="PIXELS", help="pictures: resize to PIXELS × PIXELS")
    d.add_argument("--crop", choices=("center", "none"), help="pictures: cut the centre square out first")
    d.add_argument("--channels", type=int, choices=(1, 3), help="pictures: 1 grey, 3 RGB")
    d.add_argument("--column", metavar="NAME", help="parquet: the column with the pictures (default: image)")
    d.add_argument("--download", action="store_true", help="fashion_mnist, cifar10: fetch it where it is not on this machine")
    d.add_argument("--n", type=int, help="toys: number of points")
    d.add_argument("--dim", type=int, help="toys: dimension")
    return p


if __name__ == "__main__":
    sys.exit(main())
