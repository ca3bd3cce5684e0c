"""Many rows in one file: none is lost, changed or counted twice, whoever reads, writes or is killed meanwhile."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.rows import known, row_of, write
from helpers.s3_server import Gate

from analysis import load_study
from study.rows import measured, segments
from study.rows.facts import carried_facts
from study.rows.folders import is_segment, oldest_first, read_evals, read_folder
from study.rows.records import EVALS, MANIFEST, read_table, write_table, write_text
from study.rows.storage import Place
from study.status import status

Rows = Mapping[str, Mapping[str, object]]


@pytest.fixture
def study(place: Place) -> Place:
    return place / "study"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of ten rows, from five files on."""
    monkeypatch.setattr(measured, "LOOSE", 5)
    for module in (measured, segments):
        monkeypatch.setattr(module, "SEGMENT_ROWS", 10)


def newest(study: Place) -> Rows:
    return {str(row["cell_id"]): row for row in read_evals(study)}


def names(study: Place) -> list[str]:
    """Names of the segments, then how many other files there are."""
    found = oldest_first((study / "evals").files())
    chosen = [name for name in found if is_segment(name)]
    return [*chosen, str(len(found) - len(chosen))]


def sizes(study: Place) -> list[int]:
    """Rows of the segments, then how many other files there are."""
    *chosen, loose = names(study)
    return [*(len(read_table(study / "evals" / name)) for name in chosen), int(loose)]


def test_gathered_rows_are_the_rows_that_were_written(study: Place) -> None:
    rows = [row_of(i) for i in range(23)]
    write(study, *rows)
    facts = carried_facts(table.schema for table in read_folder(study / "evals"))
    known(study).gather(set)
    assert sizes(study) == [10, 10, 3, 0]
    assert newest(study) == {row["cell_id"]: row for row in rows} and len(read_evals(study)) == 23
    tables = read_folder(study / "evals")
    assert facts and carried_facts(table.schema for table in tables) == facts
    assert all(table.schema.equals(EVALS) for table in tables)


def write_bundle(study: Place, number: int, *rows: dict[str, object]) -> str:
    """Write some rows as a worker writes those of fields that were handed out together; the file's name."""
    name = segments.name_of_bundle(number, len(rows))
    write_table(study / "evals" / name, rows, EVALS)
    return name


def test_rows_of_a_bundle_are_newer_than_segments_and_older_than_single_ones(study: Place) -> None:
    """A cell in each kind of file: its row of the newest counts, for readers, for the driver, and when all is one segment."""
    write(study, *(row_of(i, step=1) for i in range(6)))
    driver = known(study)
    driver.gather(set)
    write_bundle(study, driver.next_number(), *(row_of(i, step=2) for i in range(4)))
    driver.refresh()
    write_bundle(study, driver.next_number(), *(row_of(i, step=3) for i in (0, 1, 7)))
    write(study, row_of(0, step=4))
    expected = {f"{i:020x}": step for i, step in {0: 4, 1: 3, 2: 2, 3: 2, 4: 1, 5: 1, 7: 3}.items()}
    assert {cell: row["step"] for cell, row in newest(study).items()} == expected
    driver.refresh()
    assert {cell: row["metric_names"] for cell, row in driver.rows.items()} == dict.fromkeys(expected, "fid")
    assert driver.untidy
    driver.tidy()
    assert sizes(study) == [7, 0] and not driver.untidy
    assert {cell: row["step"] for cell, row in newest(study).items()} == expected
    assert driver.next_number() == 3, "it does not begin anew"
    write_bundle(study, 7, row_of(9))
    assert known(study).next_number() == 8


def test_rows_of_a_bundle_are_gathered_but_for_those_in_use(study: Place) -> None:
    """As many files as are gathered; one has a cell of a running trial, another one that is to be measured again."""
    used = write_bundle(study, 1, row_of(0), row_of(1))
    again = write_bundle(study, 2, row_of(2), row_of(3, metric_names="other"))
    for i in range(4, 10):
        write_bundle(study, i, row_of(i))
    driver = known(study)
    driver.gather(lambda: {f"{1:020x}"})
    assert sizes(study) == [6, 2] and {used, again} <= set((study / "evals").files())
    write(study, row_of(3))
    driver.tidy()
    assert sizes(study) == [10, 0] and len(newest(study)) == 10


def test_a_number_that_is_none_does_not_stop_the_gathering(study: Place) -> None:
    write(study, *(row_of(i, metric_fid=math.nan) for i in range(5)))
    known(study).gather(set)
    assert sizes(study) == [5, 0] and all(math.isnan(float(str(row["metric_fid"]))) for row in read_evals(study))


