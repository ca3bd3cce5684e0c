"""How many trials share a GPU: by memory, by CPUs, by the study's largest points; and what the plan says of it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.folder import Folder

from pfgm.config import NetworkConfig
from pfgm.metrics.frechet import frechet_bytes
from pfgm.networks.build import describe_network
from pfgm.training.footprint import CONTEXT, footprint
from study.cost.bundles import Capacity, fits
from study.describe import plan_lines
from study.host import machine
from study.host.sharing import MAX_A_GPU, USABLE, memory_needed
from study.host.slots import gpus_per_trial, only_on_gpus, slots, trials_per_gpu
from study.plan.make import make_plan
from study.plan.worklist import Worklist

UNET = {"name": "unet", "width": 32, "depth": 2}
DIGITS: dict[str, Any] = {"data": {"name": "digits"}, "network": UNET, "train": {"batch_size": 512, "steps": 10}}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let this machine have GPUs of so many bytes; None: it has none."""

    def have(memory: float | None, count: int = 1, cpus: int = 64) -> None:
        monkeypatch.setattr(machine, "gpu_memory", lambda: memory)
        monkeypatch.setattr(machine, "gpu_count", lambda: count)
        monkeypatch.setattr(machine, "usable_cpus", lambda: cpus)

    return have


def test_as_many_as_fit_at_most_eight_and_no_more_than_are_fed(folder: Folder, gpus: Any) -> None:
    config = folder.load(**DIGITS)
    needed = memory_needed(config)
    assert needed > CONTEXT + 100 * 2**20
    for room, expected in ((0.5, 1), (1.01, 1), (2.01, 2), (5.9, 5), (7.01, 7), (30.0, MAX_A_GPU)):
        gpus(room * needed / USABLE)
        assert trials_per_gpu(config, 64, 1) == expected
        assert slots(config, 64, 2) == 2 * expected
        assert expected * gpus_per_trial(config, 64, 1) <= 1
        assert gpus_per_trial(config, 64, 1) == pytest.approx(1 / expected, abs=1e-4)
    assert [trials_per_gpu(config, cpus, 2) for cpus in (1, 2, 3, 8, 16)] == [1, 1, 2, 4, 8]
    assert trials_per_gpu(folder.load(**DIGITS, resources={"cpus": 4}), 16, 1) == 4


def test_a_driver_without_gpu_knows_no_memory(folder: Folder, gpus: Any) -> None:
    """On a cluster whose head has none, every trial has a GPU of its own."""
    gpus(None)
    config = folder.load(**DIGITS)
    assert gpus_per_trial(config, 64, 8.0) == 1.0 and slots(config, 64, 8.0) == 8
    assert gpus_per_trial(config, 64, 0.0) == 0.0
    assert plan_lines(config) == [f"  network         {describe_network(config.network, (1, 8, 8))}"]


def test_a_plan_says_the_smallest_and_the_largest_network(folder: Folder, gpus: Any) -> None:
    """Of searched sizes; what is not searched stays as it is."""
    gpus(None)
    config = folder.load(**DIGITS, search={"train": {"width": {"choice": [64, 16, 32]}}})
    ends = [NetworkConfig(name="unet", width=width, depth=2) for width in (16, 64)]
    assert plan_lines(config) == ["  network         " + " to ".join(describe_network(end, (1, 8, 8)) for end in ends)]


def test_the_largest_points_of_a_study_count(folder: Folder) -> None:
    base = memory_needed(folder.load(**DIGITS))
    searched = {"train": {"batch_size": {"choice": [512, 1024]}}}
    train = {"batch_size": 512, "steps": 10}
    assert memory_needed(folder.load(**DIGITS, search=searched)) == memory_needed(
        folder.load(**{**DIGITS, "train": {"batch_size": 1024, "steps": 10}})
    )
    assert memory_needed(folder.load(**DIGITS, search=searched)) > base
    mixed = memory_needed(folder.load(**{**DIGITS, "train": train | {"bf16": True}}))
    both = {"train": {"bf16": {"choice": [False, True]}}}
    assert mixed < memory_needed(folder.load(**{**DIGITS, "train": train}, search=both)) == base
    sampled = [
        folder.load(
            **{**DIGITS, "train": {"batch_size": 8}},
            sampler={"solver": "heun2", "steps": 4, "batch_size": rows},
            evaluate={"samples": 4000, "metrics": ["fid"]},
        )
        for rows in (10, 4000)
    ]
    assert memory_needed(sampled[0]) < memory_needed(sampled[1])


def test_references_that_are_searched_count(folder: Folder) -> None:
    """A number as the default, `all` among the choices: the target is that of all points."""
    network = {"name": "mlp", "width": 16, "depth": 1}
    search = {"train": {"reference_batch_size": {"choice": [64, "all"]}}}
    config = folder.load(
        data={"name": "digits"}, network=network, train={"batch_size": 32, "reference_batch_size": 64}, search=search
    )
    train = config.resolved(config.default("train")).model_copy(update={"reference_batch_size": config.info.n})
    assert memory_needed(config) == footprint(config.network, (1, 8, 8), config.info.n, train, 60).total


