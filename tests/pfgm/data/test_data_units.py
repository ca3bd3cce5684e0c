"""Vectors that float32 cannot hold as they are: nothing is rounded away, and samples come back in the units of the file."""

import hashlib
import math
import re

import numpy as np
import pytest
import torch

from pfgm.config import DataConfig, EvaluateConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.data.describe import describe, text
from pfgm.data.errors import DataError
from pfgm.data.units import FAR, stored, units_of
from pfgm.flow.checkpoint import load_field
from pfgm.flow.exact import exact_field, exact_train
from pfgm.flow.trained import Field
from pfgm.flow.written import pack_field, save_field
from pfgm.metrics.evaluator import Evaluator
from pfgm.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = np.random.default_rng(5).standard_normal((300, 2))
SAMPLER = {"solver": "heun2", "steps": 6}


def read(tmp_path, values, **keys):
    np.save(tmp_path / "v.npy", values)
    return load_data(DataConfig(name="vectors", path=str(tmp_path / "v.npy"), **keys))


def trained(data) -> Field:
    trainer = Trainer(data, NetworkConfig(width=16, depth=1), TrainConfig(steps=20, batch_size=32), seed=0)
    list(trainer.run())
    return Field.from_trainer(trainer)


@pytest.mark.parametrize("offset", [1e7, -1.7e9])
def test_an_offset_costs_no_digits(tmp_path, offset):
    data = read(tmp_path, PLAIN + offset)
    assert describe(data).duplicates == 0
    assert len(np.unique((PLAIN + offset).astype(np.float32), axis=0)) < 200  # what a cast would have left
    exact = torch.from_numpy(PLAIN - PLAIN.mean(0))
    assert float((data.points[:] - exact).abs().max()) < 1e-6
    assert float((data.info.restored(data.raw[:]) - torch.from_numpy(PLAIN + offset)).abs().max()) < 1e-6


def test_samples_and_metrics_do_not_know_of_the_offset(tmp_path):
    """The same field and the same distances, and samples that differ by the offset and nothing else."""
    plain, moved = read(tmp_path, PLAIN), read(tmp_path, PLAIN + 1e7)
    a, b = trained(plain), trained(moved)
    x, y = a.sample(64, **SAMPLER), b.sample(64, **SAMPLER)
    assert (x.dtype, y.dtype) == (torch.float32, torch.float64)
    assert float((y - 1e7 - x).abs().max()) < 1e-4
    assert float((y.float().double() - 1e7 - x).abs().max()) > 0.1  # float32 would not have told them apart
    config = EvaluateConfig(samples=200, metrics=("fid", "kid", "precision_recall", "neighbours", "energy", "solver_error"))
    rows = [Evaluator(data, config).of(f).at(SamplerConfig(**SAMPLER), 0).row for data, f in ((plain, a), (moved, b))]
    for key in (
        "metric_fid",
        "metric_fid_floor",
        "metric_fid_gaussian",
        "metric_energy",
        "metric_nn_ratio",
        "metric_solver_error",
    ):
        assert rows[0][key] == pytest.approx(rows[1][key], rel=1e-3), key
    back = b.decode(b.encode(y[:5], rtol=1e-4), rtol=1e-4)
    assert float((back - y[:5]).abs().max()) < 1e-2


def test_a_stored_field_knows_its_units(tmp_path):
    data = read(tmp_path, PLAIN * [1, 1e4] + [1e7, 0], standardize=True)
    field = trained(data)
    save_field(field, tmp_path / "field")
    again = load_field(tmp_path / "field")
    assert torch.equal(again.sample(8, **SAMPLER), field.sample(8, **SAMPLER))
    assert torch.equal(again.process.info.offset, data.info.offset) and torch.equal(again.process.info.scale, data.info.scale)
    assert b'"format": 3' in pack_field(field)["field.json"]
    assert b'"format": 2' in pack_field(trained(read(tmp_path, PLAIN)))["field.json"]  # older versions read it


def test_standardized_columns_have_unit_variance_and_come_back(tmp_path):
    values = np.column_stack([PLAIN * [3.0, 2e5] + [1.7e9, -4e6], np.full(300, 7.0)])
    data = read(tmp_path, values, standardize=True)
    points = data.points[:].double()
    torch.testing.assert_close(points.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]).double(), atol=1e-6, rtol=0)
    assert float(points.mean(0).abs().max()) < 1e-6
    assert float((data.info.restored(data.raw[:]) - torch.from_numpy(values)).abs().max()) < 1e-1
    relative = (data.info.restored(data.raw[:]) - torch.from_numpy(values))[:, :2] / torch.from_numpy(values.std(0)[:2])
    assert float(relative.abs().max()) < 1e-6
    x = trained(data).sample(200, **SAMPLER)
    assert x.dtype == torch.float64
    assert torch.all(((x.mean(0) - torch.from_numpy(values.mean(0)))[:2] / torch.from_numpy(values.std(0))[:2]).abs() < 1)
    not_so = read(tmp_path, values)
    assert float(not_so.points[:].std(0).max()) > 1e5
    assert not_so.info.hash != data.info.hash


