"""Single runs: training losses and sample grids."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.runs import plot_learning_curves, plot_samples, samples_title
from analysis.report.blocks import Section, Text
from analysis.report.study import Study
from analysis.rows.load import learning_curves
from analysis.statistics.pick import choose_cell
from study.rows.storage import Place


def learning(study: Study) -> Section:
    """Draw the training loss of every field, and its quality where that was measured on the way."""
    history = learning_curves(study.frame)
    if history.empty:
        return Section("learning", "Learning curves", (Text("No training history was stored."),))
    caption = f"Training loss of {history['train_id'].nunique()} fields. Objectives with other γ or targets have other scales."
    draws = [partial(plot_learning_curves, history)]
    if (rows := study.measured_early) is not None:
        caption += f" Right: {study.label} on the way, at the default sampler point."
        draws.append(partial(plot_learning_curves, rows, metric=study.metric))
    block = study.draw("learning-curves", caption, caption, draws)
    return Section("learning", "Learning curves", (block,))


def samples(study: Study) -> Section:
    """Show sample grids of the default, best and worst configuration, from the same latents where the seeds agree."""
    frame = study.frame
    rows = {which: choose_cell(frame, which) for which in ("default", "best", "worst")}
    pictures = (Place.of(str(frame.attrs["path"])) / "samples").files()
    shown = {which: row for which, row in rows.items() if row is not None and f"{row['cell_id']}.png" in pictures}
    if not shown:
        return Section("samples", "Samples", (Text("No sample grid was stored for the default, best or worst configuration."),))
    seeds = {which: int(row["seed_sample"]) for which, row in shown.items()}
    latents = (
        f"All from the latents of sample seed {next(iter(seeds.values()))}."
        if len(set(seeds.values())) == 1
        else f"From different latents: sample seeds {', '.join(f'{seed} ({which})' for which, seed in seeds.items())}."
    )
    caption = (
        f"64 samples a grid. {latents} Best and worst by mean over seeds among configurations without failures: raw extremes."
    )
    alt = f"Grids of generated samples: {', '.join(shown)}."
    block = study.draw("samples", caption, alt, [partial(_grid, frame, row, which) for which, row in shown.items()])
    return Section("samples", "Samples", (block,))


def _grid(frame: pd.DataFrame, row: pd.Series, which: str, *, ax: Axes) -> None:
    plot_samples(frame, str(row["cell_id"]), ax=ax)
    ax.set_title(samples_title(frame, row, which), fontsize=9)
