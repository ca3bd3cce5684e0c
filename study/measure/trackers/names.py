"""The names of all trackers, and the ``trackers`` of a study file; a further one is one file in this room and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pfgm.registry import Registry
from study.config.yaml_source import Source
from study.measure.trackers.tracker import TrackerKind, never_failing
from study.rows.storage import Place

TRACKERS: Registry[TrackerKind] = Registry(
    "tracker",
    "study.measure.trackers.tracker:TrackerKind",
    tensorboard="study.measure.trackers.tensorboard:TENSORBOARD",
    mlflow="study.measure.trackers.mlflow:MLFLOW",
    wandb="study.measure.trackers.wandb:WANDB",
)
"""All trackers, in the order of messages."""


def trackers_of(names: Sequence[str] | None, remote: bool) -> dict[str, TrackerKind]:
    """Return the trackers of a study by name, without those whose package this machine lacks, which is said once.

    Args:
        names: as declared; None is TensorBoard, where it is installed and the storage is local.
        remote: the storage is an object store.
    """
    found = dict[str, TrackerKind]()
    for name in names or ():
        with never_failing(name):
            found[name] = TRACKERS[name]
    if names is None and not remote:
        with suppress(ModuleNotFoundError):
            found["tensorboard"] = TRACKERS["tensorboard"]
    return found


def declared_trackers(source: Source, storage: str) -> tuple[str, ...] | None:
    """Return the names under ``trackers``; None where the key is not given.

    Raises:
        ConfigError: no list of known names, a package that is not installed, or a tracker that needs local storage.
    """
    names = source.values.get("trackers")
    if names is None:
        return None
    words = f"must be a list of {', '.join(TRACKERS)}"
    if not isinstance(names, list):
        raise source.error(("trackers",), f"{words}, got {names!r}")
    for k, name in enumerate(names):
        at = ("trackers", k)
        if not isinstance(name, str):
            raise source.error(at, f"{words}, got {name!r}")
        if name not in TRACKERS:
            raise source.error(at, TRACKERS.mistake(name).text)
        if name in names[:k]:
            raise source.error(at, f"names {name} twice; remove one")
        try:
            kind = TRACKERS[name]
        except ModuleNotFoundError as error:
            cure = f"type pip install 'pfgm-study[{name}]', or remove {name}"
            raise source.error(at, f"{name} needs the package {error.name}, which is not installed; {cure}") from None
        if Place.of(storage).remote and (reason := kind.needs_local()) is not None:
            raise source.error(at, f"{reason}; the storage is {storage}")
    return tuple(names)
