"""Bundles: each field is the one that is trained alone, whoever is beside it, stopped or not; one that fails stops no other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.field.plane import Plane
from pfgm.field.target import Doubts
from pfgm.flow.checkpoint import load_field
from pfgm.flow.packed import pack_tensors, unpack_tensors
from pfgm.flow.trained import Field
from pfgm.flow.written import save_field
from pfgm.mistakes import Mistake
from pfgm.training.batches import Together
from pfgm.training.bundle import Bundle, BundleTooLarge, bundle_key
from pfgm.training.history import REPORT_EVERY, Progress, TrainingDiverged
from pfgm.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = NetworkConfig(width=32, depth=1)


def data_of(name: str) -> Dataset:
    return load_data(DataConfig(name=name, n=200 if name == "rings" else None))


def points_of_digits(steps: int, **keys: Any) -> list[TrainConfig]:
    """Four training points that differ in every number that may."""
    differing = [
        {"sigma": 0.1, "tau": 0.03, "gamma": 5.0},
        {"sigma": 0.05, "tau": 0.05, "gamma": 2.0, "height_ratio": 2.0, "learning_rate": 2e-3},
        {"sigma": 0.2, "gamma": 8.7, "reference_batch_size": 200, "gradient_clip": 0.1, "warmup_steps": 3},
        {"sigma": 0.1, "ema_decay": 0.9, "restrict_M": True},
    ]
    return [TrainConfig(steps=steps, batch_size=32, **(each | keys)) for each in differing]


def alone(data: Dataset, network: NetworkConfig, train: TrainConfig, seed: int, **options: Any) -> Trainer:
    trainer = Trainer(data, network, train, seed, **options)
    list(trainer.run())
    return trainer


def distance(a: Trainer, b: Trainer) -> float:
    """Largest difference of a weight or an average."""
    pairs = zip(a.parameters + a.average, b.parameters + b.average, strict=True)
    return max(float((x.detach() - y.detach()).abs().max()) for x, y in pairs)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_fields_of_a_bundle_are_those_trained_alone(dtype: torch.dtype, most: float) -> None:
    """80 steps: weights and averages to 1e-5 in float32, which is rounding, for it is 1e-10 in float64; losses alike."""
    data, trains = data_of("digits"), points_of_digits(80)
    bundle = Bundle(data, SMALL, trains, range(4), dtype=dtype)
    list(bundle.run())
    for k, train in enumerate(trains):
        one = alone(data, SMALL, train, k, dtype=dtype)
        assert distance(one, bundle.fields[k]) <= most
        for a, b in zip(one.history, bundle.fields[k].history, strict=True):
            assert (a.step, a.steps, a.learning_rate) == (b.step, b.steps, b.learning_rate)
            assert (a.loss, a.gradient_norm) == pytest.approx((b.loss, b.gradient_norm), rel=1e-4)


def test_a_field_in_the_wrong_place_would_be_seen() -> None:
    data, trains = data_of("digits"), points_of_digits(20)
    bundle = Bundle(data, SMALL, trains, range(4))
    list(bundle.run())
    assert distance(alone(data, SMALL, trains[1], 0), bundle.fields[0]) > 1e-3
    assert distance(alone(data, SMALL, trains[0], 1), bundle.fields[0]) > 1e-3


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("rings", {"objective": "raw", "sigma": 0.03}),
        ("rings", {"process": "pfgmpp", "n_aug": 4.0}),
        ("rings", {"process": "pfgmpp", "n_aug": math.inf, "objective": "reference"}),
        ("digits", {"process": "pfgmpp", "objective": "reference", "reference_batch_size": 100}),
        ("digits", {"process": "ve"}),
        ("digits", {"process": "vp"}),
    ],
    ids=str,
)
def test_every_objective(name: str, keys: dict[str, Any]) -> None:
    data, train = data_of(name), TrainConfig(steps=20, batch_size=16, **keys)
    bundle = Bundle(data, SMALL, [train] * 3, range(3))
    list(bundle.run())
    for seed in range(3):
        assert distance(alone(data, SMALL, train, seed), bundle.fields[seed]) <= 1e-5


@pytest.mark.parametrize(
    "points",
    [
        [
            {"sigma": 0.1, "gamma": 5.0},
            {"sigma": 0.3, "gamma": 1.0, "restrict_M": True},
            {"tau": 0.1, "reference_batch_size": 50},
        ],
        [{"process": "pfgmpp", "n_aug": 8.0, "P_std": std} for std in (1.0, 1.2, 0.5)],
        [{"process": "ve", "sigma_max": most} for most in (10.0, 100.0)],
        [{"process": "vp", "beta_max": most} for most in (10.0, 20.0)],
        [{"objective": "raw", "sigma": sigma, "force": True} for sigma in (0.1, 0.2)],
    ],
    ids=lambda points: str(points[0]),
)
def test_a_bundle_draws_what_its_fields_draw(points: list[dict[str, Any]]) -> None:
    """Bit for bit, with numbers that differ, and the streams stand where they would."""
    data = data_of("digits")
    trains = [TrainConfig(steps=20, batch_size=16, **keys) for keys in points]
    one, other = ([Trainer(data, SMALL, train, seed).batches for seed, train in enumerate(trains)] for _ in range(2))
    for _ in range(3):
        together = Together(one).draw(None)
        alone = zip(*(batches.draw(None) for batches in other), strict=True)
        for whole, parts in zip(together[:2], list(alone)[:2], strict=True):
            assert torch.equal(whole, torch.cat(parts))
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(state, b.state()[name]) for name, state in a.state().items())


@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig(name="unet", width=8, depth=2, patch=2),
        NetworkConfig(name="ddpmpp", width=8, depth=1, channel_mult=(1, 2)),
        SMALL.model_copy(update={"skip": False}),
    ],
    ids=lambda network: f"{network.name}, {network.skip}",
)
def test_every_network(network: NetworkConfig) -> None:
    """12 steps: losses to 1e-4, D to 1e-3: the bias of an attention's key has a gradient of rounding, which Adam scales."""
    data, train = data_of("digits"), TrainConfig(steps=12, batch_size=16)
    bundle = Bundle(data, network, [train] * 2, range(2))
    list(bundle.run(4))
    x, t = data.points[:8], torch.full((8,), 0.5)
    for seed in range(2):
        one = Trainer(data, network, train, seed)
        list(one.run(4))
        assert [p.loss for p in one.history] == pytest.approx([p.loss for p in bundle.fields[seed].history], rel=1e-4)
        with torch.no_grad():
            a, b = (f.process.mean_source(f.averaged_network(), x, t) for f in (one, bundle.fields[seed]))
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def states(bundle: Bundle) -> list[bytes]:
    """What is stored of each field."""
    return [pack_tensors(field.state()) for field in bundle.fields]