def test_likelihood_is_that_of_the_units_of_the_file(tmp_path):
    """A column in units 10⁴ times smaller has a density 10⁴ times lower."""
    options = {"T": 20.0, "t_min": 0.1, "rtol": 1e-6}
    found = []
    for values in (PLAIN, PLAIN * [1, 1e4] + [1e7, 0]):
        data = read(tmp_path, values, standardize=True)
        field = exact_field("gaussian_mixture", data, exact_train(1.0, data.info))
        found.append(field.log_likelihood(torch.from_numpy(values[:20]), **options).log_prob)
    torch.testing.assert_close(found[1], found[0] - math.log(1e4), atol=1e-3, rtol=0)


def test_what_needs_no_units_keeps_its_identity(tmp_path):
    values = PLAIN + np.array([0.0, 1600.0])
    data = read(tmp_path, values)
    assert not data.info.rescaled and data.notes == ()
    plain = hashlib.sha256(repr(((2,), True)).encode() + values.astype(np.float32).tobytes())
    assert data.info.hash == plain.hexdigest()
    hashes = {read(tmp_path, PLAIN + offset).info.hash for offset in (1e7, 2e7, 3e7)}
    assert len(hashes) == 3  # stored points are the same, samples are not


def test_held_out_points_do_not_set_the_units(tmp_path):
    values = PLAIN + 1e7
    data = read(tmp_path, values, holdout=0.25, standardize=True)
    assert float(data.points[:].double().square().mean(0).sub(1).abs().max()) < 1e-5
    assert float(data.test[:].double().square().mean(0).sub(1).abs().max()) > 1e-3
    everything = data.info.restored(torch.cat([data.raw[:], data.test[:]]))
    torch.testing.assert_close(everything.sort(0).values, torch.from_numpy(values).sort(0).values, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (PLAIN * [1, 2e3], "columns differ in scale: column 0 .* data.standardize: true"),
        ((PLAIN + 1e7).astype(np.float32), "as float32 the file holds it in steps of up to 1.2; save it as float64"),
        (np.vstack([PLAIN, [[1e9, 0.0]]]), "column 0 reaches 1e\\+09, and half of its values lie within .* remove outliers"),
    ],
)
def test_what_is_lost_is_said(tmp_path, values, words):
    data = read(tmp_path, values)
    assert sum(re.search(words, note) is not None for note in data.notes) == 1
    assert data.notes[0] in text(describe(data))
    assert read(tmp_path, PLAIN * [1, 900]).notes == ()


def test_an_offset_that_must_stay_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"^data\.center: column 0 reaches 1e\+07 .* remove center: false$"):
        read(tmp_path, PLAIN + 1e7, center=False)
    assert read(tmp_path, PLAIN + 1000, center=False).info.offset is None
    np.savez(tmp_path / "i.npz", np.zeros((9, 4, 4)) + np.linspace(-1, 1, 9)[:, None, None])
    with pytest.raises(DataError, match=r"^data\.standardize: .* has images.* or use name: vectors"):
        load_data(DataConfig(name="npz", path=str(tmp_path / "i.npz"), standardize=True))


def test_facts_of_many_chunks_are_those_of_the_whole(monkeypatch):
    values, rows = PLAIN * [1, 50] + [1e7, 3], np.arange(0, 300, 2)
    whole = units_of(values, rows, True, True)
    monkeypatch.setattr("pfgm.data.units.CHUNK_VALUES", 40)
    parts = units_of(values, rows, True, True)
    assert np.array_equal(whole.offset, parts.offset) and np.array_equal(whole.scale, parts.scale)
    assert np.array_equal(stored(values, whole), stored(values, parts))
    np.testing.assert_allclose(whole.scale, values[rows].std(0), rtol=1e-8)
    borders = [
        units_of(PLAIN[:, :1] * 0 + np.linspace(-1, 1, 300)[:, None] + far * 0.58, None, True, False)
        for far in (0.98 * FAR, 1.02 * FAR)
    ]
    assert [units.offset is None for units in borders] == [True, False]
