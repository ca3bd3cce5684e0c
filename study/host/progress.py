"""Live progress: a table on a terminal, plain lines elsewhere, and ``state.json`` for whoever looks from outside.

The time left is estimated from what has been seen so far in this run: seconds a training step and seconds a row.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from study.plan.trial import Trial
from study.rows.records import write_text
from study.rows.storage import Place, StorageError

logger = logging.getLogger(__name__)
LINE_S, STATE_S, STATE_REMOTE_S = 10.0, 2.0, 15.0
LINES, STATES = 50.0, 1000.0
"""Slots for each second between two lines at the ends of trials, and between two states: what they say is summed over slots."""
SHOWN = 20
"""Running trials that are shown one by one."""


SPENT = ("trained_s", "trained_steps")
"""What a trial says of its training, which holds until it says more."""


@dataclass
class Running:
    """A trial that is running: when it began, and the last thing it said."""

    label: str
    started: float
    steps: int
    rows: int
    last: dict[str, object] = field(default_factory=dict)
    train_at: float | None = None
    train_from: int = 0
    measure_at: float | None = None

    def hear(self, said: Mapping[str, object]) -> None:
        """Take in a report; remember when training and measuring began, start-up left out."""
        if said["phase"] == "train" and self.train_at is None:
            self.train_at, self.train_from = time.monotonic(), int(str(said["step"]))
        if said["phase"] == "measure" and self.measure_at is None:
            self.measure_at = time.monotonic()
        self.last = {key: self.last[key] for key in SPENT if key in self.last} | dict(said)

    def trained(self) -> tuple[float, float]:
        """(seconds, steps) of training told, or seen; of fields that are trained together each tells its part."""
        if "trained_s" in self.last:
            return float(str(self.last["trained_s"])), float(str(self.last["trained_steps"]))
        if self.train_at is None:
            return 0.0, 0.0
        end = time.monotonic() if self.measure_at is None else self.measure_at
        return end - self.train_at, self.done_steps() - self.train_from

    def measured(self) -> tuple[float, float]:
        """(seconds, rows) of measuring seen, or told at the end."""
        if "measured_s" in self.last:
            return float(str(self.last["measured_s"])), self.rows
        return (0.0, 0.0) if self.measure_at is None else (time.monotonic() - self.measure_at, self.rows)

    def done_steps(self) -> float:
        return float(str(self.last.get("step", 0))) if self.last.get("phase") == "train" else self.steps if self.last else 0

    def done_rows(self) -> int:
        return int(str(self.last.get("rows", 0)))

    def bad_rows(self) -> int:
        return int(str(self.last.get("bad", 0)))


class Progress:
    """Counts, running trials and time left of one start of a study.

    Args:
        folder: the study's folder; ``state.json`` is kept there.
        rows_total, rows_before: planned cells, and those that already had a row.
        rows_to_do, steps_to_do: rows and training steps of the trials to run now.
        slots: trials at once.
    """

    def __init__(self, folder: Place, rows_total: int, rows_before: int, rows_to_do: int, steps_to_do: int, slots: int) -> None:
        self.folder, self.slots = folder, slots
        self.rows_total, self.rows_before = rows_total, rows_before
        self.rows_to_do, self.steps_to_do = rows_to_do, steps_to_do
        self.rows_done, self.steps_done, self.trials_done, self.lost, self.reused, self.bad = 0, 0, 0, 0, 0, 0
        self.running: dict[str, Running] = {}
        self.started = time.monotonic()
        self.console = Console(stderr=False, highlight=False)
        self.live: Live | None = None
        self._line_at = self._state_at = 0.0
        self._end_s = min(slots / LINES, LINE_S)
        self._state_s, self._state_failed = max(STATE_REMOTE_S if folder.remote else STATE_S, slots / STATES), False
        self._train_s = self._measure_s = 1e-9
        self._train_steps = self._measure_rows = 0.0

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=4, get_renderable=self.render)
            self.live.start()
        self._write_state(force=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()
        self._write_state(force=True, ended=True)

    def grow(self, rows_total: int, steps: int) -> None:
        """The plan has more rows than it had; ``steps`` are those of their fields."""
        self.rows_to_do += rows_total - self.rows_total
        self.steps_to_do += steps
        self.rows_total = rows_total

    def start(self, trial: Trial, rows: int, steps: int) -> None:
        """A trial begins; ``steps`` is 0 when its field is already trained."""
        self.running[trial.trial_id] = Running(label(trial), time.monotonic(), steps, rows)
        self._say()

    def update(self, trial_id: str, said: Mapping[str, object]) -> None:
        """The state that a running trial reports (see `study.measure.job.Report`)."""
        running = self.running.get(trial_id)
        if running is None or "phase" not in said:
            return
        running.hear(said)
        self._say()

    def finish(self, trial_id: str, lost: bool = False, postponed: bool = False) -> None:
        """A trial is over; ``lost``: its process died on every try; ``postponed``: it comes back."""
        running = self.running.pop(trial_id, None)
        if running is None or postponed:
            return
        seconds, steps = running.trained()
        self._train_s += seconds
        self._train_steps += steps
        seconds, rows = running.measured()
        self._measure_s += seconds
        self._measure_rows += rows
        self.rows_done += running.rows
        self.bad += running.rows if lost else running.bad_rows()
        self.steps_done += running.steps
        self.trials_done += 1
        self.lost += lost
        self.reused += bool(running.last.get("reused"))
        self._say(force=True)

    def seconds_left(self) -> float | None:
        """Estimated wall time to the end, or None before anything has been seen."""
        active = list(self.running.values())
        active_steps = sum(r.done_steps() for r in active if r.steps)
        train_s = self._train_s + sum(r.trained()[0] for r in active)
        seen_steps = self._train_steps + sum(r.trained()[1] for r in active)
        if seen_steps < 20 and self._measure_rows == 0:
            return None
        per_step = train_s / seen_steps if seen_steps else 0.0
        per_row = self._measure_s / self._measure_rows if self._measure_rows else 40 * per_step
        steps_left = max(self.steps_to_do - self.steps_done - active_steps, 0)
        rows_left = max(self.rows_to_do - self.rows_done - sum(r.done_rows() for r in self.running.values()), 0)
        return (steps_left * per_step + rows_left * per_row) / max(self.slots, 1)

    def headline(self) -> str:
        """The counts and times in one line."""
        done = self.rows_before + self.rows_done + sum(r.done_rows() for r in self.running.values())
        left = self.seconds_left()
        parts = [f"{done}/{self.rows_total} rows", f"{self.trials_done} fields done", f"{len(self.running)} running"]
        bad = self.bad + sum(r.bad_rows() for r in self.running.values())
        parts += [f"{n} {word}" for n, word in ((bad, "rows failed"), (self.reused, "reused"), (self.lost, "lost")) if n]
        parts += [
            f"{clock(time.monotonic() - self.started)} so far",
            f"{clock(left)} left" if left is not None else "time left: —",
        ]
        return " · ".join(parts)

    def render(self) -> Group:
        """The live display."""
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for column in ("field", "doing", "", "loss", "for"):
            right, shrinks = column in ("loss", "for"), column == "field"
            table.add_column(column, no_wrap=not shrinks, justify="right" if right else "left")
        for running in self.shown():
            doing, share, loss = describe(running)
            name, bar = Text(running.label, no_wrap=True, overflow="ellipsis"), ProgressBar(1.0, share, width=12)
            table.add_row(name, doing, bar, loss, clock(time.monotonic() - running.started))
        if more := self.more():
            table.add_row(more)
        return Group(Text(self.headline(), style="bold"), table)

    def shown(self) -> list[Running]:
        """Return the running trials that there is room for."""
        return list(itertools.islice(self.running.values(), SHOWN))

    def more(self) -> str:
        """Return how many others are running; empty where there are none."""
        return f"and {len(self.running) - SHOWN} more" if len(self.running) > SHOWN else ""

    def _say(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.live is None and now - self._line_at > (self._end_s if force else LINE_S):
            self._line_at = now
            doing = "; ".join([*(f"{r.label}: {describe(r)[0]}" for r in self.shown()), *filter(None, [self.more()])])
            print(f"{self.headline()}{' — ' + doing if doing else ''}", file=sys.stdout, flush=True)
        self._write_state()

    def _write_state(self, force: bool = False, ended: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._state_at < self._state_s:
            return
        self._state_at = now
        state = {
            "host": platform.node(), "pid": os.getpid(), "running": not ended, "headline": self.headline(),
            "rows_total": self.rows_total,
            "rows_done": self.rows_before + self.rows_done + sum(r.done_rows() for r in self.running.values()),
            "trials": [dict(zip(("field", "doing", "share", "loss"), (r.label, *describe(r)), strict=True))
                       for r in self.shown()],
            "seconds_left": self.seconds_left(),
        }  # fmt: skip
        try:
            write_text(self.folder / "state.json", json.dumps(state, indent=1) + "\n")
        except StorageError as error:
            if not self._state_failed:  # only what `study.status` shows; rows that cannot be written stop the study
                logger.warning("%s; python -m study.status will not be up to date", error)
            self._state_failed = True


def describe(running: Running) -> tuple[str, float, str]:
    """(what a trial does now, its share done, its loss)."""
    said = running.last
    if said.get("phase") == "train":
        step, steps = int(str(said["step"])), int(str(said["steps"]))
        return f"training, step {step}/{steps}", step / steps, f"{float(str(said['loss'])):.4f}"
    if said.get("phase") == "measure":
        rows, total = int(str(said["rows"])), int(str(said["rows_total"]))
        return f"measuring, row {rows + 1}/{total}", rows / max(total, 1), ""
    return ("done", 1.0, "") if said.get("phase") == "done" else ("starting", 0.0, "")


def label(trial: Trial) -> str:
    """Return the name of a trial on the screen: what is special about it, and its seed."""
    if trial.role.is_default:
        return f"default, seed {trial.seed}"
    keys = trial.role.arms or tuple(trial.point)
    values = [f"{k}={trial.point[k]:.3g}" if isinstance(trial.point[k], float) else f"{k}={trial.point[k]}" for k in keys]
    return f"seed {trial.seed}, {', '.join(values)}"


def clock(seconds: float) -> str:
    """125 → 2:05, 4000 → 1:06:40."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