def continued(data: Dataset, trains: Sequence[TrainConfig], stored: Sequence[bytes]) -> Bundle:
    bundle = Bundle(data, SMALL, trains, range(len(trains)))
    for k, content in enumerate(stored):
        bundle.load_state(k, unpack_tensors(content))
    return bundle


@pytest.mark.parametrize("stop", [10, 20, 50])
def test_a_bundle_that_was_killed_continues_bit_for_bit(stop: int) -> None:
    """Fields of other lengths, one of which has ended before the kill at 50."""
    data = data_of("digits")
    trains = [train.model_copy(update={"steps": n}) for train, n in zip(points_of_digits(60), (60, 40, 60, 55), strict=True)]
    whole = Bundle(data, SMALL, trains, range(4))
    stored: list[bytes] = []
    for reports in whole.run(10):
        if stop in {r.step for r in reports.values() if isinstance(r, Progress)} and not stored:
            stored = states(whole)
    second = continued(data, trains, stored)
    list(second.run(10))
    for a, b in zip(whole.fields, second.fields, strict=True):
        assert distance(a, b) == 0.0
        assert [(p.step, p.loss, p.gradient_norm) for p in a.history] == [(p.step, p.loss, p.gradient_norm) for p in b.history]
    assert [f.step for f in second.fields] == [60, 40, 60, 55]


