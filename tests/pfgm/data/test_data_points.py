"""Points as they are stored: decoding is exact, flips are part of the data, nothing is copied that need not be."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.data.points import Points
from pfgm.field.empirical import mean_source, normalized_target
from pfgm.training.trainer import Trainer

ITEM = (3, 4, 5)


def some_bytes(n: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 60), dtype=np.uint8))


def decoded(stored: torch.Tensor, flip: bool = False) -> torch.Tensor:
    """The same by the definition, from the whole array."""
    values = torch.from_numpy(stored.numpy().astype(np.float32) / np.float32(127.5) - np.float32(1))
    return torch.cat([values, values.reshape(-1, *ITEM).flip(3).reshape(-1, 60)]) if flip else values


def test_every_byte_is_decoded_to_the_nearest_float():
    points = Points(torch.arange(256, dtype=torch.uint8)[:, None], (1,))
    exact = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    assert (points[:][:, 0].double() - exact).abs().max() < 6e-8  # half a unit in the last place of v/127.5 < 2
    assert points[0].item() == -1
    assert points[255].item() == 1


INDICES = (
    slice(None), slice(2, 5), slice(5, 9), slice(None, None, 3), slice(1, None, 4), slice(7, None), slice(9, 3),
    slice(-3, None),
    3, -1, torch.tensor(12), torch.tensor([[0, 7], [13, 6]]), torch.tensor([-1, -14, -7]), [1, 8],
    torch.arange(14) % 3 == 1, torch.zeros(0, dtype=torch.long), torch.zeros(2, 0, 3, dtype=torch.long),
)  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_points_are_indexed_as_the_decoded_tensor_is(index, flip, dtype):
    stored = some_bytes(7 if flip else 14)
    shift = torch.linspace(-0.3, 0.4, 60)
    whole = decoded(stored, flip) - shift
    points = Points(stored if dtype == torch.uint8 else decoded(stored), ITEM, shift, flip=flip)
    assert points.shape == whole.shape == (len(points), 60)
    assert points.dtype == torch.float32 and points.is_floating_point() and points.ndim == 2
    taken = points[index]
    assert taken.shape == whole[index].shape
    assert torch.equal(taken, whole[index])


@pytest.mark.parametrize("flip", [False, True])
def test_rows_are_the_points_and_the_rest_is_never_seen(flip):
    stored, rows = some_bytes(9), torch.tensor([0, 4, 5, 8])
    points = Points(stored, ITEM, rows=rows, flip=flip)
    whole = decoded(stored[rows], flip)
    assert torch.equal(points[:], whole)
    assert torch.equal(points[torch.tensor([3, 0])], whole[[3, 0]])
    assert torch.equal(points[1:7:2], whole[1:7:2])
    assert points.to("cpu") is points
    moved = points.to("meta")
    assert len(moved.stored) == 4 and moved.rows is None


def test_indices_out_of_range_are_errors():
    for flip in (False, True):
        points = Points(some_bytes(4), ITEM, flip=flip)
        for index in (len(points), -len(points) - 5):
            with pytest.raises(IndexError, match="out of"):
                points[index]
        assert len(list(points)) == len(points)


def test_bytes_stay_bytes():
    stored = some_bytes(1000)
    points = Points(stored, ITEM, torch.ones(60))
    assert points.stored.data_ptr() == stored.data_ptr()
    before = stored.clone()
    points[:].zero_()
    points[3:4].add_(1.0)
    assert torch.equal(stored, before)
    assert len(pickle.dumps(points)) < 2 * stored.numel()
    floats = Points(decoded(stored), ITEM)
    assert floats[5:9].data_ptr() == floats.stored[5].data_ptr()  # no copy where nothing is to be decoded


def test_only_bytes_and_floats_and_only_images_are_mirrored():
    with pytest.raises(ValueError, match=r"got torch\.int64: convert"):
        Points(torch.zeros(3, 2, dtype=torch.long), (2,))
    with pytest.raises(ValueError, match="need stored rows of their size"):
        Points(torch.zeros(3, 2), (3,))
    with pytest.raises(ValueError, match="only images"):
        Points(torch.zeros(3, 2), (2,), flip=True)


@pytest.mark.parametrize("flip", [False, True])
def test_the_field_of_points_is_the_field_of_their_tensor(flip):
    points = Points(some_bytes(300), ITEM, torch.full((60,), 0.1), flip=flip)
    whole = points[:]
    g = torch.Generator().manual_seed(1)
    for scale, t in ((0.01, 1e-3), (1.0, 2.0), (30.0, 40.0)):
        x = whole[:20] + scale * torch.randn(20, 60, generator=g)
        assert torch.equal(mean_source(x, t, points), mean_source(x, t, whole))
        assert torch.equal(normalized_target(x, t, points, 5.0), normalized_target(x, t, whole, 5.0))


def image_file(tmp_path, n: int = 40, floats: bool = False) -> str:
    images = np.random.default_rng(3).integers(0, 256, (n, 4, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images.astype(np.float32) / 127.5 - 1 if floats else images)
    return str(tmp_path / "images.npz")


def test_a_data_set_of_bytes_is_that_of_its_floats(tmp_path):
    a = load_data(DataConfig(name="npz", path=image_file(tmp_path)))
    assert a.points.stored.dtype == torch.uint8
    b = load_data(DataConfig(name="npz", path=image_file(tmp_path, floats=True)))
    assert torch.equal(a.points[:], b.points[:]) and torch.equal(a.raw[:], b.raw[:])
    assert torch.equal(a.info.mean, b.info.mean)
    assert (a.info.mean_norm, a.info.sd) == (b.info.mean_norm, b.info.sd)
    assert a.points.stored.data_ptr() == a.raw.stored.data_ptr()


def test_facts_of_many_chunks_are_those_of_the_whole(tmp_path, monkeypatch):
    config = DataConfig(name="npz", path=image_file(tmp_path), flip=True)
    whole = load_data(config)
    monkeypatch.setattr("pfgm.data.dataset.CHUNK_VALUES", 200)
    parts = load_data(config)
    assert parts.info.hash == whole.info.hash
    assert torch.allclose(parts.info.mean, whole.info.mean, atol=1e-7)
    assert parts.info.mean_norm == pytest.approx(whole.info.mean_norm, rel=1e-12)
    assert parts.info.sd == pytest.approx(whole.info.sd, rel=1e-12)


def test_flips_double_the_points_and_are_in_every_fact(tmp_path):
    path = image_file(tmp_path)
    plain, flipped = (load_data(DataConfig(name="npz", path=path, flip=flip)) for flip in (False, True))
    assert flipped.info.n == len(flipped.points) == 80
    assert len(flipped.raw) == 40
    x = flipped.points[:].double()
    assert x.mean(0).abs().max() < 1e-6
    assert flipped.info.mean_norm == pytest.approx(float(x.norm(dim=1).mean()), rel=1e-6)
    assert flipped.info.sd == pytest.approx(float(x.square().mean().sqrt()), rel=1e-6)
    mirrored = (flipped.points[:] + flipped.info.mean).reshape(80, *flipped.info.shape)
    assert torch.allclose(mirrored[40:], mirrored[:40].flip(3), atol=1e-6)
    assert flipped.info.hash != plain.info.hash
    trainer = Trainer(flipped, NetworkConfig(width=16, depth=1), TrainConfig(steps=2, batch_size=16), seed=0)
    assert trainer.train.reference_batch_size == 80
    assert list(trainer.run())[-1].step == 2


def test_hashes_of_the_embedded_data_are_pinned():
    """Trained fields are stored by these: a change here orphans every one of them."""
    assert load_data(DataConfig()).info.hash == "e3017db24477db54d94e612a357170503b2883a88a2166980b554606cb878e24"
    rings = load_data(DataConfig(name="rings", center=False)).info
    assert rings.hash == "2492c837c1623d50042b0f3eb2f9bb3d060ce841b696086566d4a3f1c32f3e41"


def test_the_hash_covers_what_is_trained_on(tmp_path):
    path = image_file(tmp_path)
    configs = [{}, {"center": False}, {"flip": True}, {"holdout": 0.2}, {"holdout": 0.3}, {"flip": True, "center": False}]
    hashes = {load_data(DataConfig(name="npz", path=path, **c)).info.hash for c in configs}
    hashes.add(load_data(DataConfig(name="vectors", path=path)).info.hash)
    assert len(hashes) == len(configs) + 1
    data = load_data(DataConfig(name="npz", path=path))
    stored = hashlib.sha256(repr(((3, 4, 5), True, "uint8")).encode() + data.raw.stored.numpy().tobytes())
    assert data.info.hash == stored.hexdigest()


def test_holdout_is_apart_by_a_fixed_draw(tmp_path):
    path = image_file(tmp_path)
    data = load_data(DataConfig(name="npz", path=path, holdout=0.25))
    assert len(data.test) == 10 and len(data.points) == len(data.raw) == data.info.n == 30
    everything = {bytes(row) for row in load_data(DataConfig(name="npz", path=path)).raw.stored.numpy()}
    kept, apart = ({row.numpy().tobytes() for row in part[:]} for part in (data.raw, data.test))
    assert len(kept | apart) == len(everything) == 40 and not kept & apart
    assert torch.equal(load_data(DataConfig(name="npz", path=path, holdout=0.25, center=False)).test[:], data.test[:])
    assert torch.allclose(data.info.mean, data.raw[:].mean(0), atol=1e-6)
    flipped = load_data(DataConfig(name="npz", path=path, holdout=0.25, flip=True))
    assert len(flipped.points) == 60 and len(flipped.test) == 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: it takes an NVIDIA GPU and its driver")
def test_points_on_a_device_and_beside_it(monkeypatch):
    stored = some_bytes(300)
    points = Points(stored, ITEM, torch.full((60,), 0.1), flip=True)
    near = points.to("cuda")
    assert near.stored.is_cuda
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000, 10_000))
    far = points.to("cuda")
    assert not far.stored.is_cuda and far.device.type == "cuda"
    index = torch.tensor([0, 299, 300, 599])
    for moved in (near, far):
        assert torch.equal(moved[:].cpu(), points[:])
        for i in (index, index.cuda()):
            assert moved[i].is_cuda and torch.equal(moved[i].cpu(), points[index])
    x = points[:20].cuda()
    assert torch.allclose(mean_source(x, 0.5, far).cpu(), mean_source(points[:20], 0.5, points), atol=1e-5)