def test_few_rows_stay_a_file_each(study: Place) -> None:
    write(study, *map(row_of, range(4)))
    before = (study / "evals").stamps()
    rows = known(study)
    rows.gather(set)
    rows.tidy()
    assert (study / "evals").stamps() == before and not rows.untidy


def test_small_segments_grow_until_they_are_full(study: Place) -> None:
    """On the way a segment takes further rows; full ones are not touched again; at the end no single file is left."""
    rows = known(study)
    for start in range(0, 25, 5):
        write(study, *map(row_of, range(start, start + 5)))
        rows.gather(set)
    assert sizes(study) == [10, 10, 5, 0]
    full = names(study)[:2]
    write(study, row_of(25), row_of(26))
    rows.gather(set)
    assert sizes(study) == [10, 10, 5, 2], "too few to be worth it while the study runs"
    rows.tidy()
    assert sizes(study) == [10, 10, 7, 0] and names(study)[:2] == full and not rows.untidy
    assert set(rows.rows) == set(newest(study)) == {f"{i:020x}" for i in range(27)}


def test_rows_that_someone_may_still_write_stay_where_they_are(study: Place) -> None:
    """Those of running trials, and those that are to be measured again."""
    write(study, *map(row_of, range(8)), row_of(8, metric_names="kid"))
    rows = known(study)
    rows.gather(lambda: {f"{i:020x}" for i in (0, 1)})
    assert sizes(study) == [6, 3]
    assert set((study / "evals").files()) >= {f"{i:020x}.parquet" for i in (0, 1, 8)}
    rows.tidy()
    assert sizes(study) == [8, 1] and not rows.untidy


def test_of_two_rows_of_a_cell_the_newer_counts_for_every_reader(study: Place) -> None:
    """A file of one row beats a segment, and a later segment an earlier one; gathering at the end leaves one row a cell."""
    write(study, *map(row_of, range(10)))
    write_table(study / "manifest.parquet", [{"cell_id": f"{i:020x}"} for i in range(10)], MANIFEST)
    write_text(study / "study.yaml", "name: study\n")
    rows = known(study)
    rows.gather(set)
    again = [row_of(i, metric_fid=1000.0 + i, status="failed") for i in range(6)]
    for written, there in ((again[:4], [10, 4]), (again[4:], [10, 6, 0])):
        write(study, *written)
        rows.gather(set)
        rows.refresh()
        n = int(str(written[-1]["cell_id"]), 16) + 1
        assert sizes(study) == there
        frame, failed = load_study(study), {f"{i:020x}" for i in range(n)}
        assert set(frame.loc[frame["status"].eq("failed"), "cell_id"]) == failed and len(frame) == 10
        assert frame.attrs["skipped"] == {"duplicate row": n}
        assert {cell for cell, row in rows.rows.items() if row["status"] == "failed"} == failed
        assert {cell for cell, row in newest(study).items() if row["status"] == "failed"} == failed
        assert f"10 of 10 rows, {max(n, 10 - n)} " in status(study)[0] and f"{n} failed" in status(study)[0]
    rows.tidy()
    assert sizes(study) == [10, 0] and load_study(study).attrs["skipped"] == {}
    assert newest(study) == {str(row["cell_id"]): row for row in [*again, *map(row_of, range(6, 10))]}


def test_dropped_rows_are_gone_from_every_file(study: Place) -> None:
    """Also from an older segment, where an earlier row of the cell would come to light again."""
    write(study, *map(row_of, range(12)))
    rows = known(study)
    rows.gather(set)
    write(study, row_of(3, status="failed"), row_of(12))
    rows.refresh()
    rows.drop({f"{i:020x}" for i in (3, 11)})
    left = {f"{i:020x}": row_of(i) for i in (0, 1, 2, *range(4, 11), 12)}
    assert newest(study) == left and len(read_evals(study)) == len(left) and set(rows.rows) == set(left)


