"""Compiled networks: the same training to rounding, its cost in a column, and training without where there is no compiler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.folder import Folder, promised
from torch import Tensor

from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.flow.packed import pack_tensors, unpack_tensors
from pfgm.memory import n_splits
from pfgm.training.trainer import Trainer
from study.config.yaml_source import ConfigError

SMALL, TRAIN = NetworkConfig(width=8, depth=1), TrainConfig(steps=12, batch_size=8, sigma=0.05, warmup_steps=2)
Forward = Callable[[Tensor, Tensor], Tensor]


pytestmark = pytest.mark.usefixtures("one_thread")


def trainer(compile: bool = True, train: TrainConfig = TRAIN) -> Trainer:
    """A small training of rings."""
    return Trainer(load_data(DataConfig(name="rings", n=200)), SMALL, train, seed=0, compile=compile)


def losses(made: Trainer) -> list[float]:
    return [p.loss for p in made.run(4)]


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_a_compiled_training_is_the_same_to_rounding(bf16: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Losses to 1e-4 (bfloat16, which rounds elsewhere: 1 %), a cost that is known and told once, a run that continues."""
    train = TRAIN.model_copy(update={"bf16": bf16})
    plain = losses(trainer(False, train))
    with caplog.at_level(logging.INFO, logger="pfgm.training.trainer"):
        whole = trainer(train=train)
        assert losses(whole) == pytest.approx(plain, rel=1e-2 if bf16 else 1e-4)
    assert whole.compiled is not None and whole.compiled.cost_s is not None and whole.compiled.cost_s > 0.05
    told = [record.message for record in caplog.records if "compil" in record.message]
    assert told == [f"compiling the network took {whole.compiled.cost_s:.1f} s"]
    first, second = trainer(train=train), trainer(train=train)
    next(first.run(4))
    second.load_state(unpack_tensors(pack_tensors(first.state())))
    assert len(losses(second)) == 2
    for a, b in zip(whole.average, second.average, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert whole.averaged_network().state_dict().keys() == trainer(False).network.state_dict().keys()


@pytest.mark.slow
def test_without_a_compiler_training_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One warning, and the bits of a training that was never to be compiled."""
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "/no/such/compiler"))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    torch._dynamo.reset()
    made = trainer()
    assert losses(made) == losses(trainer(False))
    assert made.compiled is None
    warnings = [record.message for record in caplog.records if record.name == "pfgm.training.trainer"]
    assert len(warnings) == 1 and warnings[0].startswith("the network cannot be compiled, training goes on without (")
    assert warnings[0].endswith("'/no/such/compiler'))")


def pretend(monkeypatch: pytest.MonkeyPatch, calls: Callable[[int], None]) -> None:
    """In place of the compiler: the function as it is, and ``calls`` told the number of each call first."""

    def compile(forward: Forward, **_options: Any) -> Forward:
        count = iter(range(10**6))

        def called(x: Tensor, t: Tensor) -> Tensor:
            calls(next(count))
            return forward(x, t)

        return called

    monkeypatch.setattr(torch, "compile", compile)


def test_the_cost_is_the_first_step_s_less_the_second_s(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda k: time.sleep(0.3 if k == 0 else 0.1 if k == 2 else 0.0))
    made = trainer()
    assert losses(made) == losses(trainer(False))
    assert made.compiled is not None and made.compiled.cost_s == pytest.approx(0.3, abs=0.15)


def test_only_a_first_failure_is_the_compiler_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(k: int) -> None:
        if k == 3:
            raise RuntimeError("something else")

    pretend(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="something else"):
        losses(trainer())


def test_an_error_of_the_training_itself_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is met again without the compiler."""
    pretend(monkeypatch, lambda k: None)
    made = trainer()
    monkeypatch.setattr(made.network.backbone, "forward", lambda x, e: x[:, :1])
    with pytest.raises(RuntimeError, match="must match"):
        losses(made)
    assert made.compiled is None


def test_a_split_step_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compiled step does not fit into the memory, its parts are called as they are."""

    def fail(k: int) -> None:
        raise torch.OutOfMemoryError("out of memory")

    pretend(monkeypatch, fail)
    made, before = trainer(), n_splits()
    assert losses(made) == pytest.approx(losses(trainer(False)), rel=1e-4)
    assert (made.parts, n_splits() - before) == (2, 1)


def test_a_study_says_what_compiling_cost(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The column is null without it; fields have the same names with it."""
    pretend(monkeypatch, lambda k: time.sleep(0.3 if k == 0 else 0.0))
    folder.write()
    folder.run("--inline")
    folder.run("--inline", "--set", "storage=compiled", "--set", "resources.compile=true")
    plain, compiled = folder.rows(), folder.rows(storage="compiled")
    assert {row["cost_compile_s"] for row in plain.values()} == {None}
    assert all(row["cost_compile_s"] == pytest.approx(0.3, abs=0.2) for row in compiled.values())
    assert {k: promised(row) for k, row in plain.items()} == {k: promised(row) for k, row in compiled.items()}
    assert folder.fields() == folder.fields("compiled")
    with pytest.raises(ConfigError, match=r"resources\.compile: .*'yes'"):
        folder.load(resources={"compile": "yes"})
