"""``python -m study.fields ls | show | rm | gc``: the trained fields of a storage."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from pfgm.mistakes import Mistake
from pfgm.terminal import command
from study.fields.listing import age, described, listing
from study.fields.unused import GRACE_S, chosen, referring, removable, remove, unused
from study.rows.storage import Place, StorageError

SHOWN = ("data", "network", "train")
STORAGE = "a directory or s3:// URI (default: results)"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    whole = argparse.ArgumentParser(prog="python -m study.fields", description="The store of trained fields.")
    commands = whole.add_subparsers(dest="command", required=True)
    ls = commands.add_parser("ls", help="list fields: size, age, configuration")
    gc = commands.add_parser("gc", help="name the fields that no study of the storage refers to; with --yes, remove them")
    for one in (ls, gc):
        one.add_argument("storage", nargs="?", default="results", help=STORAGE)
    show = commands.add_parser("show", help="all that is known of a field: how it was trained, and which studies refer to it")
    rm = commands.add_parser(
        "rm", help="name what would be removed of some fields that no study refers to; with --yes, remove it"
    )
    for one in (show, rm):
        one.add_argument("fields", nargs="+", metavar="field", help="the name of a field, or how it begins")
        one.add_argument("--storage", default="results", help=STORAGE)
    for one in (gc, rm):
        one.add_argument("--yes", action="store_true", help="remove them")
    return whole


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        storage = Place.of(options.storage)
        if not (storage.remote or storage.local.is_dir()):
            raise Mistake("storage", "no such folder; name the `storage` of a study, such as results")
        {"ls": _ls, "show": _show, "rm": _rm, "gc": _gc}[options.command](storage, options)
    except (Mistake, ValueError, StorageError) as error:
        print(f"{options.storage}: {error.text if isinstance(error, Mistake) else error}", file=sys.stderr)
        return 2
    return 0


def _ls(storage: Place, options: argparse.Namespace) -> None:
    entries = listing(storage)
    _print(entries)
    print(f"{len(entries)} entries, {_megabytes(entries)} in {storage / 'fields'}")


def _show(storage: Place, options: argparse.Namespace) -> None:
    known = referring(storage)
    for entry in chosen(storage, options.fields):
        _print([entry])
        studies = known.get(entry["train_id"], [])
        print(f"  studies   {', '.join(studies) or 'none of this storage'}")
        told = described(storage, entry["train_id"])
        for key in (key for key in SHOWN if key in told):
            words = " ".join(f"{k}={v}" for k, v in told[key].items() if v is not None)
            print(f"  {key:9s} {words}")


def _rm(storage: Place, options: argparse.Namespace) -> None:
    _remove(storage, removable(storage, options.fields), options.yes)


def _gc(storage: Place, options: argparse.Namespace) -> None:
    entries = unused(storage)
    if not entries:
        print(f"every field of {storage / 'fields'} belongs to a study, or was written in the last {GRACE_S / 60:.0f} minutes")
        return
    _remove(storage, entries, options.yes)


def _remove(storage: Place, entries: list[dict[str, Any]], certain: bool) -> None:
    _print(entries)
    if certain:
        remove(storage, entries)
        print(f"removed: {len(entries)} entries, {_megabytes(entries)}")
    else:
        print(f"{len(entries)} entries, {_megabytes(entries)}; nothing is removed yet, add --yes")


def _print(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        print(f"{entry['train_id']}  {entry['size'] / 2**20:7.2f} MB  {age(entry['age_s']):>6}  {entry['configuration']}")


def _megabytes(entries: list[dict[str, Any]]) -> str:
    return f"{sum(entry['size'] for entry in entries) / 2**20:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
