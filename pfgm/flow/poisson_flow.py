r"""Checkpoints of the PFGM authors' code (github.com/Newbeeer/Poisson_flow) as fields.

Such a file is a pickled dictionary: ``model``, a state dictionary of names ``module.all_modules.<k>.…`` and a table ``sigmas``
that PFGM does not read; ``ema``, whose ``shadow_params`` are the averaged weights in the order of the parameters;
``optimizer``; ``step``. It is read without running code from it, every tensor must have its place in `pfgm.networks.ddpmpp` or
`pfgm.networks.ncsnpp`, and the architecture is inferred from names and shapes. The random frequencies of NCSN++ are not
trained, so there are no averages of them.

Their network and this one compute the same numbers: x in [−1, 1], not centred, as it is; the height itself in the embedding (in
training not below 1e-10); output v = −√d Ê/(‖Ê‖ + γ), Ê = (x − ȳ, t), which is what `pfgm.process.base` reads for a plain
head. What their code does otherwise:

- Sampling: below a height z_exp they replace v_t by −√d t/(√(s² + t²) + γ), s = γ n/(1 − n), n = ‖v_x‖/√d, an approximation of
  the root of `pfgm.networks.heads.root_magnitude` that is exact in the limit t = 0; above it they use the network's own v_t.
  Here the exact root passes smoothly into v_t around that height (`network.root_below`, `pfgm.networks.heads.plain_length`).
- Training: for CIFAR-10 and CelebA their loss is half the sum over the d coordinates, here it is their mean, so that their
  ``grad_clip`` of 1 is `gradient_clip` 2/d here. For the bedrooms it is the mean in both. The learning rate of their first step
  is 0, here 1/5000 of the full one.
- They add 1e-5 to v_t before they divide by it, and end at x(t_min) (`denoise: false`).
- Prior: radii above ``upper_norm`` are moved to it, which leaves a point mass there; `max_radius_ratio` truncates instead.

`AUTHORS` has their published settings.

Sources: PFGM (arXiv 2209.11178) and the configurations in the repository above.
"""

from __future__ import annotations

import logging
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.data.readers.kinds import WORDS, kind_of
from pfgm.flow.foreign import N_SHOWN, info_of_checkpoint, refuse
from pfgm.flow.pickles import named_globals
from pfgm.flow.trained import Field
from pfgm.networks.base import FieldNetwork
from pfgm.networks.build import build_network
from pfgm.networks.ddpmpp import ATTENTION_RESOLUTION, DDPMppKeys
from pfgm.networks.order import channels_last
from pfgm.process.make import make_process

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """One of the authors' settings: items, network, training and sampler."""

    shape: tuple[int, int, int]
    network: NetworkConfig
    train: TrainConfig
    sampler: SamplerConfig


def _published(
    size: int, depth: int, channel_mult: tuple[int, ...], dropout: float, z_exp: float, T: float, upper_norm: float,
    name: str = "ddpmpp", **train: float,
) -> Published:  # fmt: skip
    shared: dict[str, Any] = {
        "sigma": 0.01, "tau": 0.03, "M": 291.0, "gamma": 5.0, "restrict_M": True, "batch_size": 128, "learning_rate": 2e-4,
        "warmup_steps": 5000, "constant_rate": True, "gradient_clip": 2 / (3 * size * size),
        "ema_decay": 0.9999, "steps": 1_300_001,
    }  # fmt: skip
    layout = {"name": name, "width": 128, "depth": depth, "channel_mult": channel_mult, "dropout": dropout}
    network = NetworkConfig.model_validate(layout | {"skip": False, "root_below": z_exp})
    sampler = SamplerConfig(T=T, t_min=1e-3, solver="dopri5", rtol=1e-4, denoise=False, max_radius_ratio=upper_norm / T)
    return Published((3, size, size), network, TrainConfig.model_validate(shared | train), sampler)


