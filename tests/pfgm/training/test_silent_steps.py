"""Steps that read nothing back from the device: what training on a GPU does, forced on the CPU and watched by operation.

The field without a question equals the one that asks, wherever few rows are doubtful; where more are, the trainer notices.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import pfgm.process.kernel
import pfgm.training.trainer
from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.empirical import EXACT_ROWS, mean_source, normalized_target
from pfgm.field.plane import Plane
from pfgm.field.target import SILENT_ROWS, Doubts, training_source, training_target
from pfgm.process.kernel import gamma_on_device
from pfgm.training.bundle import Bundle
from pfgm.training.history import REPORT_EVERY
from pfgm.training.trainer import Trainer

QUESTIONS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "_unique2"}
"""Operations whose result the host needs before it can go on."""


class Silent(TorchDispatchMode):
    """Fails at a question, and at an index that is a mask."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        assert name not in QUESTIONS, f"the step asks the device: {func}"
        if name.startswith("index"):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1] if isinstance(args[1], list))
        return func(*args, **(kwargs or {}))


CASES = {
    "pfgm, normalized": TrainConfig(batch_size=16, sigma=0.05),
    "pfgm, normalized, of a part": TrainConfig(batch_size=16, sigma=0.05, reference_batch_size=50, restrict_M=True),
    "pfgm, raw": TrainConfig(batch_size=16, sigma=0.05, objective="raw"),
    "pfgmpp, denoise, 128": TrainConfig(batch_size=16, process="pfgmpp", n_aug=128.0),
    "pfgmpp, denoise, inf": TrainConfig(batch_size=16, process="pfgmpp", n_aug=math.inf),
    "pfgmpp, reference, 2": TrainConfig(batch_size=16, process="pfgmpp", n_aug=2.0, objective="reference"),
    "ve": TrainConfig(batch_size=16, process="ve"),
    "vp": TrainConfig(batch_size=16, process="vp"),
    "bf16": TrainConfig(batch_size=16, sigma=0.05, bf16=True),
}


def silent_trainer(train: TrainConfig, data: str = "rings", network: NetworkConfig | None = None) -> Trainer:
    """A trainer on the CPU that goes the way of a GPU's."""
    points = load_data(DataConfig(name=data, n=200 if data == "rings" else None))
    trainer = Trainer(points, network or NetworkConfig(width=16, depth=1), train, seed=0)
    trainer.doubts, trainer.batches.plane = Doubts("cpu"), Plane(points.points, asks=False)
    return trainer


@pytest.fixture
def drawn_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pfgm.process.kernel, "gamma_on_host", gamma_on_device)


@pytest.mark.usefixtures("drawn_on_the_device")
@pytest.mark.parametrize("case", CASES)
def test_a_step_asks_nothing(case: str) -> None:
    trainer = silent_trainer(CASES[case])
    for _ in range(2):  # Adam makes its moments in the first
        with Silent():
            loss, _ = trainer._advance(1e-3)
        assert bool(loss.isfinite())


@pytest.mark.usefixtures("drawn_on_the_device")
@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig(name="unet", width=8, depth=2, patch=2),
        NetworkConfig(name="ddpmpp", width=8, depth=1, channel_mult=(1, 2), dropout=0.1),
    ],
    ids=lambda network: network.name,
)
def test_networks_of_images_ask_nothing(network: NetworkConfig) -> None:
    trainer = silent_trainer(TrainConfig(batch_size=8), "digits", network)
    with Silent():
        loss, _ = trainer._advance(1e-3)
    assert bool(loss.isfinite())


@pytest.mark.usefixtures("drawn_on_the_device")
@pytest.mark.parametrize("case", [case for case in CASES if case != "bf16"])
def test_a_step_of_a_bundle_asks_nothing(case: str) -> None:
    """The same for three fields at once."""
    data = load_data(DataConfig(name="rings", n=200))
    bundle = Bundle(data, NetworkConfig(width=16, depth=1), [CASES[case]] * 3, range(3))
    bundle._doubts = Doubts("cpu")
    for field in bundle.fields:
        field.doubts, field.batches.plane = bundle._doubts, Plane(data.points, asks=False)
    for _ in range(2):
        with Silent():
            told = bundle._advance([0, 1, 2])
        assert all(bool(loss.isfinite()) for _, loss, _ in told)


def test_a_question_would_be_seen() -> None:
    """The way of the CPU asks: heights, the centre, doubtful rows; and its gamma variables are numpy's."""
    for case in ("pfgm, normalized", "pfgmpp, denoise, 128"):
        trainer = silent_trainer(CASES[case])
        trainer.doubts = None
        with pytest.raises(AssertionError, match="asks the device"), Silent():
            trainer._advance(1e-3)


@pytest.mark.parametrize("n_aug", [0.5, 1.0, 2.0, 128.0, 3e6])
def test_gamma_variables_of_the_device_have_their_law(n_aug: float) -> None:
    """KS, 20,000 draws: detects numbers that are a quarter too large."""
    shape = n_aug / 2
    made = gamma_on_device(shape, torch.empty(20_000, dtype=torch.float64), torch.Generator().manual_seed(3)).numpy()
    assert stats.kstest(made, stats.gamma(shape).cdf).pvalue > 1e-3
    assert stats.kstest(made * 1.25, stats.gamma(shape).cdf).pvalue < 1e-3


