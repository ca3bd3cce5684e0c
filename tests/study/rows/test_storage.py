"""Files that are there whole or not at all, on a directory and on an S3 server; and a whole study on the latter."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.folder import Folder, same_rows
from helpers.s3_server import Gate

from analysis import load_study
from study.fields.__main__ import main as fields_main
from study.fields.listing import listing
from study.fields.store import FieldStore
from study.rows.folders import read_evals
from study.rows.storage import Place, StorageError, clean_temporary
from study.status import main as status_main


@pytest.fixture(autouse=True)
def open_gate(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test refused, the next one may."""
    yield
    if "gate" in request.fixturenames:
        request.getfixturevalue("gate").refuse = lambda method, path: None


def test_a_place_is_a_place(place: Place) -> None:
    """What is written is read, listed, dated, moved aside and deleted; nothing is where nothing was written."""
    assert place.files() == {} and place.folders() == [] and not (place / "a").is_file() and (place / "a").modified() is None
    with pytest.raises(FileNotFoundError):
        (place / "a").read()
    (place / "b" / "c.txt").write(b"one")
    (place / "b" / "c.txt").write(b"three")
    (place / "d.bin").write(bytes(range(256)) * 40_000)
    assert place.files() == {"d.bin": 10_240_000} and place.folders() == ["b"]
    assert (place / "b").files() == {"c.txt": 5} and (place / "b" / "c.txt").read() == b"three"
    assert (place / "d.bin").read() == bytes(range(256)) * 40_000
    assert (place / "b").read_all(["c.txt", "c.txt"]) == [b"three", b"three"]
    assert abs(time.time() - ((place / "d.bin").modified() or 0)) < 60
    assert (place / "d.bin").set_aside().name == "d.bin.unreadable" and "d.bin" not in place.files()
    (place / "b" / "c.txt").delete()
    (place / "b" / "c.txt").delete()
    assert (place / "b").files() == {}
    place.delete_folder()
    assert place.files() == {} and place.folders() == []
    assert Place.of(place.uri) == place and Place.of(place) == place


def test_addresses() -> None:
    place = Place.of("s3://bucket/a/b?endpoint_override=h:9&scheme=http")
    assert (str(place / "c"), (place / "c").uri) == ("s3://bucket/a/b/c", "s3://bucket/a/b/c?endpoint_override=h:9&scheme=http")
    assert place.absolute() == place and Place.of("x").absolute().path == f"{os.getcwd()}/x"
    assert str(Place.of(".") / "x") == "x" and str(Place.of("/") / "x") == "/x" and Place.of("a/b").name == "b"
    for bad, word in {
        "gs://b": "s3://",
        "s3://": "bucket",
        "s3://k:s@b": "credentials",
        "s3://b?x=1": "unknown option",
    }.items():
        with pytest.raises(ValueError, match=word):
            Place.of(bad)