AUTHORS = {
    "cifar10_ddpmpp": _published(32, 4, (1, 2, 2, 2), 0.1, 5.0, 40.0, 3000.0, reference_batch_size=4096),
    "cifar10_ddpmpp_deep": _published(32, 8, (1, 2, 2, 2), 0.1, 5.0, 40.0, 3000.0, reference_batch_size=4096),
    "cifar10_ncsnpp": _published(
        32, 4, (1, 2, 2, 2), 0.1, 5.0, 40.0, 3000.0, "ncsnpp", reference_batch_size=4096, ema_decay=0.999
    ),
    "celeba64": _published(64, 4, (1, 2, 2, 2), 0.1, 1.0, 60.0, 6000.0, reference_batch_size=512),
    "lsun_bedroom256": _published(
        256, 2, (1, 1, 2, 2, 4, 4), 0.0, 0.1, 100.0, 30_000.0,
        M=356.0, batch_size=32, reference_batch_size=32, learning_rate=2e-5, gradient_clip=1.0, steps=2_400_001,
    ),
}  # fmt: skip
"""The authors' settings by name, from the configurations of their repository and the appendix of the paper."""

THEIR_NAMES = {
    "norm_1": "GroupNorm_0", "conv_1": "Conv_0", "level": "Dense_0", "norm_2": "GroupNorm_1", "conv_2": "Conv_1",
    "skip": "Conv_2",
    "conv": "Conv2d_0", "norm": "GroupNorm_0", "query": "NIN_0", "key": "NIN_1", "value": "NIN_2", "out": "NIN_3",
}  # fmt: skip
"""Parts of residual blocks, of the image beside them and of attention: here → there."""
UNUSED = {"sigmas"}
"""Tensors of their state dictionary that PFGM does not read: noise levels of score models."""
OTHERS = {
    "text": "it is plain text: perhaps a web page, or a pointer, in place of the file that was to be downloaded",
    "safetensors": "it is a safetensors file; a field of this toolkit is given by its folder, without format",
}
"""What is said of files that are not of torch."""
CURE = "take a file that the authors' code saved, e.g. checkpoint_26.pth, and download it again if it is one"


def from_poisson_flow(
    path: str | Path,
    info: DataInfo | None = None,
    weights: Literal["ema", "model"] = "ema",
    device: torch.device | str = "cpu",
) -> Field:
    """Load a checkpoint of the authors' DDPM++ or NCSN++.

    Args:
        path: their file, e.g. ``checkpoint_26.pth``.
        info: the data set it was trained on, loaded with ``center: false``; default: images of the network's size about which
            nothing else is known. Images of other sizes than 16 · 2^k need it.
        weights: averaged ones, or those of the last step.
        device: where the network shall live.
    Returns:
        The field, with the training configuration that the authors published for this architecture, in evaluation mode.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, a tensor too many, too few or of another shape, or data that do not go with it.
    """
    if weights not in ("ema", "model"):
        raise ValueError(f"weights: must be ema or model, got {weights!r}")
    path = Path(path)
    model, shadow = _layout(_read(path), path)
    config, shape = _architecture({name: tuple(t.shape) for name, t in model.items()}, info, path)
    settings = _settings(config, shape, path)
    config = config.model_copy(
        update={"dropout": DDPMppKeys.of(settings.network).dropout, "root_below": settings.network.root_below}
    )
    info = info_of_checkpoint(info, shape)
    process = make_process(settings.train, info)
    with torch.device("meta"):  # the file brings the numbers
        network = build_network(config, shape, info.sd, process.noise_ratio)
    tensors = _placed(network, model, shadow if weights == "ema" else None, path)
    network.load_state_dict(tensors, strict=True, assign=True)
    # in the order in memory that `build_network` gives them, which is not the file's
    network = channels_last(network.to(device))
    return Field(network.eval().requires_grad_(False), process, config, seed=0)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the path of a .pth file of the authors' code")
    # the learning rate of their optimizer is a numpy number; these are the only objects read besides tensors and plain values
    numbers: list[Any] = [(_number, f"{module}.scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")]
    numbers += [(np.dtype, "numpy.dtype"), np.dtypes.Float64DType]
    kind = kind_of(path)
    if kind not in ("torch", "pickle"):
        cut = kind not in WORDS or (kind == "zip" and not zipfile.is_zipfile(path))
        what = "damaged, or cut short" if cut else WORDS[str(kind)]
        raise ValueError(f"{path}: cannot be read ({OTHERS.get(str(kind), f'it is {what}')}); {CURE}")
    try:
        with torch.serialization.safe_globals(numbers), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the pickle's protocol: what cannot be read is said below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged pickle raises anything, and torch then advises to run it
        raise ValueError(f"{path}: cannot be read ({_why(path, str(error))}); {CURE}") from error