def twins(d: int, n: int, gap: float, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """(halfway points (n, d), heights, sources): n pairs of sources ``gap`` apart, and 300 others."""
    g = torch.Generator().manual_seed(0)
    sources = scale * torch.randn(300 + n, d, generator=g, dtype=torch.float64)
    away = torch.nn.functional.normalize(torch.randn(n, d, generator=g, dtype=torch.float64), dim=1) * gap
    sources = torch.cat([sources, sources[:n] + away])
    return sources[:n] + away / 2, torch.full((n,), gap, dtype=torch.float64), sources


def far_rows(x: Tensor, t: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The points, and n more that nobody doubts."""
    g = torch.Generator().manual_seed(1)
    more = torch.randn(n, x.shape[1], generator=g, dtype=torch.float64)
    return torch.cat([x, more]), torch.cat([t, torch.full((n,), 0.5, dtype=torch.float64)])


@pytest.mark.parametrize("n_aug", [1.0, 128.0, math.inf])
@pytest.mark.parametrize("d", [2, 64, 784])
@pytest.mark.parametrize("n_close", [0, 1, SILENT_ROWS])
def test_the_field_that_asks_nothing_is_the_field(d: int, n_aug: float, n_close: int) -> None:
    """Up to as many near duplicates as are computed again, and an offset of the data: 1e-9 of the exact rows."""
    x, t, sources = twins(d, max(n_close, 1), 1e-6)
    x, t = far_rows(x[:n_close], t[:n_close], 20)
    x, sources = x + 3.0, sources + 3.0
    doubts = Doubts("cpu")
    with Silent():
        quiet = training_source(x, t, sources, n_aug=n_aug, doubts=doubts)
        target = training_target(x, t, sources, 5.0, doubts=doubts)
    assert int(doubts.most) == (0 if d == 2 else n_close)
    torch.testing.assert_close(quiet, mean_source(x, t, sources, n_aug=n_aug), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(target, normalized_target(x, t, sources, 5.0), rtol=1e-9, atol=1e-9)


def test_rows_that_are_not_computed_again_would_be_wrong() -> None:
    """Ten twins 1e-7 apart at d = 784: the count says so, four rows are exact, and the others are not all."""
    x, t, sources = twins(784, 10, 1e-7)
    doubts = Doubts("cpu")
    quiet, exact = training_target(x, t, sources, 5.0, doubts=doubts), normalized_target(x, t, sources, 5.0)
    error = (quiet - exact).norm(dim=1) / exact.norm(dim=1)
    assert int(doubts.most) == 10 > SILENT_ROWS
    assert int((error < 1e-9).sum()) >= SILENT_ROWS
    assert float(error.max()) > 1e-6
    training_target(*far_rows(x[:1], t[:1], 5), sources, 5.0, doubts=doubts)
    assert int(doubts.most) == 10  # the largest number of all calls


def test_the_count_is_heeded_once_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Too many doubtful rows: from the next look on the field asks, and so does a run that continues from there."""
    train = TrainConfig(batch_size=16, sigma=0.05, steps=3 * REPORT_EVERY)
    trainer = silent_trainer(train)
    with caplog.at_level(logging.WARNING, logger="pfgm.training.trainer"):
        for progress in trainer.run(10):
            if progress.step == 20:
                assert trainer.doubts is not None
                trainer.doubts.note(torch.ones(EXACT_ROWS, dtype=torch.bool))
            assert (trainer.doubts is None) == (progress.step >= REPORT_EVERY)
            assert trainer.doubts is None or trainer.doubts.mends
            if progress.step in (30, 60):
                again = silent_trainer(train)
                again.load_state(trainer.state())
                assert (again.doubts is None) == (progress.step == 60)
                assert again.doubts is None or int(again.doubts.most) == EXACT_ROWS
    assert [record.message.partition(" points")[0] for record in caplog.records] == [f"step 50: up to {EXACT_ROWS}"]


def test_rows_are_mended_until_a_look_finds_none_that_need_it() -> None:
    """After the first look nothing is mended; a row that is doubtful later is, from the next look on."""
    train = TrainConfig(batch_size=16, sigma=0.05, steps=3 * REPORT_EVERY)
    trainer = silent_trainer(train)
    mends = {}
    for progress in trainer.run(10):
        assert trainer.doubts is not None
        if progress.step == 70:
            trainer.doubts.note(torch.ones(1, dtype=torch.bool))
        again = silent_trainer(train)
        again.load_state(trainer.state())
        assert again.doubts is not None and again.doubts.mends == trainer.doubts.mends
        mends[progress.step] = trainer.doubts.mends
    assert [step for step, yes in mends.items() if yes] == [10, 20, 30, 40, 100, 110, 120, 130, 140, 150]


def test_a_run_that_asks_nothing_continues_bit_for_bit() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train = TrainConfig(batch_size=16, sigma=0.05, steps=8)
    whole, first, second = (silent_trainer(train, "digits") for _ in range(3))
    list(whole.run(4))
    next(first.run(4))
    second.load_state(first.state())
    list(second.run(4))
    asking = silent_trainer(train, "digits")
    asking.doubts, asking.batches.plane = None, Plane(asking.batches.plane.points, double=True)
    list(asking.run(4))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(whole.average, second.average, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole.average, asking.average, strict=True))  # no row was doubtful


def test_the_target_is_computed_outside_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast the network computes in bfloat16, its target as ever: the same bits as without."""
    made: list[Tensor] = []
    seen: set[torch.dtype] = set()

    def spy(*args: Any, **named: Any) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        made.append(training_target(*args, **named))
        return made[-1]

    monkeypatch.setattr("pfgm.training.objectives.training_target", spy)
    for bf16 in (False, True):
        trainer = silent_trainer(TrainConfig(batch_size=16, bf16=bf16), "digits")
        first = trainer.network.get_submodule("backbone.first")
        first.register_forward_hook(lambda _module, _inputs, out: seen.add(out.dtype))
        trainer._advance(1e-3)
    assert seen == {torch.float32, torch.bfloat16}
    plain, mixed = made
    assert plain.dtype == mixed.dtype == torch.float32 and torch.equal(plain, mixed)