def test_a_field_goes_from_a_bundle_to_a_training_alone_and_back() -> None:
    """20 steps in a bundle of four, 20 alone, 20 in a bundle of two: 1e-5 of 60 alone."""
    data, trains = data_of("digits"), points_of_digits(60)
    first = Bundle(data, SMALL, trains, range(4))
    next(first.run(20))
    single = Trainer(data, SMALL, trains[1], 1)
    single.load_state(unpack_tensors(states(first)[1]))
    next(single.run(20))
    last = Bundle(data, SMALL, [trains[3], trains[1]], [3, 1])
    last.load_state(1, unpack_tensors(pack_tensors(single.state())))
    list(last.run())
    assert [field.step for field in last.fields] == [60, 60]
    assert distance(alone(data, SMALL, trains[1], 1), last.fields[1]) <= 1e-5
    assert distance(alone(data, SMALL, trains[3], 3), last.fields[0]) <= 1e-5


def test_a_field_that_diverges_leaves_the_others_alone() -> None:
    """It is told once, at its first report, as it would be alone; the others are those of a bundle without it."""
    data, trains = data_of("digits"), points_of_digits(40)
    bundle, lost = Bundle(data, SMALL, [trains[0], trains[2], trains[1]], [0, 2, 1]), Trainer(data, SMALL, trains[2], 2)
    for field in (bundle.fields[1], lost):
        field.parameters[0].data[0, 0] = math.inf
    told = [(k, report) for reports in bundle.run(10) for k, report in reports.items()]
    diverged = [(k, report) for k, report in told if isinstance(report, TrainingDiverged)]
    assert [k for k, _ in diverged] == [1] and 1 not in bundle.active
    with pytest.raises(TrainingDiverged, match=str(diverged[0][1])):
        list(lost.run(10))
    assert [k for k, report in told if isinstance(report, Progress)].count(0) == 4
    without = Bundle(data, SMALL, [trains[0], trains[1]], [0, 1])
    list(without.run(10))
    for a, b in zip(without.fields, (bundle.fields[0], bundle.fields[2]), strict=True):
        assert distance(a, b) <= 1e-5
    assert bundle.fields[1].step == 10 and len(told) == 9


def test_a_bundle_that_lost_a_field_continues_bit_for_bit() -> None:
    data, trains = data_of("digits"), points_of_digits(40)
    whole = Bundle(data, SMALL, trains, range(4))
    for reports in whole.run(10):
        if 10 in {r.step for r in reports.values() if isinstance(r, Progress)}:
            whole.drop(2)
        if 20 in {r.step for r in reports.values() if isinstance(r, Progress)}:
            stored = states(whole)
    assert whole.fields[2].step == 10
    second = continued(data, trains, stored)
    second.drop(2)
    list(second.run(10))
    assert all(distance(a, b) == 0.0 for a, b in zip(whole.fields, second.fields, strict=True))
    third = Bundle(data, SMALL, trains, range(4))
    next(third.run(10))
    assert distance(third.fields[2], whole.fields[2]) == 0.0  # a field that left stays as it was


def test_a_field_of_a_bundle_is_stored_as_any_other(tmp_path: Path) -> None:
    data, trains = data_of("digits"), points_of_digits(5)
    bundle = Bundle(data, SMALL, trains, range(4))
    list(bundle.run(2))
    field = Field.from_trainer(bundle.fields[3])
    save_field(field, tmp_path / "f")
    again = load_field(tmp_path / "f")
    assert [p.step for p in again.history] == [2, 4, 5] and again.seed == 3
    assert torch.equal(again.sample(3, solver="heun2", steps=3), field.sample(3, solver="heun2", steps=3))


def test_time_is_shared_among_the_fields() -> None:
    bundle = Bundle(data_of("rings"), SMALL, [TrainConfig(steps=4, batch_size=16, sigma=0.03)] * 3, range(3))
    list(bundle.run(2))
    assert len({field.elapsed_s for field in bundle.fields}) == 1 and bundle.fields[0].elapsed_s > 0
    assert [p.elapsed_s for p in bundle.fields[0].history] == [p.elapsed_s for p in bundle.fields[2].history]


