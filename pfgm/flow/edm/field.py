r"""Checkpoints of the EDM and PFGM++ code as fields: their network, their head and the process that they were trained for.

A file says its preconditioning and thereby its process: EDMPrecond is PFGM++ with D extra dimensions, D = ∞ for EDM itself
(`pfgmpp`); VPPrecond and VEPrecond are EDM's networks for the VP and VE SDEs (`vp`, `ve`). Images are in [−1, 1], not centred.
What their code does otherwise:

- Sampling: Heun's method at the levels σ_i of `grid: rho`, i = 0 … N − 1, then a step to σ = 0 by Euler, which returns
  D(x, σ_{N−1}). Here these are N − 1 steps of `heun2` and `denoise: true`: `{solver: heun2, steps: 17, grid: rho, T: 80.0,
  t_min: 2e-3, denoise: true}` is their 18 steps, 35 network calls, to rounding. They add in float64, here states are float32;
  `Field.double` computes in float64. For `vp` the steps lie in the SDE's own time and state here.
- Noise may be added before each step there (``S_churn``), which is a disturbance here.
- On a GPU some of their networks are computed in float16; here in float32.
- A network that knows labels is sampled with random ones there; here with none, or with `label`.

`TRAINED` has their published training, by what the network is of. They clip no gradient.

Sources: EDM (arXiv 2206.00364), PFGM++ (arXiv 2302.04265) and the repositories named in `pfgm.flow.edm.snapshots`.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.flow.edm.architecture import architecture
from pfgm.flow.edm.snapshots import CURE, Snapshot, read_snapshot
from pfgm.flow.foreign import info_of_checkpoint, one_line, refuse
from pfgm.flow.trained import Field
from pfgm.mistakes import Mistake, raised
from pfgm.networks.build import build_network, check_network
from pfgm.networks.edm.unet import EdmKeys, EdmUNet
from pfgm.networks.order import channels_last
from pfgm.networks.published import BETA_D, BETA_MIN, SIGMA_DATA, STEPS
from pfgm.process.make import make_process

logger = logging.getLogger(__name__)

HEADS = {"EDMPrecond": ("edm", "pfgmpp"), "VPPrecond": ("vp", "vp"), "VEPrecond": ("ve", "ve")}
"""Their preconditioned networks: head and process here."""
NO_CLIP = 1e12
"""A length that no gradient has."""


def _trained(batch_size: int, million_images: float, learning_rate: float, half_life: float = 0.5) -> dict[str, Any]:
    return {
        "batch_size": batch_size, "steps": round(1e6 * million_images / batch_size), "learning_rate": learning_rate,
        "warmup_steps": round(1e7 / batch_size), "constant_rate": True, "gradient_clip": NO_CLIP,
        "ema_decay": 0.5 ** (batch_size / (1e6 * half_life)),
    }  # fmt: skip


TRAINED = {
    "32": _trained(512, 200, 1e-3),
    "64": _trained(256, 200, 2e-4),
    "adm": _trained(4096, 2500, 1e-4, half_life=50),
}
"""Keys of ``train`` as published: CIFAR-10; FFHQ and AFHQv2 at 64 × 64; ImageNet."""


def from_edm(
    path: str | Path, info: DataInfo | None = None, *, label: int | None = None, device: torch.device | str = "cpu"
) -> Field:
    """Load a checkpoint of the EDM code: diffusion, n_aug = ∞, or the VP or VE SDE. No code in it is run.

    Args:
        path: ``network-snapshot-*.pkl``, a published .pkl, ``training-state-*.pt``, or an export of the weights to safetensors.
        info: the data set it was trained on, loaded with ``center: false``; default: images of the network's size about which
            nothing else is known.
        label: the class that a network which knows labels is asked for; default: none.
        device: where the network shall live.
    Returns:
        The field, with the training configuration that the authors published for such a network, in evaluation mode.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, a tensor too many, too few or of another shape, data that do not go with it, or a label
            that the network does not know.
    """
    path = Path(path)
    read = read_snapshot(path)
    if read.facts.get("pfgmpp") is True:
        raise ValueError(f"{path}: it is of PFGM++, with D = {read.facts.get('D')}; use format: pfgmpp")
    return _field(read, path, info, math.inf, label, device)


def from_pfgmpp(
    path: str | Path,
    info: DataInfo | None = None,
    *,
    n_aug: float | None = None,
    label: int | None = None,
    device: torch.device | str = "cpu",
) -> Field:
    """Load a checkpoint of the PFGM++ code; arguments, result and errors as of `from_edm`, and:

    Args:
        n_aug: D, extra dimensions, for files that do not say it; math.inf is EDM's diffusion.
    Raises:
        ValueError: D is not known, or the file says another one.
    """
    path = Path(path)
    read = read_snapshot(path)
    if read.kind != "EDMPrecond":
        raise ValueError(f"{path}: it is a {one_line(read.kind)}, which has no extra dimensions; use format: edm")
    told = math.inf if read.facts.get("pfgmpp") is False else read.facts.get("D")
    if told is None and n_aug is None:
        raise Mistake("n_aug", f"{path} does not say its D; give the one it was trained with, e.g. 2048.0, or .inf")
    if told is not None and n_aug is not None and float(told) != n_aug:
        raise Mistake("n_aug", f"{path} was trained with D = {told}, got {n_aug:g}; remove it")
    return _field(read, path, info, float(told if told is not None else n_aug or 0), label, device)


def _field(
    read: Snapshot, path: Path, info: DataInfo | None, n_aug: float, label: int | None, device: torch.device | str
) -> Field:
    if read.kind not in HEADS:
        raise ValueError(f"{path}: it is a {one_line(read.kind)}, which is not read; of these networks, {', '.join(HEADS)} are")
    if not read.averaged:
        logger.warning("%s: has the weights of the last step, not averaged ones; samples are worse", path)
    shapes = {name.removeprefix("model."): shape for name, shape in read.shapes.items()}
    config, shape = _config(read, shapes, path)
    if label is not None:
        n = EdmKeys.of(config).labels
        if not 0 <= label < n:
            known, cure = (f"classes 0 to {n - 1}", "take one") if n else ("no classes", "remove it")
            raise Mistake("label", f"{path} knows {known}, got {label}; {cure}")
        config = config.model_copy(update={"label": label})
    sd = config.sigma_data or SIGMA_DATA
    process = make_process(_train(read, config, shape, n_aug, path), info_of_checkpoint(info, shape, sd))
    with torch.device("meta"):  # the file brings the numbers
        network = build_network(config, shape, process.info.sd, process.noise_ratio)
    backbone = network.backbone
    assert isinstance(backbone, EdmUNet)
    tensors = _placed(backbone, read, shapes, path)
    network.load_state_dict({f"backbone.{name}": tensor for name, tensor in tensors.items()}, strict=True, assign=True)
    network = channels_last(network.to(device))
    return Field(network.eval().requires_grad_(False), process, config, seed=0)


def _config(read: Snapshot, shapes: dict[str, tuple[int, ...]], path: Path) -> tuple[NetworkConfig, tuple[int, int, int]]:
    """(network, shape of an image), from the tensors; what the file says of itself must be the same."""
    head, process = HEADS[read.kind]
    try:
        keys, shape = architecture(shapes)
        model = "DhariwalUNet" if keys["form"] == "adm" else "SongUNet"
        seen = {
            "img_channels": shape[0], "img_resolution": shape[1], "label_dim": keys["labels"], "model_type": model,
            **({"beta_d": BETA_D, "beta_min": BETA_MIN, "M": STEPS} if head == "vp" else {}),
        }  # fmt: skip
        for key, value in seen.items():
            if (told := read.facts.get(key, value)) != value:
                raise ValueError(f"it says {key} = {told}, and is read as {value}")
        dropout = read.facts.get("dropout", 0.0)
        keys |= {"name": "edm", "head": head, "dropout": float(dropout) if isinstance(dropout, int | float) else 0.0}
        if head == "edm":
            keys["sigma_data"] = read.facts.get("sigma_data", SIGMA_DATA)
        config = NetworkConfig.model_validate(keys)
        check_network(config, shape, process)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(
            f"{path}: {first['loc'][-1] if first['loc'] else 'network'}: {one_line(raised(first))}; {CURE}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}; {CURE}") from None
    return config, shape


def _train(read: Snapshot, config: NetworkConfig, shape: tuple[int, int, int], n_aug: float, path: Path) -> TrainConfig:
    """The published training of such a network, with the noise levels that the file says."""
    known = "adm" if EdmKeys.of(config).form == "adm" else str(shape[1])
    if known not in TRAINED:
        logger.warning("%s: not of a size that the authors published; its training is taken for that of CIFAR-10", path)
    process = HEADS[read.kind][1]
    own: dict[str, Any] = {"n_aug": n_aug} if process == "pfgmpp" else {}
    facts, keys = (read.loss, ("P_mean", "P_std")) if process == "pfgmpp" else (read.facts, ("sigma_min", "sigma_max"))
    own |= {key: float(facts[key]) for key in keys if key in facts and process != "vp"}
    return TrainConfig.model_validate({"process": process, **TRAINED.get(known, TRAINED["32"]), **own})


def _placed(backbone: EdmUNet, read: Snapshot, shapes: dict[str, tuple[int, ...]], path: Path) -> dict[str, Tensor]:
    """The file's tensors by name; every one has its place, and filters are those of the form."""
    ours = {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}
    filters = {name: tuple(backbone.kernel.shape) for name in backbone.filters()}
    both = {**ours, **filters}
    refuse(path, "lacks", [name for name in both if name not in shapes], CURE)
    refuse(path, "has tensors too many:", [name for name in shapes if name not in both], CURE)
    refuse(path, "has other shapes at", [name for name in both if shapes[name] != both[name]], CURE)
    load = {name.removeprefix("model."): function for name, function in read.load.items()}
    try:
        tensors = {name: load[name]().to(torch.float32, copy=True) for name in both}
    except MemoryError:
        raise
    except Exception as error:  # a damaged archive fails in as many ways as it has parts
        raise ValueError(f"{path}: cannot be read ({one_line(error)}); {CURE}") from error
    kernel = backbone.form.kernel()
    refuse(path, "has other filters at", [n for n in filters if not torch.allclose(tensors[n], kernel)], CURE)
    refuse(path, "is not finite at", [name for name, t in tensors.items() if not bool(t.isfinite().all())], CURE)
    return {name: tensors[name] for name in ours}
