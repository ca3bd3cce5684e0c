"""How many trials share a GPU: as many as fit into its memory by count (`pfgm.training.footprint`), and as the CPUs can feed.

A small network leaves most of a GPU idle, whatever its memory: `MAX_A_GPU` of them take turns, more gain little. The count is
that of the largest batch and the highest precision of the study. A driver that sees no GPU, of a cluster that has some, knows
nothing of their memory and gives each trial one.
"""

from __future__ import annotations

from dataclasses import replace

from pfgm.training.footprint import Footprint, at_most, footprint
from study.config.group import NETWORK_SEARCH
from study.config.space import Value
from study.config.study import StudyConfig
from study.host import machine

USABLE = 0.9
"""Share of a GPU's memory that trials may take."""
MAX_A_GPU = 8
NUMBER = 4
"""Bytes by which a footprint counts a number of the data; images are stored in one."""


def memory_needed(config: StudyConfig, fields: int = 1) -> int:
    """Bytes that a trial of the study takes on a GPU at most, by count, where it trains so many fields together.

    Images that a GPU does not hold stay on the host (`pfgm.data.points`) and count nothing.
    """
    found = work_needed(config, fields)
    memory = machine.gpu_memory()
    stays = memory is not None and found.data // NUMBER > memory // 2
    return found.total - (found.data if stays else 0)


def work_needed(config: StudyConfig, fields: int = 1, rough: bool = False) -> Footprint:
    """What a trial of the study takes at most, by count, where it trains so many fields together.

    Args:
        rough: not counted, but more than that; there at once.
    """
    train, info = config.resolved(config.default("train")), config.info
    references = [info.n if v == "all" else v for v in searched_values(config, "train", "reference_batch_size")]
    precisions = config.search_train["bf16"].choices if "bf16" in config.search_train else (train.bf16,)
    largest = train.model_copy(
        update={
            "batch_size": _largest([train.batch_size, *searched_values(config, "train", "batch_size")]),
            "reference_batch_size": _largest([train.reference_batch_size, *references]) or None,
            "bf16": all(precisions),
        }
    )
    sampler = config.sampling(config.default("sampler"))
    batch = _largest([sampler.batch_size, *searched_values(config, "sampler", "batch_size")])
    measured = config.evaluate
    double = min(measured.solver_error_samples, measured.samples) if "solver_error" in measured.metrics else 0
    stored = info.n // 2 if config.data.flip else info.n
    widest = {key: _largest([getattr(config.network, key), *searched_values(config, "train", key)]) for key in NETWORK_SEARCH}
    network = config.network_at(widest)
    if network is None:
        return Footprint(0, 0, 16 * info.n * info.dim)  # the data in float64, and as much again for distances
    count = at_most if rough else footprint
    found = count(network, info.shape, stored, largest, min(batch, measured.samples), double)
    return replace(found, training=fields * found.training if config.field_source.trains else 0)


def searched_values(config: StudyConfig, group: str, key: str) -> list[Value]:
    """Choices, or the ends, of a searched parameter."""
    searched = config.searched(group)
    return searched[key].ends if key in searched else []


def _largest(values: list[Value]) -> int:
    """The largest number among some values; 0 without one."""
    return max((v for v in values if isinstance(v, int)), default=0)
