"""Rows of a study → statistics → plots → report. Needs no torch and no ray: it runs on a laptop that has neither.

Names are imported on first use, so that ``import analysis`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.load import AnalysisError, Axis, load_history, load_study, searched_axes
    from analysis.pairs import interaction, plot_interaction
    from analysis.pareto import (
        pareto_front,
        plot_quality_cost,
        plot_solver_tolerance,
        solver_tolerance,
    )
    from analysis.plots import learning_curves, plot_learning_curves, plot_samples
    from analysis.report import write_report
    from analysis.robustness import plot_robustness, robustness_curve, tolerance_interval
    from analysis.statistics import failure_table, log_ratio, seeds_needed, summarize

_HOME = {
    "load": ("AnalysisError", "Axis", "load_history", "load_study", "searched_axes"),
    "statistics": ("failure_table", "log_ratio", "seeds_needed", "summarize"),
    "robustness": ("plot_robustness", "robustness_curve", "tolerance_interval"),
    "pairs": ("interaction", "plot_interaction"),
    "pareto": ("pareto_front", "plot_quality_cost", "plot_solver_tolerance", "solver_tolerance"),
    "plots": ("learning_curves", "plot_learning_curves", "plot_samples"),
    "report": ("write_report",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AnalysisError",
    "Axis",
    "failure_table",
    "interaction",
    "learning_curves",
    "load_history",
    "load_study",
    "log_ratio",
    "pareto_front",
    "plot_interaction",
    "plot_learning_curves",
    "plot_quality_cost",
    "plot_robustness",
    "plot_samples",
    "plot_solver_tolerance",
    "robustness_curve",
    "searched_axes",
    "seeds_needed",
    "solver_tolerance",
    "summarize",
    "tolerance_interval",
    "write_report",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(f"analysis.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