def test_a_damaged_segment_is_set_aside_and_its_cells_are_missing(study: Place) -> None:
    write(study, *map(row_of, range(15)))
    known(study).gather(set)
    first = study / "evals" / names(study)[0]
    content = first.read()
    first.write(content[: len(content) // 2])
    rows = known(study)
    assert len(rows.rows) == 5 and sizes(study) == [5, 0] and f"{first.name}.unreadable" in (study / "evals").files()


def test_columns_that_this_version_does_not_know_are_kept(study: Place) -> None:
    """A later version's column, and one whose type differs: that file is left alone."""
    schema = pa.schema([*EVALS, pa.field("metric_new", pa.float64(), metadata={b"facts": b'{"label":"new"}'})])
    for i in range(4):
        write_table(study / "evals" / f"{i:020x}.parquet", [{**row_of(i), "metric_new": 1.0 + i}], schema)
    write(study, row_of(4))
    other = pa.schema([*EVALS, pa.field("metric_new", pa.string())])
    write_table(study / "evals" / f"{5:020x}.parquet", [{**row_of(5), "metric_new": "one"}], other)
    known(study).gather(set)
    assert sizes(study) == [5, 1]
    rows = newest(study)
    assert [rows[f"{i:020x}"].get("metric_new") for i in range(6)] == [1.0, 2.0, 3.0, 4.0, None, "one"]
    assert carried_facts(table.schema for table in read_folder(study / "evals"))["metric_new"] == {"label": "new"}


def test_a_refresh_reads_what_is_new_and_what_was_replaced(gate: Gate, tmp_path: Path) -> None:
    study, read = Place.of(f"s3://bucket/{tmp_path.name}"), list[str]()
    write(study, *map(row_of, range(4)))

    def note(method: str, path: str) -> None:
        if method == "GET" and path.partition("?")[0].endswith(".parquet"):
            read.append(path.rpartition("/")[2])

    gate.refuse = note
    try:
        rows = known(study)
        assert len(set(read)) == 4
        read.clear()
        rows.refresh()
        assert read == []
        write(study, row_of(2, metric_fid=7.0, error="a longer row"), row_of(4))
        rows.refresh()
        assert set(read) == {f"{i:020x}.parquet" for i in (2, 4)} and rows.rows[f"{2:020x}"]["metric_fid"] == 7.0
        (study / "evals" / f"{0:020x}.parquet").delete()
        read.clear()
        rows.refresh()
        assert read == [] and len(rows.rows) == 4
    finally:
        gate.refuse = lambda method, path: None


def test_a_reader_sees_every_row_while_rows_are_gathered(study: Place) -> None:
    """A reader that lists files before they are replaced, or while they are, looks again."""
    write(study, *map(row_of, range(20)))
    rows, ended = known(study), threading.Event()
    seen: list[set[str]] = []

    def look() -> None:
        while not ended.is_set():
            seen.append(set(newest(study)))

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(3):
        rows.gather(set)
        write(study, *(row_of(k) for k in range(20 + 6 * i, 26 + 6 * i)))
    rows.tidy()
    ended.set()
    reader.join()
    every = {f"{i:020x}" for i in range(20)}
    assert seen and all(cells >= every for cells in seen)


CHILD = """\
import sys
from helpers.rows import known, row_of, write
from study.rows import measured, segments
from study.rows.storage import Place

measured.LOOSE = 5
measured.SEGMENT_ROWS = segments.SEGMENT_ROWS = 10
study = Place.of(sys.argv[1])
rows = known(study)
rows.tidy()
for i in range(int(sys.argv[2]), 10**6):
    write(study, row_of(i))
    print(i, flush=True)
    rows.gather(set)
    if i % 17 == 16:
        rows.tidy()
"""


@pytest.mark.slow
def test_kills_in_the_middle_lose_no_row_and_change_none(study: Place) -> None:
    """A process writes rows and gathers them, and is killed at random moments; the next one goes on where it was."""
    moments, last, left, kills = random.Random(0), -1, set[str](), 0
    path = os.pathsep.join(str(Path(__file__).resolve().parents[n]) for n in (2, 3))
    while kills < 5 or last <= 15 or len(left) <= 2:  # a slow machine writes less before each kill
        assert kills < 60, f"{last + 1} rows and {len(left)} segments"
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, study.uri, str(last + 1)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()  # pyarrow is loaded now
        time.sleep(moments.uniform(0.0, 0.6))
        process.kill()
        kills += 1
        last = max(map(int, [first, *process.stdout.read().splitlines()]))
        process.wait()
        found = newest(study)
        left |= {name for name in (study / "evals").files() if is_segment(name)}
        assert set(found) >= {f"{i:020x}" for i in range(last + 1)}, "a row that was written is there"
        assert all(row == row_of(int(cell, 16)) for cell, row in found.items())
        assert set(known(study).rows) == set(found)
    known(study).tidy()
    assert len(read_evals(study)) == len(newest(study)) >= last + 1
