"""Precision of the network while sampling: its products alone, state and head in float32, and what cannot be had is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.folder import Folder
from torch import Tensor

from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.flow.trained import Field
from pfgm.sampling.asked import at_precision
from pfgm.training.trainer import Trainer
from study.config.yaml_source import ConfigError

CPU, F32 = torch.device("cpu"), torch.float32
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: it takes an NVIDIA GPU and its driver")


@pytest.fixture(scope="module")
def field() -> Field:
    """A network of 32 units after a few steps on the rings."""
    trainer = Trainer(
        load_data(DataConfig(name="rings", n=300)), NetworkConfig(width=32), TrainConfig(steps=100, batch_size=64), 0
    )
    list(trainer.run())
    return Field.from_trainer(trainer)


def test_only_products_are_rounded(field: Field) -> None:
    """A layer of the network gives bfloat16, D and the samples are float32, and what has no product keeps every bit."""
    seen = list[torch.dtype]()
    layer = next(m for m in field.network.modules() if isinstance(m, torch.nn.Linear))
    field.sample(40, solver="heun2", steps=6)  # the field has weighed its network, by a call of nothing
    hook = layer.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    x = field.sample(40, solver="heun2", steps=6, precision="bf16")
    hook.remove()
    assert set(seen) == {torch.bfloat16} and x.dtype is F32
    assert not torch.is_autocast_enabled("cpu")

    def halves(x: Tensor, t: Tensor) -> Tensor:
        return x * 0.37 - x.mean(1, keepdim=True).square() / (1 + t[:, None])

    points, t = torch.randn(50, 3), torch.rand(50)
    assert torch.equal(at_precision(halves, "bf16", CPU, F32)(points, t), halves(points, t))
    assert at_precision(halves, None, CPU, F32) is halves


@pytest.mark.parametrize(
    "solver", [{"solver": "heun2", "steps": 12}, {"solver": "pc3", "steps": 12}, {"solver": "dopri5", "rtol": 1e-2}]
)
def test_samples_are_near_those_of_float32(field: Field, solver: dict[str, Any]) -> None:
    """bfloat16 has eight bits: samples move by hundredths of the data's size, and do move."""
    exact, rounded = field.sample(100, **solver), field.sample(100, precision="bf16", **solver)
    moved = (exact - rounded).norm(dim=1).median() / exact.norm(dim=1).median()
    assert 1e-5 < float(moved) < 0.05


def test_points_go_up_and_down_at_it_too(field: Field) -> None:
    x = field.sample(20, denoise=False)
    up = field.encode(x, rtol=1e-2, precision="bf16")
    assert not torch.equal(up.quantile, field.encode(x, rtol=1e-2).quantile)


def test_what_cannot_be_had_is_refused(field: Field) -> None:
    with pytest.raises(ValueError, match=r"precision: tf32 is an arithmetic of NVIDIA's GPUs, and this is cpu; use bf16"):
        field.sample(4, precision="tf32")
    with pytest.raises(
        ValueError, match="precision: is of a network in float32, and this field is computed in float64; remove it"
    ):
        field.double().sample(4, precision="bf16")
    with pytest.raises(ValueError, match="precision"):
        field.sample(4, precision="fp8")


@CUDA
def test_tf32_is_allowed_for_the_network_alone(field: Field) -> None:
    seen, before = list[bool](), torch.backends.cuda.matmul.allow_tf32

    def look(x: Tensor, t: Tensor) -> Tensor:
        seen.append(torch.backends.cuda.matmul.allow_tf32)
        return x

    at_precision(look, "tf32", torch.device("cuda"), F32)(torch.ones(2, 2), torch.ones(2))
    assert seen == [True] and torch.backends.cuda.matmul.allow_tf32 is before


def test_a_study_searches_it_and_the_solver_error_shows_it(folder: Folder) -> None:
    """One field, two rows; the error of many small steps is that of rounding."""
    folder.write(
        search={"sampler": {"precision": {"choice": [None, "bf16"]}}}, sampler={"solver": "pc3", "steps": 40},
        train={"steps": 200, "batch_size": 64}, evaluate={"samples": 60, "metrics": ["fid", "solver_error"]},
    )  # fmt: skip
    folder.run("--inline")
    rows = {row["sampler_precision"]: row for row in folder.rows().values()}
    assert rows.keys() == {None, "bf16"} and len(folder.fields()) == 1
    assert rows["bf16"]["metric_solver_error"] > 2 * rows[None]["metric_solver_error"]


def test_an_exact_field_has_no_network_to_round(folder: Folder) -> None:
    exact: dict[str, Any] = {
        "network": None,
        "train": None,
        "data": {"name": "gaussians", "n": 400},
        "field": {"exact": "empirical"},
    }
    for search, told in (
        ({}, "sampler.precision: is of a network"),
        ({"choice": [None, "bf16"]}, "search.sampler.precision: is of"),
    ):
        sections = {"sampler": {"precision": "bf16"} if not search else {}}
        sections["search"] = {"sampler": {"precision": search}} if search else None
        with pytest.raises(ConfigError, match=told):
            folder.load(**exact, **sections)
