"""The row schema: every column survives the file, and a file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from study.rows.folders import read_evals
from study.rows.records import (
    EVALS,
    HISTORY,
    MANIFEST,
    STATUSES,
    DamagedFile,
    read_table,
    table,
    write_table,
    write_text,
)

EXAMPLES = {pa.string(): "text ü", pa.float64(): 0.1 + 0.2, pa.int64(): 2**53 + 1, pa.bool_(): True}
ROW: dict[str, object] = {name: EXAMPLES[EVALS.field(name).type] for name in EVALS.names}


def test_rows_survive_the_file(tmp_path: Path) -> None:
    empty: dict[str, object] = {"cell_id": "b", "metric_fid": float("inf")}
    write_table(tmp_path / "evals/a.parquet", [ROW, empty], EVALS)
    assert read_table(tmp_path / "evals/a.parquet") == [ROW, {name: empty.get(name) for name in EVALS.names}]
    assert read_evals(tmp_path) == read_table(tmp_path / "evals/a.parquet")


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    write_table(tmp_path / "history.parquet", [], HISTORY)
    assert read_table(tmp_path / "history.parquet") == []
    assert read_evals(tmp_path / "nowhere") == []


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"metric_fud.*study/rows/records\.py"):
        write_table(tmp_path / "a.parquet", [{"cell_id": "a", "metric_fud": 1.0}], EVALS)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_type_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowInvalid, match="Could not convert"):
        write_table(tmp_path / "a.parquet", [{"cell_id": "a", "metric_fid": "low"}], EVALS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, [ROW], EVALS)
    write_table(path, [{"cell_id": "second"}], EVALS)
    assert [row["cell_id"] for row in read_table(path)] == ["second"]
    write_text(tmp_path / "state.json", "{}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "state.json"]


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    """Page checksums alone miss the footer, where a name, a type or a length can change."""
    path = tmp_path / "a.parquet"
    write_table(path, [ROW], EVALS)
    content = path.read_bytes()
    for at in range(0, len(content), 29):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        try:
            changed = read_table(path)
        except DamagedFile:
            continue
        assert b"file.crc32=" not in path.read_bytes(), "only the checksum's own name can be hit unnoticed"
        assert changed == [{name: ROW.get(name) for name in EVALS.names}]


def test_a_row_is_small(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", [ROW], EVALS)
    assert (tmp_path / "a.parquet").stat().st_size < 40_000


def test_the_manifest_is_the_part_known_beforehand() -> None:
    assert set(MANIFEST.names) < set(EVALS.names)
    assert not [name for name in MANIFEST.names if name.startswith(("metric_", "cost_", "diag_"))]
    assert len(set(EVALS.names)) == len(EVALS.names) and len(set(STATUSES)) == 5
    assert table([{}], MANIFEST).num_rows == 1
