"""The row that stands for the default, the best or the worst configuration."""

from __future__ import annotations

import pandas as pd

from analysis.rows.meta import is_default
from analysis.rows.metrics import default_metric
from analysis.rows.question import statistic
from analysis.statistics.summary import summarize
from study.rows.storage import Place


@statistic()
def choose_cell(frame: pd.DataFrame, which: str) -> pd.Series | None:
    """Return the row shown for "default", "best" or "worst": by mean over seeds among configurations with complete rows.

    Best and worst are raw extremes, biased by selection. Prefers a row whose sample grid exists; None if there is no row.
    """
    complete = frame.loc[frame["status"].eq("complete")]
    if which == "default":
        rows = complete.loc[is_default(complete, "train") & is_default(complete, "sampler")]
    else:
        rows = _extreme_rows(frame, complete, which)
    if rows.empty:
        return None
    pictures = set((Place.of(str(frame.attrs.get("path", "."))) / "samples").files())
    has_grid = rows["cell_id"].map(lambda cell: f"{cell}.png" in pictures)
    order = rows.assign(_no=~has_grid).sort_values(["_no", "seed_train", "seed_sample"], kind="stable")
    return order.iloc[0].drop("_no")


def _extreme_rows(frame: pd.DataFrame, complete: pd.DataFrame, which: str) -> pd.DataFrame:
    summary = summarize(frame, default_metric(frame)).dropna(subset=["mean"])
    clean = summary.loc[(summary["n_failed"] + summary["n_diverged"]).eq(0)]
    summary = clean if len(clean) else summary
    if summary.empty:
        return complete.iloc[:0]
    means = summary["mean"].to_numpy(float)
    pick = summary.iloc[int(means.argmin() if which == "best" else means.argmax())]
    return complete.loc[complete["point_id"].eq(pick["point_id"]) & complete["sampler_id"].eq(pick["sampler_id"])]
