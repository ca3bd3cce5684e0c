"""Training by class: the target of a class is that of its own points, and unconditional trainings know nothing of labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.given import dataset
from pfgm.field.plane import Plane
from pfgm.field.target import training_source, training_target
from pfgm.flow.packed import pack_tensors, unpack_tensors
from pfgm.flow.trained import Field
from pfgm.mistakes import Mistake
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_train
from pfgm.training.bundle import bundle_key
from pfgm.training.conditional import ConditionalBatches
from pfgm.training.trainer import Trainer

SMALL = NetworkConfig(width=16, depth=1)


def clusters(n: int = 300, d: int = 2, labelled: bool = True):
    """Three clusters, whose labels are words and whose sizes differ."""
    rng = np.random.default_rng(5)
    which = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    centres = np.zeros((3, d))
    centres[:, :2] = [[2, 0], [-2, 0], [0, 2]]
    x = centres[which] + 0.2 * rng.standard_normal((n, d))
    return dataset(x, labels=np.array(["right", "left", "top"])[which] if labelled else None)


def batches_of(train: TrainConfig, data=None) -> tuple[ConditionalBatches, object]:
    data = clusters() if data is None else data
    process = make_process(resolve_train(train, data.info), data.info)
    return ConditionalBatches(process, Plane(data.points), data.labels, seed=2), data


def blocks(batches):
    told = batches.told
    return [(int(label), told == label) for label in told.unique()]


@pytest.mark.parametrize("process", ["pfgm", "pfgmpp"])
def test_the_target_of_a_class_is_the_field_of_its_points(process):
    """To 1e-5; the field of all points is farther away than 0.05 on average, so a target over all data would be seen."""
    keys = {"objective": "reference"} if process == "pfgmpp" else {}
    batches, data = batches_of(TrainConfig(process=process, conditional=True, label_dropout=0.25, batch_size=64, **keys))
    apart = []
    for _ in range(3):
        x, t, target, *_ = batches.draw(None)
        for label, rows in blocks(batches):
            own = data.points[:] if label == 3 else data.points[data.labels == label]

            def field(points, rows=rows, x=x, t=t):
                if process == "pfgm":
                    gamma = torch.full_like(t[rows], 5.0, dtype=torch.float64)
                    return training_target(x[rows], t[rows], points, gamma)
                return training_source(x[rows], t[rows], points, n_aug=batches.process.n_aug)

            torch.testing.assert_close(target[rows], field(own), rtol=1e-5, atol=1e-5)
            if label < 3:
                apart.append((target[rows] - field(data.points[:])).norm(dim=1).mean())
    assert torch.stack(apart).mean() > 0.05


def test_a_reference_batch_is_cut_to_the_class():
    """The target is over the points of the class in the reference batch, which the batch itself is a part of."""
    batches, data = batches_of(TrainConfig(conditional=True, batch_size=32, reference_batch_size=100, label_dropout=0.3))
    twin = torch.Generator().manual_seed(batches.generators["order"].initial_seed())
    reference = torch.randperm(len(data.points), generator=twin)[:100]
    x, t, target, gamma = batches.draw(None)
    for label, rows in blocks(batches):
        own = reference if label == 3 else reference[data.labels[reference] == label]
        expected = training_target(x[rows], t[rows], data.points[own], gamma[rows])
        torch.testing.assert_close(target[rows], expected, rtol=1e-5, atol=1e-5)


def test_the_raw_objective_draws_its_other_source_from_the_class():
    batches, data = batches_of(TrainConfig(conditional=True, objective="raw", batch_size=64, label_dropout=0.2))
    x, t, target = batches.draw(None)
    sources = x - t[:, None] * target[:, :-1] / target[:, -1:]
    for label, rows in blocks(batches):
        if label < 3:
            own = data.points[data.labels == label]
            assert torch.cdist(sources[rows], own).amin(1).max() < 1e-2
    assert {0, 1, 2, 3} == {label for label, _ in blocks(batches)}


def test_the_share_without_a_class_is_the_one_asked_for():
    """4 standard errors of 6,400 rows: a share that is off by 0.02 is seen."""
    batches, _ = batches_of(TrainConfig(conditional=True, label_dropout=0.2, batch_size=64))
    shares = []
    for _ in range(100):
        batches.draw(None)
        shares.append((batches.told == 3).double().mean())
    assert abs(float(torch.stack(shares).mean()) - 0.2) < 0.02


def test_labels_change_nothing_of_an_unconditional_training():
    """The same points with and without labels give equal weights, bit for bit."""
    train = TrainConfig(steps=12, batch_size=16)
    with_labels, without = (Trainer(clusters(labelled=labelled), SMALL, train, seed=1) for labelled in (True, False))
    for trainer in (with_labels, without):
        list(trainer.run())
    assert clusters().info.hash == clusters(labelled=False).info.hash
    for a, b in zip(with_labels.parameters, without.parameters, strict=True):
        assert torch.equal(a, b)


def test_a_fresh_conditional_network_has_the_weights_of_an_unconditional_one():
    plain, conditional = (Trainer(clusters(), SMALL, TrainConfig(conditional=c), seed=1).network for c in (False, True))
    own = dict(conditional.named_parameters())
    assert set(own) - {name for name, _ in plain.named_parameters()} == {"labels.weight"}
    for name, p in plain.named_parameters():
        assert torch.equal(p, own[name])
    x, t = torch.randn(5, 2), torch.rand(5) + 0.1
    assert torch.equal(plain(x, t), conditional(x, t)) and torch.equal(plain(x, t), conditional(x, t, torch.arange(5) % 3))


@pytest.mark.parametrize("stop", [7, 20])
def test_a_stopped_conditional_training_continues_bit_for_bit(stop, tmp_path):
    train = TrainConfig(steps=30, batch_size=16, conditional=True, reference_batch_size=50)

    def trainer() -> Trainer:
        return Trainer(clusters(), SMALL, train, seed=3)

    whole, first, second = trainer(), trainer(), trainer()
    list(whole.run(report_every=1))
    for progress in first.run(report_every=1):
        if progress.step == stop:
            break
    second.load_state(unpack_tensors(pack_tensors(first.state())))
    list(second.run(report_every=1))
    for a, b in zip(whole.parameters + whole.average, second.parameters + second.average, strict=True):
        assert torch.equal(a, b)


def test_a_step_in_parts_tells_every_row_its_class():
    """Equal up to rounding to the whole step."""
    train = TrainConfig(steps=3, batch_size=16, conditional=True)
    whole, parts = (Trainer(clusters(), SMALL, train, seed=3) for _ in range(2))
    with torch.no_grad():
        for trainer in (whole, parts):
            trainer.network.labels.weight.copy_(torch.linspace(-1, 1, 4)[:, None].expand(4, 128))
            for p in trainer.network.backbone.parameters():
                p.add_(0.05)
    parts.parts = 4
    for trainer in (whole, parts):
        list(trainer.run())
    for a, b in zip(whole.parameters, parts.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


NETWORKS = {
    "mlp": NetworkConfig(width=16, depth=1),
    "unet": NetworkConfig(name="unet", width=8, depth=2),
    "ddpmpp": NetworkConfig(name="ddpmpp", width=8, depth=1, channel_mult=(1, 2)),
    "edm ddpmpp": NetworkConfig(name="edm", width=32, depth=1, channel_mult=(1, 2), head="edm", attention=()),
    "edm adm": NetworkConfig(name="edm", form="adm", width=64, depth=1, channel_mult=(1, 2), head="edm", attention=()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_answers_by_class(name):
    """After some steps classes differ, and none of them is a mix of others in the batch: rows are independent."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    data = dataset(images, labels=np.arange(60) % 2)
    process = "pfgmpp" if name.startswith("edm") else "pfgm"
    trainer = Trainer(data, NETWORKS[name], TrainConfig(process=process, conditional=True, steps=3, batch_size=8), seed=0)
    list(trainer.run())
    network = trainer.network.eval()
    x, t = torch.randn(6, 64), torch.full((6,), 2.0)
    with torch.no_grad():
        network.labels.weight.add_(torch.linspace(-1, 1, 3)[:, None])
        ones, zeros, nothing = (network(x, t, torch.full((6,), k)) for k in (1, 0, 2))
        mixed = network(x, t, torch.tensor([0, 1, 0, 1, 0, 1]))
        assert torch.equal(nothing, network(x, t))
    assert not torch.equal(ones, zeros) and not torch.equal(ones, nothing)
    torch.testing.assert_close(mixed[1::2], ones[1::2])
    torch.testing.assert_close(mixed[::2], zeros[::2])


