"""No legend lies on what is drawn, in any figure of a report: checked on the rendered figures, in pixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from analysis import load_study, plot_learning_curves, plot_outlier_map, plot_perturbation_robustness, write_report
from analysis.plots.style import draw_legend
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")


def every_axes(figure: Figure) -> Iterator[Axes]:
    """The axes of a figure, and those that stand in them."""
    for ax in figure.axes:
        yield ax
        yield from ax.child_axes


def legends(figure: Figure) -> list[Legend]:
    """Of the axes and of the figure."""
    return [*figure.legends, *(legend for ax in every_axes(figure) if (legend := ax.get_legend()) is not None)]


def outline(artist: Artist) -> np.ndarray:
    """Points in pixels along what an artist draws, dense enough that no letter of a legend fits between two, shape (K, 2)."""
    if isinstance(artist, Line2D):
        paths, transform = [artist.get_path().vertices], artist.get_transform()
    elif isinstance(artist, Collection):
        offsets = np.asarray(artist.get_offsets())
        if len(offsets) and not isinstance(artist, LineCollection) and np.any(offsets):
            return np.asarray(artist.get_offset_transform().transform(offsets))
        paths, transform = [path.vertices for path in artist.get_paths()], artist.get_transform()
    else:
        box = artist.get_window_extent()
        x, y = np.meshgrid(np.linspace(box.x0, box.x1, 60), np.linspace(box.y0, box.y1, 60))
        return np.column_stack([x.ravel(), y.ravel()])
    found = []
    for path in paths:
        points = np.asarray(transform.transform(path))
        points = points[np.isfinite(points).all(axis=1)].clip(-1e4, 1e4)
        for a, b in pairwise(points):
            found.append(a + (b - a) * np.linspace(0, 1, 2 + int(np.hypot(*(b - a)) / 3))[:, None])
        found.append(points)
    return np.concatenate(found) if found else np.empty((0, 2))


def covered(figure: Figure) -> list[str]:
    """What some legend of a rendered figure lies on: data inside their axes, labels, texts and titles."""
    found = []
    for legend in legends(figure):
        box = legend.get_window_extent()
        for ax in every_axes(figure):
            for artist in [*ax.lines, *ax.collections, *ax.patches, *ax.images]:
                points = outline(artist)
                frame = Bbox.intersection(box, ax.get_window_extent() if artist.get_clip_on() else box)
                if artist.get_visible() and frame is not None and frame.width > 0 and frame.height > 0:
                    inside = (points > frame.min).all(axis=1) & (points < frame.max).all(axis=1)
                    found += [f"{artist}: {int(inside.sum())} points"] if inside.any() else []
            ticks = [tick.label1 for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()]  # those that are drawn
            for text in [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label, *ticks]:
                if text.get_visible() and text.get_text() and text.get_window_extent().overlaps(box):
                    found.append(f"text {text.get_text()!r}")
    return found


def outside_the_paper(figure: Figure) -> list[str]:
    """Legends that run off the figure."""
    paper = figure.bbox.padded(1)
    boxes = {str(legend.get_texts()[0].get_text()): legend.get_window_extent() for legend in legends(figure)}
    return [name for name, box in boxes.items() if not (paper.contains(*box.min) and paper.contains(*box.max))]


DEMO = Truth(
    effects={"sigma": lambda v: -1.0 if v == 0.3 else 0.0, "rtol": lambda v: 2.0 if v == 0.1 else 0.0},
    status=lambda row: "diverged" if row["sampler_rtol"] == 0.1 and row["seed_train"] == 0 else "complete",
)
STUDIES = {
    "one_at_a_time": DEMO,
    "sobol": Truth(design="sobol", train_axes=("sigma", "M"), trials=40, train_seeds=1, samples=False),
    "one seed": DEMO.changed(train_axes=("sigma",), train_seeds=1, samples=False),
}


@pytest.mark.parametrize("name", STUDIES)
def test_no_legend_of_a_report_lies_on_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Smallest overlap seen: three pixels of a line; the counter-case is below."""
    found: dict[str, list[str]] = {}

    def look(figure: Figure, target: object, **options: object) -> None:
        """In the place of savefig: where the report writes files, its fonts hold."""
        if options.get("format") == "png":
            figure.draw_without_rendering()
            name = f"{len(found)}: {figure.axes[0].get_xlabel()}"
            found[name] = covered(figure) + outside_the_paper(figure) if legends(figure) else ["no legend"]

    monkeypatch.setattr(Figure, "savefig", look)
    write_report(write_study(tmp_path / "study", STUDIES[name]))
    explained = {figure: faults for figure, faults in found.items() if faults != ["no legend"]}
    assert len(explained) >= 8
    assert explained == {figure: [] for figure in explained}


def test_a_legend_on_a_line_is_seen() -> None:
    figure, ax = plt.subplots(layout="constrained")
    ax.plot([0, 1], [0, 1], label="a line that has a name as long as this")
    ax.legend(loc="center")
    figure.canvas.draw()
    assert len(covered(figure)) == 1 and "Line2D" in covered(figure)[0]
    ax.legend(loc="upper left")
    figure.canvas.draw()
    assert covered(figure) == []
    ax.bar([0.1], [1.0], width=0.2)
    figure.canvas.draw()
    assert covered(figure), "a bar too"
    draw_legend(ax)
    figure.canvas.draw()
    assert covered(figure) == [] and outside_the_paper(figure) == []
    ax.set_xlabel("two\nlines\nand\nmore", loc="left")
    figure.canvas.draw()
    assert "two" in covered(figure)[0], "labels are not to be covered either"


@pytest.mark.parametrize("size", [(4.0, 3.2), (5.0, 3.4), (9.0, 6.0)])
def test_it_stands_clear_at_any_size(size: tuple[float, float], tmp_path: Path) -> None:
    frame = load_study(write_study(tmp_path / "study", DEMO.changed(samples=False)))
    truncated = frame.assign(sampler_max_radius_ratio=np.where(frame["sampler_T_ratio"].eq(1.0), 60.0, np.nan))
    truncated.attrs = frame.attrs
    for draw in (
        lambda ax: plot_learning_curves(frame, ax=ax),
        lambda ax: plot_outlier_map(truncated, ax=ax),
        lambda ax: plot_perturbation_robustness(frame, "steps", ax=ax),
    ):
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        draw(ax)
        figure.canvas.draw()
        assert legends(figure) and covered(figure) == []


def test_nothing_to_explain_has_no_legend() -> None:
    _, ax = plt.subplots()
    ax.plot([0, 1], [0, 1])
    draw_legend(ax)
    assert ax.get_legend() is None
