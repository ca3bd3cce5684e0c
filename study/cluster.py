"""Ray for one run of a study: a private one on this machine, or a standing cluster that is joined.

A private Ray listens on 127.0.0.1 only, keeps everything under one temporary folder and ends with the driver, however that
ends (`study.reaper`). A standing cluster is left as it was found; its token authentication is Ray's own and stays on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from study.config import StudyConfig
from study.reaper import Reaper
from study.storage import Place

logger = logging.getLogger(__name__)

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
}
WORKER = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONWARNINGS": "ignore",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Off: Ray binds to 127.0.0.1 instead of every interface."""
PROBE_S = 60.0


class ClusterError(RuntimeError):
    """A cluster that cannot be joined, or a node of it that cannot run trials; the message is one line."""


@dataclass(frozen=True)
class Room:
    """What there is for trials: CPUs and GPUs in all, and the folder for this run's temporary files."""

    nodes: int
    cpus: int
    gpus: float
    folder: Path

    def __str__(self) -> str:
        what = "this machine" if self.nodes == 1 else f"{self.nodes} nodes"
        return f"{what} ({self.cpus} CPUs, {self.gpus:g} GPUs)"


def usable_cpus() -> int:
    """CPUs this process may use: its affinity, and a container's quota (cgroup v2) where there is one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cpus = min(cpus, max(int(limit) // int(period), 1))
    return cpus


def gpu_count() -> int:
    """CUDA devices of this machine."""
    import torch

    return torch.cuda.device_count()


def for_workers(config: StudyConfig) -> StudyConfig:
    """The same study with absolute paths: a worker's working directory is another."""
    path = config.data.path
    data = config.data if path is None else config.data.model_copy(update={"path": str(Path(path).absolute())})
    return replace(config, storage=config.place.absolute().uri, data=data)


@contextmanager
def ray_session(config: StudyConfig, address: str | None, cpus_wanted: int) -> Iterator[Room]:
    """Ray while the block runs.

    Args:
        address: of a standing cluster (host:port, or auto); None starts a private Ray with ``cpus_wanted`` CPUs.
    Raises:
        ClusterError: no cluster there, or a node of it cannot import this package or does not see the storage.
    """
    os.environ.update(QUIET | WORKER | ({} if address else LOOPBACK))
    import ray

    reaper = Reaper()
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
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
            )
        else:
            _join(address)
            _check_nodes(config)
        found = ray.cluster_resources()
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        yield Room(nodes, int(found.get("CPU", 0)), found.get("GPU", 0.0), reaper.folder)
    finally:
        ray.shutdown()
        reaper.finish()


def _join(address: str) -> None:
    import ray

    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": WORKER},
        )
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(
            f"--address {address}: cannot join a Ray cluster there ({reason});"
            " start one with `ray start --head`, or name another"
        ) from None


def _check_nodes(config: StudyConfig) -> None:
    """Every node must have this package, and must see the folder that the driver sees."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    mark = config.place / f".seen-by-{os.uname().nodename}-{os.getpid()}"
    mark.write(b"")
    try:
        looks = {}
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                look = ray.remote(sees).options(num_cpus=0, scheduling_strategy=there)
                looks[node["NodeManagerAddress"]] = look.remote(mark.absolute().uri)
        for node_address, answer in looks.items():
            try:
                seen = ray.get(answer, timeout=PROBE_S)
            except ray.exceptions.NodeDiedError:
                continue  # the trials of a lost node go elsewhere
            except (ray.exceptions.RayError, ImportError) as error:
                reason = " ".join(str(error).split())[-300:]
                raise ClusterError(
                    f"node {node_address} cannot run trials; install the same pfgm-study there ({reason})"
                ) from None
            if not seen:
                raise ClusterError(
                    f"node {node_address} does not see {config.place.absolute()}: storage must be a directory that every node"
                    " shares, or s3://bucket/prefix"
                )
    finally:
        mark.delete()


def sees(uri: str) -> bool:
    """Whether a file is there, as seen from the node this runs on."""
    return Place.of(uri).is_file()