def test_samples_are_of_the_class_that_was_asked_for():
    """Two seconds of training: all of 60 samples of each cluster end nearest to its centre."""
    trainer = Trainer(clusters(), NetworkConfig(width=64), TrainConfig(conditional=True, steps=600, learning_rate=3e-3), seed=0)
    list(trainer.run())
    field, data = Field.from_trainer(trainer), clusters()
    centres = torch.stack([data.raw[:][data.labels == k].mean(0) for k in range(3)])
    for k, name in enumerate(data.info.classes):
        x = field.sample(60, label=name).float()
        assert (torch.cdist(x, centres).argmin(1) == k).double().mean() > 0.9


def test_data_without_labels_are_refused():
    with pytest.raises(Mistake, match=r"conditional: .* has no labels; give data with classes"):
        Trainer(clusters(labelled=False), SMALL, TrainConfig(conditional=True), seed=0)


def test_a_label_dropout_needs_a_conditional_field():
    with pytest.raises(ValueError, match="label_dropout: belongs to conditional fields"):
        TrainConfig(label_dropout=0.1)
    assert TrainConfig(conditional=True).label_dropout == 0.1 and TrainConfig().label_dropout is None


def test_a_conditional_field_is_no_part_of_a_bundle():
    with pytest.raises(Mistake, match="conditional: is not for bundles"):
        bundle_key(SMALL, TrainConfig(conditional=True))


def test_published_labels_and_classes_of_the_data_exclude_each_other():
    data = dataset(
        np.zeros((20, 1, 8, 8), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None], labels=np.arange(20) % 2
    )
    network = NetworkConfig(name="edm", width=32, depth=1, channel_mult=(1, 2), head="edm", labels=2)
    with pytest.raises(Mistake, match=r"network\.labels: is for published checkpoints"):
        Trainer(data, network, TrainConfig(process="pfgmpp", conditional=True), seed=0)


def test_mirrored_images_keep_their_class():
    images = np.random.default_rng(1).integers(0, 256, (12, 1, 4, 4)).astype(np.uint8)
    data = dataset(images, {"flip": True}, labels=np.arange(12) % 3)
    assert data.labels.tolist() == [k % 3 for k in range(12)] * 2 and data.info.class_counts == (8, 8, 8)
    assert replace(data).raw_labels.tolist() == [k % 3 for k in range(12)]
