"""How many trials share a GPU: as many as fit into its memory by count (`pfgm.training.footprint`), and as the CPUs can feed.

A small network leaves most of a GPU idle, whatever its memory: `MAX_A_GPU` of them take turns, more gain little. The count is
that of the largest batch and the highest precision of the study. A driver that sees no GPU, of a cluster that has some, knows
nothing of their memory and gives each trial one.
"""

from __future__ import annotations

import math

import psutil
import torch

from pfgm.metrics.features.networks import default_features
from pfgm.metrics.frechet import frechet_bytes
from pfgm.networks.build import describe_network
from pfgm.training.footprint import CONTEXT, footprint
from study.cluster.session import gpu_count, usable_cpus
from study.config.space import Value
from study.config.study import NETWORK_SEARCH, StudyConfig

WORTH_A_LINE = 1_000_000_000
"""Bytes above which the plan says what a metric takes."""
USABLE = 0.9
"""Share of a GPU's memory that trials may take."""
MAX_A_GPU = 8


def gpu_memory() -> int | None:
    """Bytes of the smallest GPU that this process sees; None where it sees none."""
    if not torch.cuda.is_available():
        return None
    return min(torch.cuda.get_device_properties(k).total_memory for k in range(torch.cuda.device_count()))


def memory_needed(config: StudyConfig) -> int:
    """Bytes that a trial of the study takes on a GPU at most, by count."""
    train, info = config.resolved(config.default("train")), config.info
    references = [info.n if v == "all" else v for v in _values(config, "train", "reference_batch_size")]
    precisions = config.search_train["bf16"].choices if "bf16" in config.search_train else (train.bf16,)
    largest = train.model_copy(
        update={
            "batch_size": _largest([train.batch_size, *_values(config, "train", "batch_size")]),
            "reference_batch_size": _largest([train.reference_batch_size, *references]) or None,
            "bf16": all(precisions),
        }
    )
    sampler = config.sampling(config.default("sampler"))
    batch = _largest([sampler.batch_size, *_values(config, "sampler", "batch_size")])
    measured = config.evaluate
    double = min(measured.solver_error_samples, measured.samples) if "solver_error" in measured.metrics else 0
    stored = info.n // 2 if config.data.flip else info.n
    widest = {key: _largest([getattr(config.network, key), *_values(config, "train", key)]) for key in NETWORK_SEARCH}
    network = config.network_at(widest)
    if network is None:
        return CONTEXT + 16 * info.n * info.dim  # the data in float64, and as much again for distances
    found = footprint(network, info.shape, stored, largest, min(batch, measured.samples), double)
    return found.total if config.given is None else CONTEXT + found.data + found.sampling


def _values(config: StudyConfig, group: str, key: str) -> list[Value]:
    """Choices, or the ends, of a searched parameter."""
    distribution = (config.search_train if group == "train" else config.search_sampler).get(key)
    if distribution is None:
        return []
    return list(distribution.choices) if distribution.kind == "choice" else [int(distribution.low), int(distribution.high)]


def _largest(values: list[Value]) -> int:
    """The largest number among some values; 0 without one."""
    return max((v for v in values if isinstance(v, int)), default=0)


def trials_per_gpu(config: StudyConfig, cpus: int, gpus: float) -> int:
    """Trials that share a GPU where there are so many CPUs and GPUs, for ``resources.gpus: auto``."""
    memory = gpu_memory()
    if memory is None or gpus == 0:
        return 1
    fed = math.ceil(max(cpus // config.resources.cpus, 1) / gpus)
    return max(min(MAX_A_GPU, int(USABLE * memory / memory_needed(config)), fed), 1)


def plan_lines(config: StudyConfig) -> list[str]:
    """The network's size and cost and, where there is a GPU, what a trial takes of it."""
    lines = []
    if config.given is None or not config.given.exact:
        lines = [f"  network         {_networks(config)}"]
    lines += _metric_lines(config)
    memory, declared = gpu_memory(), config.resources.gpus
    if memory is None or declared == 0:
        return lines
    needed = memory_needed(config)
    shared = trials_per_gpu(config, usable_cpus(), gpu_count()) if declared == "auto" else int(1 / declared + 1e-9)
    text = f"{needed / 1e9:.1f} GB a trial: " + (f"{shared} share a GPU" if shared > 1 else "one on a GPU")
    if shared * needed > USABLE * memory:
        text += f" of {memory / 1e9:.1f} GB, with work done in parts where that is too little"
    return [*lines, f"  memory          {text}"]


def _metric_lines(config: StudyConfig) -> list[str]:
    """What the Fréchet distance takes in the space of the points themselves, whose dimension has no bound."""
    info, measured = config.info, config.evaluate
    features = measured.features or default_features(info.name, info.shape)
    if "fid" not in measured.metrics or features != "pixels":
        return []
    needed, there = frechet_bytes(measured.samples, info.n, info.dim), psutil.virtual_memory().total
    if needed < WORTH_A_LINE:
        return []
    cure = "use other features, or leave fid out of evaluate.metrics"
    told = f", more than this machine has ({there / 1e9:.0f} GB): {cure}" if needed > there else ""
    size = f"{needed / 1e9:.1f} GB in each trial{told}"
    return [f"  metrics         fid in `pixels` ({info.dim:,} numbers a point) takes about {size}"]


def _networks(config: StudyConfig) -> str:
    """The study's network in words; the smallest and the largest where its size is searched."""
    searched = {key: [v for v in _values(config, "train", key) if isinstance(v, int)] for key in NETWORK_SEARCH}
    ends = [config.network_at({key: pick(values) for key, values in searched.items() if values}) for pick in (min, max)]
    words = [describe_network(network, config.info.shape) for network in ends if network is not None]
    return " to ".join(dict.fromkeys(words))