def _why(path: Path, error: str) -> str:
    """Return what a file that torch refuses is, in words; torch's own are not passed on."""
    names = named_globals(path)
    if any("torch_utils.persistence" in name for name in names):
        saved = "a training state" if path.suffix == ".pt" else "a snapshot"
        return f"it is {saved} of the EDM or PFGM++ code, which holds source code and would run it; use format: edm or pfgmpp"
    if found := re.search(r"GLOBAL (\S+)", error):
        return f"it holds {found[1]}, neither tensor nor number"
    foreign = [name for name in names if name.split(".")[0] not in ("torch", "numpy", "collections")]
    if foreign:
        return f"it holds {foreign[0]}, neither tensor nor number"
    if kind_of(path) == "pickle" and not any(name.startswith("torch") for name in names):
        return "it is a pickle, but none of torch.save"
    return "it is damaged, or cut short"


def _number(dtype: np.dtype[Any], content: bytes) -> float:
    return float(np.frombuffer(content, dtype=dtype)[0])


def _layout(content: Any, path: Path) -> tuple[dict[str, Tensor], list[Tensor]]:
    """(weights of the last step by name, averaged weights in the order of the parameters)."""
    try:
        if not isinstance(content, dict):
            raise TypeError("not a dictionary")
        model, shadow = content["model"], list(content["ema"]["shadow_params"])
        named = {name.removeprefix("module."): tensor for name, tensor in model.items()}
        if not all(isinstance(tensor, Tensor) for tensor in (*named.values(), *shadow)):
            raise TypeError("other values than tensors")
    except (KeyError, TypeError, AttributeError) as error:
        keys = ", ".join(map(str, list(content)[:N_SHOWN])) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{path}: holds {keys or 'nothing'}, not the `model` and `ema` of the PFGM authors' code; {CURE}"
        ) from error
    return {name: tensor for name, tensor in named.items() if name not in UNUSED}, shadow


