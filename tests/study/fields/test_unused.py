"""Removal of trained fields: nothing that a study of the storage refers to ever goes, nor what was written just now."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from helpers.rows import row_of

from study.fields import unused
from study.fields.__main__ import main
from study.rows.records import EVALS, MANIFEST, write_table
from study.rows.storage import Place


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field may go as soon as it is written: nobody can set the clock of an object store."""
    monkeypatch.setattr(unused, "GRACE_S", -60.0)


def make_fields(storage: Place, names: list[str]) -> None:
    """Published fields, and for every third one the two files of a training state instead."""
    for i, name in enumerate(names):
        if i % 3 == 2:
            for slot in (0, 1):
                (storage / "fields/.training" / f"{name}.{slot}.state").write(b"state")
        else:
            (storage / "fields" / name / "field.json").write(json.dumps({"seed": i, "train": {"sigma": 0.1}}).encode())
            (storage / "fields" / name / "weights.safetensors").write(b"weights")


def make_study(study: Place, fields: list[str], source: random.Random) -> None:
    """A study that refers to fields in one of the ways there are: rows, a segment of rows, the plan, a proposed point."""
    places = ["evals/one.parquet", "evals/segment-0.parquet", "manifest.parquet", "proposed/00000001.parquet"]
    for i, field in enumerate(fields):
        name = source.choice(places)
        where = study / name.replace("one", f"{i:020x}").replace("00000001", f"{i:08d}").replace("-0.", f"-{i}.")
        schema = EVALS if name.startswith("evals") else MANIFEST
        row = row_of(i, train_id=field)
        write_table(where, [{name: row.get(name) for name in schema.names}], schema)
        if name == "manifest.parquet":  # one file: what is in it stays in it
            places.remove(name)


@pytest.mark.parametrize("seed", range(3))
def test_gc_removes_what_no_study_refers_to_and_nothing_else(place: Place, at_once: None, seed: int) -> None:
    """Random studies that share random fields; dry by default, and a second time there is nothing left to do."""
    source = random.Random(seed)
    names = [f"{i:02d}{source.randrange(16**6):06x}" for i in range(10)]
    make_fields(place, names)
    used = set[str]()
    for k in range(3):
        own = source.sample(names, source.randrange(1, 4))
        make_study(place / f"study-{k}", own, source)
        used |= set(own)
    assert set(unused.referring(place)) == used
    assert main(["gc", place.uri]) == 0
    assert {entry["train_id"] for entry in unused.listing(place)} == set(names), "dry by default"
    assert main(["gc", place.uri, "--yes"]) == 0
    assert {entry["train_id"] for entry in unused.listing(place)} == used
    assert not [n for n in (place / "fields/.training").files() if n.split(".")[0] not in used]
    assert unused.unused(place) == []


def test_what_was_written_just_now_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A study that is about to begin may want a field; a training that goes on writes its state."""
    storage = Place.of(tmp_path)
    make_fields(storage, ["aa", "bb", "cc"])
    old = time.time() - 2 * unused.GRACE_S
    os.utime(tmp_path / "fields/aa/field.json", (old, old))
    assert main(["gc", str(tmp_path), "--yes"]) == 0
    assert "removed: 1 entries" in capsys.readouterr().out
    assert [entry["train_id"] for entry in unused.listing(storage)] == ["bb", "cc", "cc"]
    assert main(["rm", "bb", "--storage", str(tmp_path), "--yes"]) == 2
    assert "bb was written 0 min ago and may be in use; wait for an hour" in capsys.readouterr().err


def test_rm_and_show_take_the_beginning_of_a_name(tmp_path: Path, at_once: None, capsys: pytest.CaptureFixture[str]) -> None:
    storage = Place.of(tmp_path)
    make_fields(storage, ["aaaa1", "aaaa2"])
    make_study(storage / "rings", ["aaaa2"], random.Random(0))
    command = ["--storage", str(tmp_path)]
    assert main(["show", "aaaa2", *command]) == 0
    out = capsys.readouterr().out
    assert "studies   rings" in out and "train     sigma=0.1" in out
    for name, words in (
        ("aaaa", "aaaa: 2 fields begin so; `ls` names them"),
        ("b", f"b: no such field in {storage / 'fields'}; `ls` names them"),
        ("aaaa2", "aaaa2 is a field of rings; it stays as long as that study does"),
    ):
        assert main(["rm", name, *command, "--yes"]) == 2
        assert capsys.readouterr().err == f"{tmp_path}: {words}\n"
    assert main(["rm", "aaaa1", *command]) == 0
    assert "nothing is removed yet, add --yes" in capsys.readouterr().out
    assert main(["rm", "aaaa1", *command, "--yes"]) == 0
    assert [entry["train_id"] for entry in unused.listing(storage)] == ["aaaa2"]
    assert main(["rm", "aaaa1", *command, "--yes"]) == 2


def test_nothing_goes_while_a_file_of_a_study_cannot_be_read(
    tmp_path: Path, at_once: None, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = Place.of(tmp_path)
    make_fields(storage, ["aa"])
    (storage / "rings/manifest.parquet").write(b"PAR1 damaged")
    assert main(["gc", str(tmp_path), "--yes"]) == 2
    assert (
        "manifest.parquet cannot be read, and it may name any field; continue that study, or remove it"
        in capsys.readouterr().err
    )
    assert len(unused.listing(storage)) == 1
