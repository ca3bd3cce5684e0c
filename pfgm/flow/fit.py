"""Train a field on data, with what a study file would leave to its defaults chosen from the shape and the time."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.dataset import Dataset
from pfgm.data.given import dataset
from pfgm.flow.trained import Field
from pfgm.kinds import checked
from pfgm.mistakes import Mistake
from pfgm.registry import READERS
from pfgm.training.trainer import Trainer

logger = logging.getLogger(__name__)

SMALL = 256
"""Coordinates up to which images are trained as vectors, by an MLP."""
FEW, LARGEST = 500, 3 * 64 * 64
"""Steps below which a U-Net chosen here gives way to an MLP, for images of at most so many coordinates (200 photos of 32 × 32,
15 to 20 s of one core: FID 1.8 by an MLP in 301 steps, 5.9 to 13 by U-Nets in 23 to 426)."""
TRIED, TRIED_S = 4, 4.0
"""Steps whose time is taken together, and seconds for which that is done."""
APART, CONSTANT = 10.0, 1e-6
"""Standard deviations of columns over each other, or over 1, from which all become 1; that of a constant over its values."""
WIDTHS = {"mlp": 256, "unet": 32, "ddpmpp": 128, "edm": 128}
"""Of networks that are asked for by name alone; that of DDPM++ and SongUNet is the published one for CIFAR-10."""
SHARE, MOST = 0.9, 200_000
"""Share of the minutes that is planned for; most steps."""
TELL_S = 1.0
"""Seconds between two moves of the bar, about."""


def fit(
    x: object, *, labels: object = None, minutes: float | None = None,
    network: str | Mapping[str, object] | None = None, seed: int = 0, device: str = "auto",
    data: Mapping[str, object] | None = None, progress: bool = True, **train: Any,
) -> Field:  # fmt: skip
    """Train a field on x and return it, ready to sample.

    Ctrl-C ends the training and returns what is trained so far. Vectors whose columns differ in scale, or from 1, are trained
    with all columns at unit variance, unless ``data`` says ``standardize``; samples have the units of x in any case.

    Args:
        x: a name such as ``"digits"``, a file or folder, an array or tensor, or a torch Dataset (`pfgm.data.given.dataset`).
        labels: the class of every item of an array, tensor or torch Dataset; the field is then conditional, as with
            ``conditional=True`` where the data have classes of their own, and samples can be asked for by ``label``.
        minutes: about how long to train; the number of steps follows from it, and on a CPU whether one thread or all are
            faster just now. Without it: ``steps``, or 2,500.
        network: ``mlp``, ``unet``, ``ddpmpp``, each of a size for the data, or the keys of ``network`` in a study file;
            default by the shape of the data, and an MLP for images too where the minutes allow a U-Net few steps.
        seed: of weights and batches; equal seeds give equal fields.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``.
        data: keys of ``data`` in a study file, such as ``{"size": 32}``.
        progress: show a bar with the time left.
        train: keys of ``train`` in a study file, such as ``steps=5000, sigma=0.1``.
    Raises:
        Mistake: a key or value that is refused, or data that cannot be used; one line with the cure.
        TrainingDiverged: the loss was not finite; a lower ``learning_rate`` helps.
    """
    if minutes is not None and ("steps" in train or not minutes > 0):
        raise Mistake("minutes", f"must be above 0, and alone without steps, got {minutes:g}")
    if labels is not None:
        train.setdefault("conditional", True)
    points = _of_one_scale(x, data or {}, labels)
    for note in points.notes:
        logger.warning(note)
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    chosen = _network(points, network)
    threads = torch.get_num_threads()
    if minutes is not None:
        train["steps"], threads = _steps(points, chosen, train, seed, place, minutes)
        if network is None and chosen.name == "unet" and train["steps"] < FEW and points.info.dim <= LARGEST:
            logger.warning(
                "a U-Net would take %d steps in this time, so an MLP is trained; network='unet' insists", train["steps"]
            )
            chosen = NetworkConfig(width=256)
            train["steps"], threads = _steps(points, chosen, train, seed, place, minutes)
    trainer = Trainer(points, chosen, checked(TrainConfig, "train", train), seed, place)
    with _threads(threads):
        _run(trainer, progress, None if minutes is None else 60 * minutes)
    return Field.from_trainer(trainer)


def _of_one_scale(x: object, data: Mapping[str, object], labels: object) -> Dataset:
    """Return the data, vectors of columns far from 1, or from each other, at unit variance: the defaults are made for that."""
    points = dataset(x, data, labels=labels)
    named = isinstance(x, Dataset) or (isinstance(x, str) and x in READERS)
    if named or len(points.info.shape) != 1 or data.get("standardize") is not None:
        return points
    values = points.raw[:].double()
    sd = values.std(0)
    sd = sd[sd > CONSTANT * values.abs().amax(0)]
    low, high = (float(sd.min()), float(sd.max())) if len(sd) else (1.0, 1.0)
    if max(high, 1.0) <= APART * min(low, 1.0):
        return points
    said = f"columns have standard deviations from {low:.3g} to {high:.3g}, and are trained as if all had 1"
    found = dataset(x, {**data, "standardize": True}, labels=labels)
    return replace(found, notes=(f"{said}; data={{'standardize': False}} leaves them", *found.notes))


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Compute with n threads for as long as the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _network(points: Dataset, network: str | Mapping[str, object] | None) -> NetworkConfig:
    """Return the network asked for, of a size for the shape where a name is all that is asked.

    Without a name: an MLP for vectors and small images, else a U-Net.
    """
    if isinstance(network, Mapping):
        return checked(NetworkConfig, "network", network)
    shape = points.info.shape
    small = len(shape) == 1 or points.info.dim <= SMALL or any(side % 4 for side in shape[1:])
    name = network or ("mlp" if small else "unet")
    sizes: dict[str, object] = {"width": WIDTHS[name]} if name in WIDTHS else {}
    if name == "unet" and len(shape) == 3:
        patch = 2 if min(shape[1:]) >= 16 else 1
        fits = [(d, p) for d, p in ((2, patch), (2, 1), (1, 2)) if not any(side % (p * 2 ** (d - 1)) for side in shape[1:])]
        sizes |= dict(zip(("depth", "patch"), (*fits, (1, 1))[0], strict=True))
    return checked(NetworkConfig, "network", {"name": name, **sizes})


def _steps(
    points: Dataset, network: NetworkConfig, train: Mapping[str, Any], seed: int, device: str, minutes: float
) -> tuple[int, int]:
    """Return the steps that fit into the minutes, and the threads that are fastest, by the time of some steps.

    Threads of a small network wait for each other at every operation: where other programs take the cores, one thread alone may
    be ten times as fast. The trials take a tenth of the minutes, or a few seconds.
    """
    started = time.perf_counter()
    given = torch.get_num_threads()
    tried = sorted({given, 1} if device == "cpu" else {given})
    step_s = {}
    for n in tried:
        trial = Trainer(points, network, checked(TrainConfig, "train", {**train, "steps": 100 * TRIED}), seed, device)
        with _threads(n):
            step_s[n] = _step_s(trial, min(TRIED_S, 6 * minutes) / len(tried))
    best = min(tried, key=step_s.__getitem__)
    left = SHARE * 60 * minutes - (time.perf_counter() - started)
    return max(1, min(MOST, int(left / step_s[best]))), best


def _step_s(trial: Trainer, seconds: float) -> float:
    """Return how long a step takes, in seconds, by the median of those that fit into the time."""
    marks = [time.perf_counter()]
    for _ in trial.run(report_every=TRIED):  # each time the loss is read, so the device has finished
        marks.append(time.perf_counter())
        if len(marks) > 2 and marks[-1] - marks[0] > seconds:
            break
    return statistics.median(b - a for a, b in pairwise(marks[1:])) / TRIED


def _run(trainer: Trainer, progress: bool, budget_s: float | None) -> None:
    """Train to the last step, to Ctrl-C, or until the time is up."""
    started, every = time.perf_counter(), 1
    columns = TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3g}")
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("training", total=trainer.train.steps, loss=float("nan"))
        try:
            while trainer.step < trainer.train.steps:
                begun, before = time.perf_counter(), trainer.step
                for told in trainer.run(report_every=every):
                    bar.update(task, completed=told.step, loss=told.loss)
                    step_s = (time.perf_counter() - begun) / (told.step - before)
                    if budget_s is not None and time.perf_counter() - started > budget_s:
                        logger.warning("the time is up at step %d of %d", told.step, told.steps)
                        return
                    wanted = max(1, min(50, int(TELL_S / step_s)))
                    if not every <= wanted < 2 * every:
                        every = wanted
                        break
        except KeyboardInterrupt:
            if not trainer.step:
                raise
            logger.warning("stopped at step %d of %d; the field is what was trained so far", trainer.step, trainer.train.steps)
