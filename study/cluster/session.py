"""Ray for one run of a study: a private one on this machine, or a standing cluster that is joined.

A private Ray listens on 127.0.0.1 only, keeps everything under one temporary folder and ends with the driver, however that
ends (`study.host.reaper`). A standing cluster is left as it was found; its token authentication is Ray's own and stays on.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.cluster.environment import WORKER, ClusterError, prepare
from study.config.plugins import shipped
from study.host.machine import gpu_count
from study.host.reaper import Reaper
from study.host.stop import SIGNALS
from study.rows.storage import Place

if TYPE_CHECKING:
    from study.config.study import StudyConfig

logger = logging.getLogger(__name__)

PROBE_S, KNOCK_S = 60.0, 10.0


@dataclass(frozen=True)
class Room:
    """The room for trials: CPUs and GPUs in all, and the folder for this run's temporary files."""

    nodes: int
    cpus: int
    gpus: float
    folder: Path
    standing: bool
    """Whether others may use this Ray too."""

    def __str__(self) -> str:
        what = "this machine" if self.nodes == 1 else f"{self.nodes} nodes"
        return f"{what} ({self.cpus} CPUs, {self.gpus:g} GPUs)"


def for_workers(config: StudyConfig) -> StudyConfig:
    """Return the study with absolute paths, for a worker has another working directory."""
    path = config.data.path
    data = config.data if path is None else config.data.model_copy(update={"path": str(Path(path).absolute())})
    return replace(config, storage=config.place.absolute().uri, data=data)


@contextmanager
def ray_session(config: StudyConfig, address: str | None, cpus_wanted: int, address_from: str = "--address") -> Iterator[Room]:
    """Ray while the block runs.

    Args:
        address: of a standing cluster (host:port, or auto); None starts a private Ray with ``cpus_wanted`` CPUs.
        address_from: what the address was given by, for errors.
    Raises:
        ClusterError: no cluster there, or a node of it cannot import this package or does not see the storage.
    """
    prepare(address)
    reaper, handlers = Reaper(), {number: signal.getsignal(number) for number in SIGNALS}
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # names trials of its own that came back as others
    try:
        if address is None:
            ray.init(
                address="local",  # never a cluster that happens to be there
                num_cpus=cpus_wanted,
                num_gpus=gpu_count() if config.resources.gpus != 0 else 0,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(reaper.folder / "ray"),
                runtime_env=_environment(config) or None,
            )
        else:
            _join(address, f"{address_from} {address}", config)
            _check_nodes(config)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)  # in place of Ray's own
        found = ray.cluster_resources()
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        yield Room(nodes, int(found.get("CPU", 0)), found.get("GPU", 0.0), reaper.folder, address is not None)
    finally:
        ray.shutdown()
        reaper.finish()


def _environment(config: StudyConfig) -> dict[str, object]:
    """What the workers of a study are sent: its plug-ins."""
    return {"py_modules": shipped(config.origins), "excludes": ["__pycache__"]} if config.plugins else {}


def _join(address: str, shown: str, config: StudyConfig) -> None:
    """Join a standing cluster; ``shown`` is how errors call the address."""
    try:
        if "://" in address:
            raise ValueError("name it as host:port, the port of its GCS, without a scheme")
        if ":" in address:
            _knock(address, shown)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": WORKER, **_environment(config)},
        )
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        hint = "start one with `ray start --head`, or name another"
        if "token" in reason.lower():
            hint = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the cluster's token"
        raise ClusterError(f"{shown}: cannot join a Ray cluster there ({reason}); {hint}") from None


def _knock(address: str, shown: str) -> None:
    """Fail within seconds where nobody answers, or asks for another token, or this machine is none of the cluster's.

    Ray itself tries for minutes, with a line for every try, or ends the process.

    Raises:
        OSError: nobody answers.
        ValueError: no such port.
        ray.exceptions.RayError: another token, or no Ray.
        ClusterError: a cluster of other machines.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    from ray._private.authentication import authentication_token_setup as tokens  # private: only joining may break by it
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # private too; compiled, without types

    tokens.ensure_token_if_auth_enabled(create_token_if_missing=False)
    sys.stderr.flush()
    stderr = os.dup(2)  # the compiled part of Ray writes there
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            nodes = GcsClient(address=address).get_all_node_info().values()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    if not any(os.path.exists(node.raylet_socket_name) for node in nodes):
        raise ClusterError(
            f"{shown}: this machine is no node of that cluster; run the command on one,"
            f" or make it one with `ray start --num-cpus=0 --address={address}`"
        )


def _check_nodes(config: StudyConfig) -> None:
    """Every node must have this package, and must see the folder that the driver sees."""
    mark = config.place / f".seen-by-{os.uname().nodename}-{os.getpid()}"
    mark.write(b"")
    try:
        looks = []
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                look = ray.remote(sees).options(num_cpus=0, scheduling_strategy=there)
                looks.append((node, look.remote(mark.absolute().uri, config.plugins)))
        for node, answer in looks:
            address = node["NodeManagerAddress"]
            try:
                seen = ray.get(answer, timeout=PROBE_S)
            except (ray.exceptions.RayError, ImportError) as error:
                if not any(n["Alive"] for n in ray.nodes() if n["NodeID"] == node["NodeID"]):
                    continue  # it was lost meanwhile; the trials go elsewhere
                reason = " ".join(str(error).split())[-300:]
                raise ClusterError(f"node {address} cannot run trials; install the same pfgm-study there ({reason})") from None
            if not seen:
                raise ClusterError(
                    f"node {address} does not see {config.place.absolute()}: storage must be a directory that every node"
                    " shares, or s3://bucket/prefix"
                )
    finally:
        mark.delete()


def sees(uri: str, plugins: Sequence[str]) -> bool:
    """Return whether a file is there, as seen from the node this runs on.

    Raises:
        ImportError: the node has no torch, or not what a plug-in imports; one without this package cannot even begin.
    """
    if importlib.util.find_spec("torch") is None:
        raise ImportError("torch is not installed")
    for name in plugins:
        importlib.import_module(name)
    return Place.of(uri).is_file()
