"""MLflow: ``mlflow ui --backend-store-uri sqlite:///results/<study>/mlflow.db``, or the server of MLFLOW_TRACKING_URI.

One experiment a study and one run a field, with its training parameters and curve; below it one run a row, with its sampler
parameters and metrics. A trial that begins again goes on with its run, from the step that its curve has reached.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from study.measure.trackers.tracker import CURVE, Facts, Run, Tracker, TrackerKind
from study.rows.storage import Place

SERVER = "MLFLOW_TRACKING_URI"
for name, value in (("MAX_RETRIES", "2"), ("TIMEOUT", "20")):  # of their own it takes many minutes to say that a server is away
    os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells how it makes its tables


def _client(folder: Place) -> MlflowClient:
    return MlflowClient(os.environ.get(SERVER) or f"sqlite:///{(folder.local / 'mlflow.db').absolute()}")


def _experiment(client: MlflowClient, name: str) -> str:
    there = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if there is None else there.experiment_id)


def _prepare(study: str, folder: Place) -> None:
    """Make the tables of the database, and the experiment; workers that did so at once would be in each other's way."""
    _experiment(_client(folder), study)


class Mlflow(Tracker):
    """A run of MLflow for the field, with one below it for each row."""

    def __init__(self, run: Run) -> None:
        self.client = _client(run.folder)
        self.experiment = _experiment(self.client, run.study)
        self.run_id = self._run(run.trial_id, run.parameters)
        self.reached = max((point.step for point in self.client.get_metric_history(self.run_id, f"train/{CURVE}")), default=0)
        """The step up to which a killed process of this trial has kept the curve."""

    def _run(self, name: str, parameters: Facts, **tags: str) -> str:
        """Return the run of this name, made where there is none."""
        found = self.client.search_runs([self.experiment], f"attributes.run_name = '{name}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        made: Any = self.client.create_run(self.experiment, run_name=name, tags=tags)
        self.client.log_batch(made.info.run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
        return str(made.info.run_id)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        if step > self.reached:
            self._keep(self.run_id, step, {f"train/{name}": value for name, value in values.items()})

    def add_row(self, number: int, name: str, sampler: Facts, values: Mapping[str, float]) -> None:
        """Keep a row, as a run of its own."""
        row = self._run(name, sampler, **{"mlflow.parentRunId": self.run_id})
        self._keep(row, number, values)
        self.client.set_terminated(row)

    def _keep(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Write all numbers at once."""
        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        self.client.set_terminated(self.run_id)


def _needs_local() -> str | None:
    if os.environ.get(SERVER):
        return None
    return f"mlflow keeps a database in the study's folder, which must be local; set {SERVER} to a server, or remove it"


MLFLOW = TrackerKind(Mlflow, _needs_local, _prepare)
