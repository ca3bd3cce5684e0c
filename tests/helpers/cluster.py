"""Two Ray nodes on loopback, with token authentication, as an administrator would start them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from helpers.folder import Folder
from helpers.processes import wait_for

BIN = Path(sys.executable).parent
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
CLEAN |= {"RAY_worker_niceness": "0"}  # Ray's workers are nicer than that, and hardly run on a busy machine
CLEAN |= {"CUDA_VISIBLE_DEVICES": "", "RAY_USAGE_STATS_ENABLED": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
CLEAN |= {"RAY_enable_worker_prestart": "0"}


LOOK = """
import json, ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
nodes = sorted(n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"])
busy = {k: [ray.available_resources().get(k), v] for k, v in ray.cluster_resources().items() if k in ("CPU", "GPU")}
print(json.dumps([nodes, ray.util.list_named_actors(all_namespaces=True), busy]))
"""


class Cluster:
    """Two Ray nodes started as an administrator would; the second does not see one folder, where this can be had."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need short names
        self.hidden = folder / "hidden"
        self.hidden.mkdir()
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.env = {**CLEAN, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self.nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        try:
            self._start(0, [], "--head", "--port=0", f"--ray-client-server-port={free_port()}", "--include-dashboard=false")
            file = self.folder / "0" / "ray_current_cluster"
            self.address = wait_for(lambda: file.is_file() and file.read_text().strip(), 60, "head")
            self._start(1, hiding(self.hidden), f"--address={self.address}")
            wait_for(lambda: b"Ray runtime started" in (self.folder / "1.log").read_bytes(), 60, "second node")
            self.raylets = [
                next(pid for pid, words in below(n.pid).items() if words[0].endswith("/raylet")) for n in self.nodes
            ]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(timeout=100)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, number: int, prefix: list[str], *options: str) -> None:
        command = [*prefix, str(BIN / "ray"), "start", *options, f"--node-ip-address=127.0.0.{2 + number}", "--num-cpus=1"]
        command += ["--num-gpus=0", f"--temp-dir={self.folder / str(number)}", "--dashboard-agent-listen-port=0", "--block"]
        command += ["--include-log-monitor=false"]
        with open(self.folder / f"{number}.log", "wb") as log:
            self.nodes.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True))

    def look(self) -> Any:
        """(addresses of the nodes alive, named actors, CPUs free and in all), asked by a client of its own."""
        done = subprocess.run(
            [sys.executable, "-c", LOOK, self.address], env=self.env, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    def trials(self) -> list[set[int]]:
        """Processes that run trials now, node by node."""
        return [trials_of(r) for r in self.raylets]

    def drive(self, folder: Folder, *options: str, prefix: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        """Start a driver that joins, by ``--address`` unless ``env`` has RAY_ADDRESS; one that is empty is left out."""
        join = [] if "RAY_ADDRESS" in env else ["--address", self.address]
        command = [*prefix, sys.executable, "-m", "study.run", "search.yaml", "--no-report", *join, *options]
        variables = {k: v for k, v in {**self.env, "PYTHONWARNINGS": "ignore", **env}.items() if v}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=folder.path, env=variables, stdout=pipe, stderr=pipe, text=True)


def hiding(folder: Path) -> list[str]:
    """A prefix of a command that then sees an empty folder there; none where mounts are not allowed."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    prefix = ["unshare", "--mount", *user, "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder)]
    works = shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    return prefix if works else []


def below(pid: int) -> dict[int, list[str]]:
    """Processes that a process has started, and their command lines; a name where there is none, as of one that is ending."""
    found = {}
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found[child.pid] = child.cmdline() or [child.name()]
    return found


def trials_of(raylet: int) -> set[int]:
    """Processes of one node that run trials now."""
    return {pid for pid, words in below(raylet).items() if words[0].startswith("ray::ImplicitFu")}


def end(process: subprocess.Popen[str], expect: int, timeout: float = 600) -> tuple[str, str]:
    """Wait for a driver; returns (stdout, stderr) and checks the exit code."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == expect, f"exit {process.returncode}, not {expect}\n{out}\n{err}"
    return out, err


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("", 0))
        return int(s.getsockname()[1])