def _architecture(
    shapes: Mapping[str, tuple[int, ...]], info: DataInfo | None, path: Path
) -> tuple[NetworkConfig, tuple[int, ...]]:
    """(network, shape of an item) from the tensors' names and shapes.

    With n resolutions and k blocks of each on the way down there are 2nk + 3n residual blocks: k + 1 a resolution on the way
    up, 2 in the middle, 2 (n − 1) that resample, whose shortcut keeps the number of channels.
    """
    numbers = sorted({int(found[1]) for name in shapes if (found := re.match(r"all_modules\.(\d+)\.", name))})
    blocks = [k for k in numbers if f"all_modules.{k}.Conv_1.weight" in shapes]
    resampling = [k for k in blocks if len(set(shapes.get(f"all_modules.{k}.Conv_2.weight", (0, 1))[:2])) == 1]
    levels = len(resampling) // 2 + 1
    depth, rest = divmod(len(blocks) - 3 * levels, 2 * levels)
    try:
        if rest:
            raise ValueError("blocks left over")
        attention = next(k for k in numbers if f"all_modules.{k}.NIN_0.W" in shapes)
        fourier = "all_modules.0.W" in shapes
        width, channels = shapes[f"all_modules.{int(fourier)}.weight"][0] // 4, shapes[f"all_modules.{2 + fourier}.weight"][1]
        first = [shapes[f"all_modules.{blocks[level * (depth + 1)]}.Conv_0.weight"][0] for level in range(levels)]
        middle = blocks[levels * (depth + 1) - 1]
        channel_mult = tuple(c // width for c in first)
        layout: dict[str, Any] = {"name": "ddpmpp", "width": width, "depth": depth, "channel_mult": channel_mult}
        if fourier or any(name.endswith(".Conv2d_0.weight") for name in shapes):
            layout |= {"name": "ncsnpp", "embedding": "fourier" if fourier else "positional"}
        config = NetworkConfig.model_validate(layout)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, StopIteration) as error:
        raise ValueError(
            f"{path}: `model` has {len(shapes)} tensors, of {len(blocks)} residual blocks, in an order that is not DDPM++'s"
            " or NCSN++'s; of the authors' networks, those called ddpmpp and ncsnpp can be loaded"
        ) from error
    if attention < middle:
        size = ATTENTION_RESOLUTION * 2 ** sum(k < attention for k in resampling)
        return config, (channels, size, size)
    if info is None:
        raise ValueError(f"{path}: the size of its images cannot be told from the weights; give `info`, their data set's")
    return config, info.shape


def _settings(config: NetworkConfig, shape: tuple[int, ...], path: Path) -> Published:
    def architecture(network: NetworkConfig) -> NetworkConfig:
        return network.model_copy(update={"dropout": None, "root_below": None})

    for settings in AUTHORS.values():
        if architecture(settings.network) == architecture(config) and settings.shape == shape:
            return settings
    logger.warning("%s: not an architecture that the authors published; its training is taken for that of cifar10_ddpmpp", path)
    return AUTHORS["cifar10_ddpmpp"]


def _placed(network: FieldNetwork, model: dict[str, Tensor], shadow: list[Tensor] | None, path: Path) -> dict[str, Tensor]:
    """The file's tensors, averaged ones if given, under the names of ``network``; every one has its place."""
    ours = {_their_name(name): (name, tuple(p.shape)) for name, p in network.backbone.state_dict().items()}
    trained = {_their_name(name): True for name, _ in network.backbone.named_parameters()}
    refuse(path, "lacks", [name for name in ours if name not in model], CURE)
    refuse(path, "has tensors too many:", [name for name in model if name not in ours], CURE)
    tensors = [model[name] for name in ours]
    refuse(path, "has other shapes at", _mismatched(ours, tensors), CURE)
    if shadow is not None:
        if len(shadow) != len(trained):
            raise ValueError(
                f"{path}: ema.shadow_params has {len(shadow)} tensors, not {len(trained)}; {CURE}, or use weights='model'"
            )
        averages = dict(zip(trained, shadow, strict=True))
        tensors = [averages.get(name, model[name]) for name in ours]
        refuse(path, "has averages of other shapes at", _mismatched(ours, tensors), CURE)
    refuse(
        path, "is not finite at", [name for name, t in zip(ours, tensors, strict=True) if not bool(t.isfinite().all())], CURE
    )
    # copies: the file may be mapped into memory, and may go
    return {f"backbone.{name}": t.to(torch.float32, copy=True) for (name, _), t in zip(ours.values(), tensors, strict=True)}


def _their_name(name: str) -> str:
    return ".".join(THEIR_NAMES.get(part, part) for part in name.split("."))


def _mismatched(ours: Mapping[str, tuple[str, tuple[int, ...]]], tensors: Sequence[Tensor]) -> list[str]:
    return [name for (name, (_, shape)), t in zip(ours.items(), tensors, strict=True) if tuple(t.shape) != shape]
