"""Tables of numbers as vectors, what is said of those that are not, and files that are not what their name says."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pfgm.config import DataConfig
from pfgm.data.__main__ import main
from pfgm.data.dataset import load_data
from pfgm.data.describe import guess
from pfgm.data.errors import DataError
from pfgm.data.readers.kinds import WORDS, kind_of
from pfgm.data.units import units_of
from study.load import load_study_config

VALUES = np.random.default_rng(2).standard_normal((40, 3)) * [1, 30, 1e4] + [0, 5, 1.7e9]


def read(path, name="vectors", **keys):
    return load_data(DataConfig(name=name, path=str(path), **keys))


def restored(data) -> np.ndarray:
    return data.info.restored(data.raw[:]).numpy()


def written(tmp_path, text: str, name: str = "x.csv"):
    (tmp_path / name).write_bytes(text.encode())
    return tmp_path / name


def lines(values=VALUES, separator=",", comma=False) -> str:
    text = "\n".join(separator.join(f"{v:.17g}" for v in row) for row in values) + "\n"
    return text.replace(".", ",") if comma else text


FORMS = {
    "plain.csv": lines(),
    "header.csv": "a,b,when\n" + lines(),
    "quoted.csv": '"a, b",b,when\r\n' + lines().replace("\n", "\r\n"),
    "bom.csv": "\ufeffa,b,when\n" + lines(),
    "tabs.tsv": "a\tb\twhen\n" + lines(separator="\t"),
    "semicolons.csv": "a;b;when\n" + lines(separator=";"),
    "commas.csv": "a;b;when\n" + lines(separator=";", comma=True),
    "numpy.csv": "# a,b,when\n" + lines(),
    "UPPER.CSV": lines(),
    "pandas.csv": pd.DataFrame(VALUES).to_csv(index=False, float_format="%.17g"),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_a_text_are_the_points(tmp_path, form):
    data = read(written(tmp_path, FORMS[form], form), standardize=True)
    assert data.info.shape == (3,) and data.info.n == 40
    np.testing.assert_allclose(restored(data), VALUES, rtol=1e-7, atol=2e-7 * VALUES.std(0).max())
    arrays = tmp_path / "same.npy"
    np.save(arrays, VALUES)
    assert read(arrays, standardize=True).info.hash == data.info.hash


def test_compressed_texts_and_parquet(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(FORMS["header.csv"].encode()))
    frame = pd.DataFrame(VALUES, columns=["a", "b", "when"], index=[f"row {k}" for k in range(40)])
    frame.to_parquet(tmp_path / "x.parquet")  # with its index, which is not a column
    lists = pa.table({"vector": [list(map(float, row)) for row in VALUES]})
    pq.write_table(lists, tmp_path / "lists.parquet")
    small = pa.table({"a": pa.array(VALUES[:, 0]), "b": pa.array(VALUES[:, 1]), "n": pa.array(range(40), pa.int8())})
    pq.write_table(small, tmp_path / "small.parquet")
    for name in ("x.csv.gz", "x.parquet", "lists.parquet"):
        data = read(tmp_path / name)
        np.testing.assert_allclose(restored(data), VALUES, rtol=1e-6)
        assert guess(tmp_path / name) == "vectors"
    counted = read(tmp_path / "small.parquet")
    assert counted.raw[:][:, 2].tolist() == list(range(40))
    assert "column 'n' of" in counted.notes[0] and "counts the rows" in counted.notes[0]
    assert not any("counts the rows" in note for note in read(tmp_path / "x.parquet").notes)


def test_columns_are_called_by_their_names(tmp_path):
    data = read(written(tmp_path, FORMS["header.csv"]))
    assert "40 rows, columns a, b, when" in data.how
    assert any("'a' has a standard deviation of" in note and "'when' of" in note for note in data.notes)
    assert units_of(VALUES, None, True, False).notes[0].startswith("columns differ in scale: column 0 has")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,city\n1,Berlin\n2,Rome\n3,Oslo\n4,Bern\n", r"no numbers: 'city' \(4 of 4 values are words: 'Berlin' in line 2\)"),
        ("a,b\n1,2\n2,?\n3,4\n4,5\n", r"'b' \(1 of 4 values are words: '\?' in line 3\)"),
        ("a,b\n1,2\n2,\n3,4\n,\n", r"gaps: 'a' lacks 1 of 4 values \(the first in line 5\), 'b' lacks 2 of 4 .*line 3\)"),
        ("1,2\n2,NA\n3,4\n4,5\n", r"gaps: '1' lacks 1 of 4 values \(the first in line 2\).* fill them in"),
        ("a,b\n1,inf\n2,3\n3,4\n4,5\n", r"'b' lacks 1 of 4 values \(the first in line 2\)"),
        ("a,d\n1,2020-01-01\n2,2020-01-02\n3,2020-01-03\n4,2020-01-04\n", r"'d' \(dates or times\).*times: seconds"),
        ("a,t\n1,true\n2,false\n3,true\n4,true\n", r"'t' \(true and false\).*1 and 0"),
        ("a,b\n1,2\n2,3,4\n", r"is not a readable table \(.*Expected 2 columns, got 3"),
        (",a,b\n0,1,2\n1,2,3\n2,3,4\n3,1,1\n", r"has no name, as pandas writes its index; .*index=False"),
        ("a,a\n1,2\n2,3\n3,1\n4,4\n", r"several columns 'a'; give each a name of its own"),
        ("a,b\n", r"has 0 rows of 2 columns"),
        ("", r"is not a readable table|has 0 rows"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_named_by_column_and_line(tmp_path, text, words):
    with pytest.raises(DataError, match=words) as caught:
        read(written(tmp_path, text))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("data.path: ")


def test_tables_and_pictures_in_parquet_are_told_apart(tmp_path):
    png = io.BytesIO()
    Image.new("L", (8, 8)).save(png, "PNG")
    pq.write_table(pa.table({"image": [png.getvalue()] * 4, "label": range(4)}), tmp_path / "p.parquet")
    assert guess(tmp_path / "p.parquet") == "parquet"
    with pytest.raises(DataError, match=r"'image' \(pictures, or other bytes\); .*use name: parquet"):
        read(tmp_path / "p.parquet")
    pq.write_table(pa.table({"a": [1.0, 2.0]}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match=r"no column holds pictures as bytes; for a table of numbers use name: vectors"):
        read(tmp_path / "n.parquet", name="parquet")
    with pytest.raises(DataError, match=r"is a table of numbers; use name: vectors"):
        read(written(tmp_path, lines()), name="npz")
    pq.write_table(pa.table({"a": [[1.0], [1.0, 2.0]]}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"column 'a' of .* has lists of several lengths"):
        read(tmp_path / "r.parquet")


def test_the_array_of_an_archive_by_its_key(tmp_path):
    a, b = VALUES[:, :2], VALUES[:, 1:]
    np.savez(tmp_path / "two.npz", a=a, b=b)
    for key, values in (("a", a), ("b", b)):
        for name in ("npz", "vectors"):
            data = read(tmp_path / "two.npz", name=name, key=key)
            assert data.info.dim == 2
            np.testing.assert_allclose(restored(data), values, rtol=1e-6)
    with pytest.raises(DataError, match=r"^data\.key: no array in .*; it holds a, b, write one of these"):
        read(tmp_path / "two.npz", key="c")
    np.save(tmp_path / "one.npy", a)
    for path in (tmp_path / "one.npy", written(tmp_path, lines())):
        with pytest.raises(DataError, match=r"^data\.key: belongs to an \.npz file with several arrays"):
            read(path, key="a")
    with pytest.raises(DataError, match=r"^data\.key: belongs to npz, vectors"):
        load_data(DataConfig(name="rings", key="a"))


def files(folder) -> dict[str, bytes]:
    """One file of each kind."""
    np.save(folder / "t.npy", VALUES)
    np.savez(folder / "t.npz", VALUES)
    torch.save({"a": torch.zeros(2)}, folder / "t.pt")
    Image.new("RGB", (4, 4)).save(folder / "t.png")
    pq.write_table(pa.table({"a": [1]}), folder / "t.parquet")
    made = {kind: (folder / f"t.{end}").read_bytes() for kind, end in (
        ("npy", "npy"), ("npz", "npz"), ("torch", "pt"), ("picture", "png"), ("parquet", "parquet"))}  # fmt: skip
    with zipfile.ZipFile(folder / "z", "w") as archive:
        archive.writestr("a.txt", "hello")
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(folder / "z", "z")
    made |= {"zip": (folder / "z").read_bytes(), "tar": (folder / "a.tar").read_bytes()}
    safe = (2).to_bytes(8, "little") + b"{}"
    return made | {
        "gzip": gzip.compress(b"x"), "pickle": pickle.dumps([1, 2]), "text": "größer\n".encode() * 900, "empty": b"",
        "safetensors": safe, "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(99), "matlab": b"MATLAB 5.0 MAT-file" + bytes(99),
    }  # fmt: skip


def test_a_file_is_what_its_bytes_say(tmp_path):
    for kind, content in files(tmp_path).items():
        (tmp_path / "unknown").write_bytes(content)
        assert kind_of(tmp_path / "unknown") == kind
        assert kind in WORDS
    (tmp_path / "unknown").write_bytes(bytes(range(256)) * 4)
    assert kind_of(tmp_path / "unknown") is None


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_file_of_another_kind_is_named_with_the_cure(tmp_path, suffix):
    made = files(tmp_path)
    for kind, content in made.items():
        path = tmp_path / f"wrong{suffix}"
        path.write_bytes(content)
        if kind in ("npy", "npz"):  # read by what it is
            np.testing.assert_allclose(restored(read(path)), VALUES, rtol=1e-6)
            continue
        with pytest.raises(DataError, match=r"^data\.path: ") as caught:
            read(path)
        text = str(caught.value)
        assert "allow_pickle" not in text and "weights_only" not in text
        assert f"{WORDS[kind]}, not an .npz or .npy file; " in text or kind in ("tar", "gzip")


@pytest.mark.parametrize("kind", ["tar", "gzip"])
def test_an_archive_that_is_not_read_is_to_be_unpacked(tmp_path, kind):
    path = tmp_path / f"photos.{kind}"
    path.write_bytes(files(tmp_path)[kind])
    with pytest.raises(DataError, match=rf"is a {kind} archive; unpack it and give the folder, or make it a zip"):
        read(path, name="images")
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(path, "x.png")
    assert guess(tmp_path / "photos.tar.gz") == "cifar10"
    with pytest.raises(DataError, match=r"has none of CIFAR-10's batches; for pictures, unpack it"):
        read(tmp_path / "photos.tar.gz", name="cifar10")


def test_a_table_from_the_command_line_and_in_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, FORMS["header.csv"])
    assert main(["describe", str(path), "--standardize"]) == 0
    out = capsys.readouterr().out
    assert "40 of shape 3" in out and "over the standard deviation of each column" in out and "note" not in out
    assert main(["describe", str(path)]) == 0
    assert "note" in capsys.readouterr().out
    (tmp_path / "s.yaml").write_text(
        "name: t\ndata: {name: vectors, path: x.csv}\nsampler: {rtol: 1e-3}\nsearch: {sampler: {rtol: {choice: [1e-3, 1e-4]}}}",
        encoding="utf-8",
    )
    config = load_study_config("s.yaml")
    assert config.info.dim == 3 and any("data.standardize: true" in note for note in config.data_notes)
    assert load_study_config("s.yaml", ("data.standardize=true",)).data_notes == ()