def test_fields_that_are_trained_together_take_a_training_each(folder: Folder, gpus: Any) -> None:
    """So fewer trials share a GPU; and a size that the memory does not hold is not tried."""
    config = folder.load(**DIGITS)
    one, four = memory_needed(config), memory_needed(config, 4)
    training = (four - one) // 3
    assert (four - one) % 3 == 0 and training > 100 * 2**20 and one < CONTEXT + 1.1 * training
    gpus(4.0 * four / USABLE)
    assert trials_per_gpu(config, 64, 1, 4) == slots(config, 64, 1, 4) == 4 < trials_per_gpu(config, 64, 1)
    capacity = Capacity(64, 1)
    assert fits(config, capacity, 16) and not fits(config, capacity, 32) and fits(config, Capacity(1, 0), 2)


@pytest.mark.parametrize(
    ("memory", "resources", "expected"),
    [
        (80e9, {}, "8 share a GPU"),
        (80e9, {"gpus": 0.5}, "2 share a GPU"),
        (80e9, {"gpus": 1.0}, "one on a GPU"),
        (0.6e9, {}, "one on a GPU of 0.6 GB, with work done in parts where that is too little"),
    ],
)
def test_the_plan_says_how_many(folder: Folder, gpus: Any, memory: float, resources: dict[str, Any], expected: str) -> None:
    gpus(memory)
    config = folder.load(**DIGITS, resources=resources)
    _, line = plan_lines(config)
    assert line == f"  memory          {memory_needed(config) / 1e9:.1f} GB a trial: {expected}"
    gpus(memory)
    assert len(plan_lines(folder.load(**DIGITS, resources={"gpus": 0}))) == 1


HEUN: dict[str, Any] = {"solver": "heun2", "steps": 4}
SEARCHED: dict[str, Any] = {"sampler": {"precision": {"choice": ["tf32", "bf16"]}}}


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"sampler": HEUN | {"precision": "tf32"}}, "sampler.precision"),
        ({"sampler": HEUN | {"precision": "bf16"}, "search": SEARCHED}, "search.sampler.precision"),
    ],
)
def test_an_arithmetic_of_gpus_is_refused_before_a_training(folder: Folder, sections: dict[str, Any], key: str) -> None:
    config = folder.load(**sections)
    assert only_on_gpus(config, 0) == tuple(key.split(".")) and only_on_gpus(config, 1) is None
    folder.write(**sections, resources={"gpus": 0})
    err = folder.run("--inline", expect=2)[1]
    assert f"{key}: tf32 is arithmetic of NVIDIA's GPUs, and no trial gets one here; use bf16, or remove it" in err
    assert not (folder.path / "results").exists()


PLANS = """
import sys
from study.describe import plan_lines
from study.load import load_study_config
lines = plan_lines(load_study_config(sys.argv[1]))
print(len(lines), [name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_the_plan_of_a_small_study_loads_no_compiler(folder: Folder) -> None:
    """It would take each start a second and a half."""
    done = subprocess.run([sys.executable, "-c", PLANS, str(folder.write())], capture_output=True, text=True, check=True)
    assert done.stdout == "1 []\n"


def test_a_dry_run_shows_the_network(folder: Folder) -> None:
    from study.describe import describe_plan

    folder.write()
    config = folder.load()
    lines = describe_plan(config, Worklist(config, make_plan(config))).splitlines()
    assert f"  network         {describe_network(config.network, config.info.shape)}" in lines


def test_the_plan_says_what_a_distance_of_wide_points_takes(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 points of 5,000 coordinates: rows of points, not a covariance of 5,000 × 5,000; said where it is worth a line."""
    np.save(folder.path / "wide.npy", np.random.default_rng(0).standard_normal((60, 5000)).astype("float32"))
    wide = {"data": {"name": "vectors", "path": "wide.npy"}, "evaluate": {"samples": 60, "metrics": ["fid"]}}
    config = folder.load(**wide)
    assert frechet_bytes(60, 60, 5000) < 20e6 < 8 * 5000**2 < frechet_bytes(60, 6000, 5000)
    assert not [line for line in plan_lines(config) if "metrics" in line]
    monkeypatch.setattr("study.describe.WORTH_A_LINE", 1_000_000)
    (line,) = [line for line in plan_lines(config) if "metrics" in line]
    assert line == "  metrics         fid in `pixels` (5,000 numbers a point) takes about 0.0 GB in each trial"
    monkeypatch.setattr("study.describe.psutil.virtual_memory", lambda: SimpleNamespace(total=5_000_000))
    (line,) = [line for line in plan_lines(config) if "metrics" in line]
    assert line.endswith("more than this machine has (0 GB): use other features, or leave fid out of evaluate.metrics")
    unmeasured = folder.load(**wide | {"evaluate": {"samples": 60, "metrics": ["sliced_wasserstein"]}})
    assert not [line for line in plan_lines(unmeasured) if "metrics" in line]