def test_a_step_that_does_not_fit_leaves_all_where_they_were() -> None:
    """Step 31 of three asks for more memory than there is. Continued together: bit for bit as if it had fitted. Alone: 1e-5."""
    data, trains = data_of("digits"), points_of_digits(50)[:3]
    whole, short = Bundle(data, SMALL, trains, range(3)), Bundle(data, SMALL, trains, range(3))
    assert short._stack is not None

    def allocate(*_: object) -> None:
        torch.empty(1 << 50 if short.fields[0].step == 30 else 0)

    hook = short._stack.network.register_forward_pre_hook(allocate)
    list(whole.run(10))
    with pytest.raises(BundleTooLarge, match="a step of 3 fields together does not fit"):
        list(short.run(10))
    stored = states(short)
    assert [field.step for field in short.fields] == [30] * 3 and all(p.grad is None for p in short._stack.parameters)
    hook.remove()
    again = continued(data, trains, stored)
    list(again.run(10))
    assert all(distance(a, b) == 0.0 for a, b in zip(whole.fields, again.fields, strict=True))
    single = Trainer(data, SMALL, trains[1], 1)
    single.load_state(unpack_tensors(stored[1]))
    list(single.run(10))
    assert distance(single, whole.fields[1]) <= 1e-5


def test_a_field_knows_how_many_it_was_trained_with(tmp_path: Path) -> None:
    """The most at a time, wherever it is continued; one that was trained alone is stored as before."""
    data, trains = data_of("rings"), [TrainConfig(steps=n, batch_size=16, sigma=0.03) for n in (4, 8, 8)]
    bundle = Bundle(data, SMALL, trains, range(3))
    next(bundle.run(4))
    stored = states(bundle)
    last = Bundle(data, SMALL, trains[1:], [1, 2])
    last.load_state(0, unpack_tensors(stored[1]))
    list(last.run())
    assert [field.together for field in last.fields] == [3, 2]
    save_field(Field.from_trainer(last.fields[0]), tmp_path / "f")
    assert load_field(tmp_path / "f").together == 3
    save_field(Field.from_trainer(alone(data, SMALL, trains[0], 0)), tmp_path / "alone")
    assert load_field(tmp_path / "alone").together == 1
    assert "together" not in (tmp_path / "alone/field.json").read_text(encoding="utf-8")


def test_doubtful_rows_of_one_field_are_those_of_all() -> None:
    """Counted in one place; too many of them make all ask, and every field's state says so."""
    data, train = data_of("rings"), TrainConfig(steps=2 * REPORT_EVERY, batch_size=16, sigma=0.05)
    counting = silent_bundle(data, train)
    for reports in counting.run(10):
        at = min(report.step for report in reports.values() if isinstance(report, Progress))
        if at == 20:
            assert counting.fields[1].doubts is not None
            counting.fields[1].doubts.note(torch.ones(16, dtype=torch.bool))
        asks = [int(field.state()["doubtful"]) < 0 for field in counting.fields]
        assert asks == [at >= REPORT_EVERY] * 2
    again = silent_bundle(data, train)
    again.load_state(1, counting.fields[1].state())
    assert [field.doubts for field in again.fields] == [None, None]


def silent_bundle(data: Dataset, train: TrainConfig) -> Bundle:
    """Two fields that go the way of a GPU's."""
    bundle = Bundle(data, SMALL, [train] * 2, range(2))
    bundle._doubts = Doubts("cpu")
    for field in bundle.fields:
        field.doubts, field.batches.plane = bundle._doubts, Plane(data.points, asks=False)
    return bundle


def loaded(bundle: Bundle, state: dict[str, Tensor]) -> None:
    bundle.load_state(0, state)


def test_refusals() -> None:
    """What a bundle cannot train is named, with what to do."""
    data, train = data_of("digits"), TrainConfig(steps=4, batch_size=16)
    with pytest.raises(Mistake, match=r"bf16.*train this field alone"):
        Bundle(data, SMALL, [train.model_copy(update={"bf16": True})], [0])
    dropping = NetworkConfig(name="ddpmpp", width=8, depth=1, channel_mult=(1, 2), dropout=0.1)
    with pytest.raises(Mistake, match=r"dropout.*write 0"):
        bundle_key(dropping, train)
    for other in ({"batch_size": 8}, {"process": "ve", "gamma": None, "objective": "denoise", "reference_batch_size": None}):
        with pytest.raises(Mistake, match="share process, objective, n_aug and batch_size"):
            Bundle(data, SMALL, [train, train.model_copy(update=other)], [0, 1])
    with pytest.raises(ValueError, match="1 points and 2 seeds"):
        Bundle(data, SMALL, [train], [0, 1])
    bundle = Bundle(data, SMALL, [train], [0])
    with pytest.raises(ValueError, match="continue it alone"):
        loaded(bundle, bundle.fields[0].state() | {"parts": torch.tensor(2)})
