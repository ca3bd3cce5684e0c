"""``python -m study.fields ls [STORAGE]``: the trained fields of a storage, oldest first."""

import argparse
import sys
from collections.abc import Sequence

from pfgm.terminal import command
from study.fields.listing import age, listing
from study.rows.storage import Place, StorageError


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m study.fields", description="The store of trained fields.")
    commands = parser.add_subparsers(dest="command", required=True)
    ls = commands.add_parser("ls", help="list fields: size, age, configuration")
    ls.add_argument("storage", nargs="?", default="results", help="a directory or s3:// URI (default: results)")
    options = parser.parse_args(arguments)
    try:
        storage = Place.of(options.storage)
        entries = listing(storage)
    except (ValueError, StorageError) as error:
        print(f"{options.storage}: {error}", file=sys.stderr)
        return 2
    if not entries and not (storage.remote or storage.local.is_dir()):
        print(f"{storage}: no such folder; name the `storage` of a study, such as results", file=sys.stderr)
        return 2
    for entry in entries:
        print(f"{entry['train_id']}  {entry['size'] / 2**20:7.2f} MB  {age(entry['age_s']):>6}  {entry['configuration']}")
    print(f"{len(entries)} entries, {sum(e['size'] for e in entries) / 2**20:.1f} MB in {storage / 'fields'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