def test_no_reader_sees_half_a_file(tmp_path: Path) -> None:
    """Two writers and a reader of one file for a second; a plain write would be seen half-done."""
    file, contents = Place.of(tmp_path / "f"), [b"a" * 200_000, b"b" * 300_000]
    file.write(contents[0])
    end, seen = time.monotonic() + 1.0, set()

    def write(content: bytes) -> None:
        while time.monotonic() < end:
            file.write(content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while time.monotonic() < end:
        seen.add(file.read())
    for writer in writers:
        writer.join()
    assert seen == set(contents)
    assert sorted(os.listdir(tmp_path)) == ["f"]


def test_leftovers_of_a_killed_writer_are_not_listed_and_go(tmp_path: Path) -> None:
    (tmp_path / ".x.parquet.12-ab.tmp").write_bytes(b"half")
    (tmp_path / "x.parquet").write_bytes(b"whole")
    assert Place.of(tmp_path).files() == {"x.parquet": 5}
    clean_temporary(Place.of(tmp_path))
    assert len(os.listdir(tmp_path)) == 2, "it may still be written"
    clean_temporary(Place.of(tmp_path), older_than_s=-1)
    assert os.listdir(tmp_path) == ["x.parquet"]


@pytest.mark.parametrize(("status", "word"), [(403, "ACCESS_DENIED"), (500, "INTERNAL_FAILURE"), (507, "507")])
def test_a_server_that_refuses_is_one_line(gate: Gate, tmp_path: Path, status: int, word: str) -> None:
    place = Place.of(f"s3://bucket/{tmp_path.name}")
    (place / "a").write(b"1")
    gate.refuse = lambda method, path: status
    acts = (lambda: (place / "a").write(b"2"), lambda: (place / "a").read(), lambda: place.files())
    for act in acts[:1] if status == 500 else acts:  # each is tried for seconds
        with pytest.raises(StorageError) as caught:
            act()
        assert "\n" not in str(caught.value) and f"s3://bucket/{tmp_path.name}" in str(caught.value)
        assert word in str(caught.value) or f"HTTP status {status}" in str(caught.value)
        assert "secret" not in str(caught.value)
    gate.refuse = lambda method, path: None
    assert (place / "a").read() == b"1"


def test_a_server_that_is_gone_is_one_line() -> None:
    with pytest.raises(StorageError, match="cannot write s3://bucket/a"):
        (Place.of("s3://bucket?endpoint_override=127.0.0.1:9&scheme=http") / "a").write(b"1")


def test_a_hiccup_of_the_server_is_not_noticed(gate: Gate, folder: Folder) -> None:
    """Every twelfth request answers 500 once: the study does not see it."""
    folder.write()
    folder.run("--inline")
    count = iter(range(10**9))
    gate.refuse = lambda method, path: 500 if next(count) % 12 == 11 else None
    folder.run("--inline", "--set", "storage=s3://bucket/hiccup")
    assert gate.refused > 5
    gate.refuse = lambda method, path: None
    same_rows({str(r["cell_id"]): r for r in read_evals("s3://bucket/hiccup/tiny")}, folder.rows())


def test_a_study_that_may_not_write_is_one_line(gate: Gate, folder: Folder) -> None:
    folder.write(storage="s3://bucket/forbidden")
    gate.refuse = lambda method, path: 403 if method == "PUT" else None
    _, err = folder.run("--inline", expect=2)
    assert err.count("\n") == 1 and err.startswith("search.yaml:") and "ACCESS_DENIED" in err and "storage: cannot write" in err
    gate.refuse = lambda method, path: 403
    _, err = folder.run("--inline", expect=2)
    assert err.count("\n") == 1 and "ACCESS_DENIED" in err
    gate.refuse = lambda method, path: None
    assert Place.of("s3://bucket/forbidden").folders() == []


@pytest.mark.slow
def test_a_whole_study_on_s3(
    gate: Gate, folder: Folder, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full server stops it, a killed driver too; the same command finishes it; rows, fields, report, status are all there."""
    four = {"train": {"sigma": {"choice": [0.1, 0.2, 0.25]}}, "sampler": {"steps": {"choice": [4, 6]}}}
    folder.write(storage="s3://bucket/results", search=four, retries=0, resources={"concurrent": 1})
    folder.run("--inline", "--set", "storage=results")
    full = threading.Event()

    def refuse(method: str, path: str) -> int | None:
        if method == "PUT" and "/evals/" in path and len(Place.of("s3://bucket/results/tiny/evals").files()) >= 2:
            full.set()
            return 507
        return None

    gate.refuse = refuse
    _, err = folder.run(expect=1)
    assert full.is_set() and "stopped: cannot write s3://bucket/results/tiny/evals/" in err and "507" in err
    assert "Traceback" not in err and "secret" not in err
    gate.refuse = lambda method, path: None
    study = Place.of("s3://bucket/results/tiny")
    before = len(read_evals(study))
    assert 2 <= before < 6
    held, released = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> int | None:
        if method == "PUT" and "/evals/" in path and len((study / "evals").files()) > before:
            held.set()
            released.wait()
            return 500
        return None

    gate.refuse = hold
    process = folder.start("--inline")
    another = held.wait(300)
    process.kill()
    said = process.communicate()
    gate.refuse = lambda method, path: None
    released.set()
    assert another, said
    killed = len(read_evals(study))
    assert killed == before + 1
    out, _ = folder.run("--inline", report=True)
    assert "an object store has no locks" in out and f"{killed} measured" in out
    assert "report: s3://bucket/results/tiny/report/report.html" in capfd.readouterr().out
    same_rows({str(r["cell_id"]): r for r in read_evals(study)}, folder.rows())
    assert load_study("s3://bucket/results/tiny")["status"].tolist() == ["complete"] * 6
    assert b"<html" in (study / "report" / "report.html").read()[:500] and (study / "report").folders() == ["figures", "tables"]
    store = FieldStore(Place.of("s3://bucket/results"))
    assert {e["train_id"] for e in listing(Place.of("s3://bucket/results"))} == folder.fields()
    assert all(train_id in store for train_id in folder.fields())
    assert status_main(["s3://bucket/results/tiny"]) == 0 and fields_main(["ls", "s3://bucket/results"]) == 0
    out = capfd.readouterr().out
    assert "6 of 6 rows, 6 complete" in out and "3 entries" in out and "sigma=0.25" in out
