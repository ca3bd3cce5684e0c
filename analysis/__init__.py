"""Rows of a study → statistics → plots → report. Needs no torch and no ray: it runs on a laptop that has neither.

Names are imported on first use, so that ``import analysis`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from study.terminal import guard_start

if TYPE_CHECKING:
    from analysis.checks import validate
    from analysis.comparison import Comparison, compare
    from analysis.components import plot_variance_components, variance_components
    from analysis.contrasts import Contrast, contrast
    from analysis.curves import plot_robustness, robustness_curve
    from analysis.field_figures import (
        plot_directions,
        plot_far_field,
        plot_field_lines,
        plot_field_strength,
        plot_trajectories,
    )
    from analysis.forest import plot_comparisons, plot_failures, plot_summary, plot_tolerance_volume, plot_worst_case
    from analysis.gains import improvements
    from analysis.importance import (
        parameter_importance,
        plot_parameter_importance,
        plot_regional_sensitivity,
        regional_sensitivity,
    )
    from analysis.interchange import load_studies, of_study, to_csv, to_optuna
    from analysis.law_figures import plot_radius_law, plot_radius_tail, plot_target_variance, plot_training_points
    from analysis.load import AnalysisError, Axis, load_history, load_study, searched_axes
    from analysis.outliers import outlier_map, plot_outlier_map
    from analysis.overview import parameter_overview, plot_parameter_overview
    from analysis.pairs import interaction, plot_interaction
    from analysis.pareto import (
        pareto_front,
        plot_quality_cost,
        plot_solver_tolerance,
        seed_fronts,
        solver_tolerance,
    )
    from analysis.perturbation import degradation, perturbation_robustness, plot_perturbation_robustness
    from analysis.plots import learning_curves, plot_learning_curves, plot_samples
    from analysis.power import power_table
    from analysis.published import published_points
    from analysis.report import write_report, write_reports
    from analysis.robustness import ToleranceInterval, tolerance_interval
    from analysis.sample_size import effective_sample_size, plot_effective_sample_size
    from analysis.statistics import failure_table, seeds_needed, summarize
    from analysis.theory import DataMoments, data_moments, plot_theory_curves, theory_curves
    from analysis.volume import tolerance_volume, worst_case

_HOME = {
    "load": ("AnalysisError", "Axis", "load_history", "load_study", "searched_axes"),
    "statistics": ("failure_table", "seeds_needed", "summarize"),
    "comparison": ("Comparison", "compare"),
    "contrasts": ("Contrast", "contrast"),
    "components": ("plot_variance_components", "variance_components"),
    "importance": ("parameter_importance", "plot_parameter_importance", "plot_regional_sensitivity", "regional_sensitivity"),
    "forest": ("plot_comparisons", "plot_failures", "plot_summary", "plot_tolerance_volume", "plot_worst_case"),
    "power": ("power_table",),
    "gains": ("improvements",),
    "overview": ("parameter_overview", "plot_parameter_overview"),
    "volume": ("tolerance_volume", "worst_case"),
    "curves": ("plot_robustness", "robustness_curve"),
    "robustness": ("ToleranceInterval", "tolerance_interval"),
    "pairs": ("interaction", "plot_interaction"),
    "pareto": ("pareto_front", "plot_quality_cost", "plot_solver_tolerance", "seed_fronts", "solver_tolerance"),
    "outliers": ("outlier_map", "plot_outlier_map"),
    "theory": ("DataMoments", "data_moments", "plot_theory_curves", "theory_curves"),
    "field_figures": (
        "plot_directions",
        "plot_far_field",
        "plot_field_lines",
        "plot_field_strength",
        "plot_trajectories",
    ),
    "law_figures": ("plot_radius_law", "plot_radius_tail", "plot_target_variance", "plot_training_points"),
    "sample_size": ("effective_sample_size", "plot_effective_sample_size"),
    "perturbation": ("degradation", "perturbation_robustness", "plot_perturbation_robustness"),
    "published": ("published_points",),
    "interchange": ("load_studies", "of_study", "to_csv", "to_optuna"),
    "checks": ("validate",),
    "plots": ("learning_curves", "plot_learning_curves", "plot_samples"),
    "report": ("write_report", "write_reports"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AnalysisError",
    "Axis",
    "Comparison",
    "Contrast",
    "DataMoments",
    "ToleranceInterval",
    "compare",
    "contrast",
    "data_moments",
    "degradation",
    "effective_sample_size",
    "failure_table",
    "improvements",
    "interaction",
    "learning_curves",
    "load_history",
    "load_studies",
    "load_study",
    "of_study",
    "outlier_map",
    "parameter_importance",
    "parameter_overview",
    "pareto_front",
    "perturbation_robustness",
    "plot_comparisons",
    "plot_directions",
    "plot_effective_sample_size",
    "plot_failures",
    "plot_far_field",
    "plot_field_lines",
    "plot_field_strength",
    "plot_interaction",
    "plot_learning_curves",
    "plot_outlier_map",
    "plot_parameter_importance",
    "plot_parameter_overview",
    "plot_perturbation_robustness",
    "plot_quality_cost",
    "plot_radius_law",
    "plot_radius_tail",
    "plot_regional_sensitivity",
    "plot_robustness",
    "plot_samples",
    "plot_solver_tolerance",
    "plot_summary",
    "plot_target_variance",
    "plot_theory_curves",
    "plot_tolerance_volume",
    "plot_training_points",
    "plot_trajectories",
    "plot_variance_components",
    "plot_worst_case",
    "power_table",
    "published_points",
    "regional_sensitivity",
    "robustness_curve",
    "searched_axes",
    "seed_fronts",
    "seeds_needed",
    "solver_tolerance",
    "summarize",
    "theory_curves",
    "to_csv",
    "to_optuna",
    "tolerance_interval",
    "tolerance_volume",
    "validate",
    "variance_components",
    "worst_case",
    "write_report",
    "write_reports",
]

guard_start()


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(f"analysis.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
