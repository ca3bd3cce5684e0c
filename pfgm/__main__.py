"""The command line: train a field, sample from it, measure it."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pfgm
from pfgm.mistakes import Mistake
from pfgm.terminal import command

DESCRIPTION = "Train a field on your data, sample from it, and measure it, without a study file."
EPILOG = """\
examples
  python -m pfgm fit digits my_field --minutes 1              an embedded data set, one minute
  python -m pfgm fit photos/ my_field --minutes 30 --set data.size=32
  python -m pfgm fit table.csv my_field --set data.standardize=true --set train.steps=5000
  python -m pfgm sample my_field samples.png --n 64           a picture; .npy holds the numbers
  python -m pfgm sample my_field samples.npy --set solver=heun2 --set steps=20
  python -m pfgm fit digits classes --minutes 1 --set train.conditional=true
  python -m pfgm sample classes threes.png --label 3 --guidance 1.5
  python -m pfgm evaluate my_field digits                     FID and others, with the values that say how to read them

Keys of --set are those of a study file: docs/reference/keys.md. Ctrl-C ends a training and keeps what is trained so far.
exit codes: 0 done, 2 a mistake in the command, in the data or in a key.
"""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        {"fit": _fit, "sample": _sample, "evaluate": _evaluate}[given.command](given)
    except (Mistake, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _fit(given: argparse.Namespace) -> None:
    if (Path(given.field) / "field.json").exists():
        raise FileExistsError(f"{given.field} holds a field already; name another folder, or remove it")
    keys = _sections(given.set, ("data", "network", "train"))
    field = pfgm.fit(
        given.data, minutes=given.minutes, network=keys["network"] or None, seed=given.seed, device=given.device,
        data=keys["data"], **keys["train"],
    )  # fmt: skip
    field.save(given.field)
    print(f"{given.field}: a field of {field.process.info.name}, shape {field.process.info.shape}")


def _sample(given: argparse.Namespace) -> None:
    import numpy as np  # it takes time, which help and a mistake need not wait for

    from pfgm.data.grid import picture  # as above

    field = pfgm.load_field(given.field)
    keys = _sections([f"sampler.{text}" for text in given.set], ("sampler",))["sampler"]
    if given.label is not None:
        keys["label"] = int(given.label) if given.label.isdecimal() else given.label
    keys |= {} if given.guidance is None else {"guidance": given.guidance}
    x = field.sample(given.n, seed=given.seed, **keys)
    if Path(given.file).suffix.lower() == ".png":
        content = picture(x.flatten(1).float(), field.process.info, field.labels(given.n, **keys))
        if content is None:
            raise ValueError(f"items of shape {field.process.info.shape} have no picture; write a .npy file")
        Path(given.file).write_bytes(content)
    elif Path(given.file).suffix.lower() == ".npy":
        np.save(given.file, x.numpy())
    else:
        raise ValueError(f"{given.file}: write a .png or a .npy file")
    print(f"{given.file}: {given.n} samples")


def _evaluate(given: argparse.Namespace) -> None:
    keys = _sections(given.set, ("data", "sampler"))
    found = pfgm.evaluate(pfgm.load_field(given.field), given.data, samples=given.samples, data=keys["data"], **keys["sampler"])
    for name, value in found.items():
        print(f"{name:20} {value:.4g}" if isinstance(value, float) else f"{name:20} {value}")


def _sections(texts: Sequence[str], allowed: Sequence[str]) -> Mapping[str, dict[str, Any]]:
    """Read ``section.key=value`` into a dictionary a section; numbers, true and false as such.

    Raises:
        Mistake: a text of another form, or of a section that has no part here.
    """
    found: dict[str, dict[str, Any]] = {section: {} for section in allowed}
    for text in texts:
        name, equals, value = text.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and key) or section not in found:
            raise Mistake("--set", f"got {text}; write {' or '.join(f'{s}.KEY=VALUE' for s in allowed)}")
        found[section][key] = value
        with contextlib.suppress(ValueError):  # a word stays a word
            found[section][key] = json.loads(value)
    return found


def parser() -> argparse.ArgumentParser:
    """Return the command line's options and help."""
    p = argparse.ArgumentParser(
        prog="python -m pfgm", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = p.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="train a field on data")
    fit.add_argument("data", metavar="NAME|PATH", help="a data set, or a file or folder")
    fit.add_argument("field", metavar="FOLDER", help="where the field is written")
    fit.add_argument("--minutes", type=float, help="about how long to train (default: train.steps, or 2,500 steps)")
    fit.add_argument("--device", default="auto", help="auto, cpu or cuda")
    sample = commands.add_parser("sample", help="sample from a field")
    sample.add_argument("field", metavar="FOLDER", help="a field that was written by fit, or by a study")
    sample.add_argument("file", help="a .png or .npy file to write")
    sample.add_argument("--n", type=int, default=64, help="how many (default 64)")
    sample.add_argument("--label", help="class of the samples of a conditional field: a number, a name or all (default: all)")
    sample.add_argument("--guidance", type=float, metavar="W", help="how strongly it is asked for (default: 1, as trained)")
    evaluate = commands.add_parser("evaluate", help="measure a field against data")
    evaluate.add_argument("field", metavar="FOLDER", help="a field that was written by fit, or by a study")
    evaluate.add_argument("data", metavar="NAME|PATH", help="a data set, or a file or folder")
    evaluate.add_argument("--samples", type=int, help="how many to draw (default: as many as there are data, up to 2,000)")
    for one in (fit, sample):
        one.add_argument("--seed", type=int, default=0, help="equal seeds give equal results (default 0)")
    for one, words in ((fit, "data, network or train"), (sample, "sampler (without its name)"), (evaluate, "data or sampler")):
        one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"a key of {words}; repeatable")
    return p


if __name__ == "__main__":
    sys.exit(main())
