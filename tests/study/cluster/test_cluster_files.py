"""The files for real clusters in experiments/cluster: the Slurm script run on loopback, the KubeRay manifest read."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from helpers.cluster import BIN, CLEAN, end, trials_of, wait_for
from helpers.folder import Folder

from study.host.slots import slots
from study.load import load_study_config
from study.run import parser

CLUSTER = Path(__file__).resolve().parents[3] / "experiments/cluster"

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then tr , '\\n' <<<"$3"; else echo "$@" >>"$SLURM_SUBMIT_DIR/scontrol"; fi
"""


class Job:
    """The Slurm script on two loopback addresses; srun runs what it is given here, and scontrol writes down what it is told."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.bin = folder, folder.path / "bin"
        self.bin.mkdir()
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.number = f"{os.getpid()}{int(time.time())}"
        self.tokens: set[str] = set()
        self.words: set[str] = set()
        self.ports: set[int] = set()

    def start(self, nodes: str, restarts: int) -> subprocess.Popen[str]:
        env = {
            **CLEAN, "PATH": f"{self.bin}:{BIN}:{CLEAN['PATH']}", "HOME": str(self.folder.path), "PYTHONWARNINGS": "ignore",
            "SLURM_JOB_ID": self.number, "SLURM_JOB_NODELIST": nodes, "SLURM_CPUS_PER_TASK": "1",
            "SLURM_RESTART_COUNT": str(restarts), "SLURM_SUBMIT_DIR": str(self.folder.path), "RAY_ADDRESS": "127.0.0.1:1",
        }  # fmt: skip
        command = ["bash", str(CLUSTER / "slurm.sh"), "search.yaml", "--no-report"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder.path, env=env, stdout=pipe, stderr=pipe, text=True)

    def processes(self) -> Iterator[tuple[psutil.Process, Mapping[str, str]]]:
        """Every process of the job, with its environment."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if (env := process.environ()).get("SLURM_JOB_ID") == self.number:
                    yield process, env

    def look(self) -> None:
        """Remember tokens, words of command lines, and ports listened on."""
        for process, env in self.processes():
            with contextlib.suppress(psutil.Error):
                self.tokens |= {env["RAY_AUTH_TOKEN"]} if "RAY_AUTH_TOKEN" in env else set()
                self.words |= set(process.cmdline())
                self.ports |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}

    def raylet(self, address: str) -> int | None:
        """The raylet of one node."""
        for process, _ in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.name() == "raylet" and f"--node_ip_address={address}" in process.cmdline():
                    return process.pid
        return None

    def assert_gone(self, said: str, nodes: int) -> None:
        """No process, socket, file or token is left."""
        assert len(self.tokens) == 1 and len(self.ports) > 5, "the job was not observed"
        (token,) = self.tokens
        assert not [p for p, _ in self.processes()]
        assert not self.ports & {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert token not in said and not any(token in word for word in self.words)
        assert not any(token.encode() in p.read_bytes() for p in self.folder.path.rglob("*") if p.is_file())
        folders = {Path(word.split("=")[1]) for word in self.words if word.startswith("--temp-dir=")}
        assert len(folders) == nodes and not any(f.exists() for f in folders)
        assert not (self.folder.path / ".ray").exists()
        self.tokens, self.words, self.ports = set(), set(), set()


@pytest.fixture
def job(folder: Folder) -> Iterator[Job]:
    started = Job(folder)
    yield started
    for process, _ in started.processes():
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.mark.slow
def test_a_slurm_job_stops_in_time_and_continues_though_a_node_dies(folder: Folder, job: Job) -> None:
    """A job extends a study; Slurm's signal before the time limit; the job again, on two nodes, one of which is lost."""
    sampler = {"sampler": {"steps": {"choice": [4, 6]}}}
    folder.write(search=sampler)
    folder.run("--inline")
    folder.write(search=sampler, seeds={"train": 3})
    first = job.start("127.0.0.4", 0)
    state = folder.path / "results/tiny/state.json"
    wait_for(lambda: json.loads(state.read_text())["running"], 120, "running study")
    job.look()
    first.send_signal(signal.SIGUSR1)
    out, err = end(first, 143, timeout=300)
    assert "Ray runs on 1 of 1 nodes" in out and "stopped with 2 of 6 rows" in out
    assert (folder.path / "scontrol").read_text() == f"requeue {job.number}\n"
    job.assert_gone(out + err, nodes=1)

    second = job.start("127.0.0.4,127.0.0.5", 1)
    lost = wait_for(lambda: job.raylet("127.0.0.5"), 60, "second node")
    wait_for(lambda: trials_of(lost), 120, "trial on the second node")
    job.look()
    os.kill(lost, signal.SIGKILL)
    out, err = end(second, 0)
    assert "2 trials at once on 2 nodes" in out and "--take-over" in job.words
    assert [row["status"] for row in folder.rows().values()] == ["complete"] * 6
    assert (folder.path / "scontrol").read_text().count("requeue") == 1
    job.assert_gone(out + err, nodes=2)


def test_the_slurm_script_is_bash_with_three_lines_of_instructions() -> None:
    script = CLUSTER / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert [line[:4] for line in script.read_text().splitlines()[1:4]] == ["# 1.", "# 2.", "# 3."]


POD: dict[str, Any] = {
    "spec": {
        "containers": [
            {
                "name": str, "image": str, "envFrom": [{"secretRef": {"name": str}}],
                "resources": {"requests": dict[str, str], "limits": dict[str, str]},
                "volumeMounts": [{"name": str, "mountPath": str}],
            }
        ],
        "volumes": [{"name": str, "configMap": {"name": str}}],
    }
}  # fmt: skip
RAYJOB: dict[str, Any] = {
    "apiVersion": str, "kind": str, "metadata": {"name": str},
    "spec": {
        "entrypoint": str, "backoffLimit": int, "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int,
        "rayClusterSpec": {
            "rayVersion": str, "authOptions": {"mode": str},
            "headGroupSpec": {"rayStartParams": dict[str, str], "template": POD},
            "workerGroupSpecs": [
                {
                    "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int,
                    "rayStartParams": dict[str, str], "template": POD,
                }
            ],
        },
    },
}  # fmt: skip
"""Fields of ray.io/v1 and of a pod, with their types as in the CRD; a field that is not here is refused."""
OPTIONAL = {"volumes", "volumeMounts"}


def conforms(value: Any, schema: Any, at: str = "") -> None:
    """Fail where a value is not of the schema's form."""
    if isinstance(schema, dict):
        assert isinstance(value, dict) and value.keys() <= schema.keys(), f"{at}: unknown {value}"
        assert schema.keys() - value.keys() <= OPTIONAL, f"{at}: missing {schema.keys() - value.keys()}"
        for key, inner in value.items():
            conforms(inner, schema[key], f"{at}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list) and value, f"{at}: not a list"
        for number, inner in enumerate(value):
            conforms(inner, schema[0], f"{at}[{number}]")
    elif schema == dict[str, str]:
        assert isinstance(value, dict) and all(type(v) is str for v in value.values()), f"{at}: texts, not {value}"
    else:
        assert type(value) is schema, f"{at}: {value!r} is not {schema.__name__}"


def manifest() -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The file, its ConfigMap and its RayJob."""
    text = (CLUSTER / "rayjob.yaml").read_text()
    settings, job = yaml.safe_load_all(text)
    return text, settings, job


def test_the_rayjob_is_one() -> None:
    text, settings, job = manifest()
    conforms(job, RAYJOB)
    conforms(settings, {"apiVersion": str, "kind": str, "metadata": {"name": str}, "data": dict[str, str]})
    assert (job["apiVersion"], job["kind"], settings["kind"]) == ("ray.io/v1", "RayJob", "ConfigMap")
    assert len(job["metadata"]["name"]) <= 47
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] and spec["backoffLimit"] > 0
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    version = tuple(int(part) for part in spec["rayClusterSpec"]["rayVersion"].split("."))
    assert version >= (2, 52, 0) and f"rayproject/ray:{spec['rayClusterSpec']['rayVersion']}-" in text
    assert [line[:4] for line in text.splitlines()[:3]] == ["# 1.", "# 2.", "# 3."]


def test_the_rayjob_holds_no_secret() -> None:
    text, _, job = manifest()
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    containers = [c for group in groups for c in group["template"]["spec"]["containers"]]
    assert all(c["envFrom"] == [{"secretRef": {"name": "pfgm-storage"}}] and "env" not in c for c in containers)
    assert "kind: Secret" not in text and "AWS_SECRET_ACCESS_KEY=" not in text and "RAY_AUTH_TOKEN" not in text


def test_the_rayjob_runs_its_study(folder: Folder) -> None:
    """Its command is one of ours, its study file is read from the mounted ConfigMap, and its GPUs are all used."""
    _, settings, job = manifest()
    spec = job["spec"]["rayClusterSpec"]
    head = spec["headGroupSpec"]["template"]["spec"]
    command = shlex.split(job["spec"]["entrypoint"])
    assert command[:3] == ["python", "-m", "study.run"]
    options = parser().parse_args(command[3:])
    mount = {m["name"]: m["mountPath"] for m in head["containers"][0]["volumeMounts"]}
    volume = {v["name"]: v["configMap"]["name"] for v in head["volumes"]}
    assert volume == {"study": settings["metadata"]["name"]} and options.study.parent == Path(mount["study"])
    file = folder.path / options.study.name
    file.write_text(settings["data"][options.study.name])
    config = load_study_config(file, options.overrides)
    assert config.place.remote
    (group,) = spec["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    cpus, gpus = group["replicas"] * int(limits["cpu"]), group["replicas"] * int(limits["nvidia.com/gpu"])
    at_once = slots(config, cpus, gpus)
    assert at_once * config.resources.gpus == gpus and at_once * config.resources.cpus <= cpus
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
