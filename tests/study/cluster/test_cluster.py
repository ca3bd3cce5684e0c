"""A standing cluster that studies join: two Ray nodes on loopback, with token authentication."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cluster import Cluster, below, end, hiding
from helpers.folder import Folder
from helpers.processes import wait_for

from study.host.slots import slots

THREE = {"train": {"sigma": {"choice": [0.1, 0.15, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}}
ENDLESS = {"steps": 1_000_000, "batch_size": 32}
JOIN = """
import sys
from study.cluster.session import ClusterError, ray_session
try:
    with ray_session(None, sys.argv[1], 1):
        print("joined")
except ClusterError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


Pair = tuple[Folder, list[tuple[str, str]], list[set[int]]]


@pytest.fixture(scope="module")
def pair(cluster: Cluster, make_folder: Callable[[str], Folder]) -> Pair:
    """Two studies of the same fields together, joined in the two ways; the processes that ran trials on each node."""
    folder = make_folder("pair")
    folder.write(train={"steps": 200, "batch_size": 32}, search=THREE, resources={"concurrent": 1, "gpus": 0.5})
    job = {"runtime_env": {"env_vars": {"PYTHONUNBUFFERED": "1"}}, "metadata": {"job_submission_id": "as KubeRay does it"}}
    by_variable = {"RAY_ADDRESS": cluster.address, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}
    absolute = f"storage={folder.path / 'results'}"
    drivers = [
        cluster.drive(folder),
        cluster.drive(folder, "--set", "name=second", "--set", "resources.gpus=0", "--set", absolute, **by_variable),
    ]
    seen: list[set[int]] = [set(), set()]
    with contextlib.suppress(subprocess.TimeoutExpired):
        while any(d.poll() is None for d in drivers):
            for pids, now in zip(seen, cluster.trials(), strict=True):
                pids |= now
            with contextlib.suppress(subprocess.TimeoutExpired):
                drivers[0].wait(timeout=0.2)
                drivers[1].wait(timeout=0.2)
    return folder, [end(d, 0) for d in drivers], seen


@pytest.mark.slow
def test_two_studies_use_every_node_and_leave_the_cluster_as_it_was(cluster: Cluster, pair: Pair) -> None:
    folder, said, seen = pair
    for name in ("tiny", "second"):
        assert [row["status"] for row in folder.rows(name).values()] == ["complete"] * 6
    assert all("1 trials at once on 2 nodes (2 CPUs, 0 GPUs)" in out for out, _ in said)
    assert all(seen), f"trials ran on one node only: {seen}"
    assert_as_it_was(cluster)


def assert_as_it_was(cluster: Cluster) -> None:
    """Both nodes are there, and nothing of ours."""
    idle = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
    wait_for(lambda: all(w[0].startswith(idle) for r in cluster.raylets for w in below(r).values()), 30, "end of our processes")
    wait_for(lambda: cluster.look() == [["127.0.0.2", "127.0.0.3"], [], {"CPU": [2, 2]}], 30, "cluster as it was")


@pytest.mark.slow
def test_studies_that_share_a_cluster_train_every_field_once(pair: Pair) -> None:
    folder, _, _ = pair
    trained_by = defaultdict(set)
    for name in ("tiny", "second"):
        for row in folder.rows(name).values():
            if not row["prov_field_reused"]:
                trained_by[row["train_id"]].add(name)
    assert trained_by.keys() == folder.fields()
    assert [len(names) for names in trained_by.values()] == [1, 1, 1]


OWN = """
import pfgm
from pfgm.metrics.card import Column, Metric
from .value import VALUE
with open({places!r}, "a") as places:
    places.write(__file__ + "\\n")
pfgm.register("metric", "own", Metric(lambda seen: {{"metric_own": VALUE}}, columns=(Column("metric_own", label="own"),)))
"""


@pytest.mark.slow
def test_plug_ins_are_sent_to_the_nodes(cluster: Cluster, folder: Folder) -> None:
    """A module of a package that is on the driver's path alone, with what it imports from there."""
    package, places = folder.path / "of_driver" / "mine", folder.path / "places"
    package.mkdir(parents=True)
    (package / "value.py").write_text("VALUE = 0.25\n", encoding="utf-8")
    (package / "parts.py").write_text(OWN.format(places=str(places)), encoding="utf-8")
    folder.write(plugins=["mine.parts"], evaluate={"samples": 60, "metrics": ["fid", "own"]})
    path = os.pathsep.join([str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    end(cluster.drive(folder, PYTHONPATH=path), 0)
    rows = folder.rows()
    assert len(rows) == 4 and all(row["status"] == "complete" and row["metric_own"] == 0.25 for row in rows.values())
    driver, *workers = places.read_text(encoding="utf-8").split()
    assert driver == str(package / "parts.py") and workers and all("py_modules_files" in place for place in workers)


@pytest.mark.slow
def test_a_declared_gpu_falls_back_to_the_cpu_with_one_warning(pair: Pair) -> None:
    folder, said, _ = pair
    (_, err), (_, err_without) = said
    assert err == "resources.gpus: 0.5 declared, no CUDA device found; using the CPU\n" and err_without == ""
    assert {row["prov_device"] for row in folder.rows().values()} == {"cpu"}


@pytest.mark.slow
def test_a_stranger_and_storage_that_a_node_does_not_see_are_one_line(cluster: Cluster, folder: Folder) -> None:
    folder.write(search=None)
    stranger = cluster.drive(folder, RAY_AUTH_TOKEN_PATH="", RAY_AUTH_TOKEN=secrets.token_hex(32))
    hidden = cluster.drive(folder, "--set", f"storage={cluster.hidden}")
    _, err = end(stranger, 2)
    assert err.count("\n") == 1 and "token is missing or incorrect" in err and "RAY_AUTH_TOKEN_PATH" in err
    _, err = end(hidden, 2)
    assert err.count("\n") == 1 and f"node 127.0.0.3 does not see {cluster.hidden}: storage must be" in err
    assert not list(cluster.hidden.glob(".seen*"))


@pytest.mark.parametrize(
    ("what", "reason", "hint"),
    [
        ("no token", "no authentication token was found", "RAY_AUTH_TOKEN_PATH"),
        ("other machine", "this machine is no node of that cluster", "ray start --num-cpus=0 --address="),
    ],
)
def test_why_a_cluster_cannot_be_joined_is_said_within_seconds(
    cluster: Cluster, folder: Folder, what: str, reason: str, hint: str
) -> None:
    prefix = hiding(cluster.folder) if what == "other machine" else []
    env = {k: v for k, v in cluster.env.items() if k != "RAY_AUTH_TOKEN_PATH"} if what == "no token" else cluster.env
    command = [*prefix, sys.executable, "-c", JOIN, cluster.address]
    env = {**env, "HOME": str(folder.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.count("\n") == 1 and reason in done.stdout and hint in done.stdout


@pytest.mark.slow
def test_a_killed_driver_leaves_the_cluster_as_it_was(cluster: Cluster, folder: Folder) -> None:
    folder.write(train=ENDLESS, search=None)
    driver = cluster.drive(folder)
    wait_for(lambda: any(cluster.trials()), 90, "trial")
    temporary = next(words[-1] for words in below(driver.pid).values() if "study.host.reaper" in words)
    assert Path(temporary).is_dir()
    driver.kill()
    driver.wait()
    assert_as_it_was(cluster)
    wait_for(lambda: not Path(temporary).exists(), 30, "end of the temporary folder")


@pytest.mark.parametrize(
    ("gpus", "concurrent", "room", "expected"),
    [
        ("auto", "auto", (8, 0), 8),
        ("auto", "auto", (8, 2), 8),
        ("auto", "auto", (64, 2), 16),
        ("auto", "auto", (3, 2), 3),
        (0, "auto", (8, 2), 8),
        (0.5, "auto", (8, 1), 2),
        (0.1, "auto", (64, 3), 30),
        (0.5, "auto", (3, 4), 3),
        (2, "auto", (8, 1), 1),
        (0.5, "auto", (8, 0), 8),
        (0.5, 5, (8, 1), 5),
    ],
)
def test_trials_at_once(
    folder: Folder, gpus: Any, concurrent: Any, room: tuple[int, float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tiny network, where GPUs have 16 GB."""
    monkeypatch.setattr("study.host.machine.gpu_memory", lambda: 16 * 10**9)
    config = folder.load(resources={"gpus": gpus, "concurrent": concurrent})
    assert slots(config, *room) == expected
