"""The reference of public names: `analysis` by the question that a name answers, `pfgm` and `study` by room.

Which names are public stands in the stubs (``__init__.pyi``) of the packages; where a name's code lies does not matter here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

ROOMS = ("prior", "field", "data", "networks", "process", "sampling", "training", "flow", "metrics")


class Question(NamedTuple):
    """One page of the reference of `analysis`: its address, title, first sentence and names."""

    address: str
    title: str
    lead: str
    names: str


QUESTIONS = (
    Question(
        "reference/analysis-rows.md", "Read and check rows",
        "Start here. Every other function of `analysis` takes the frame that `load_study` returns.",
        "load_study load_studies of_study load_history searched_axes validate failure_table plot_failures learning_curves"
        " plot_learning_curves plot_samples to_csv to_optuna Axis AnalysisError",
    ),
    Question(
        "reference/analysis-good.md", "How good?",
        "Means with intervals, the front of quality against cost, and comparisons of two configurations.",
        "summarize plot_summary compare Comparison plot_comparisons improvements pareto_front seed_fronts plot_quality_cost"
        " published_points",
    ),
    Question(
        "reference/analysis-robust.md", "How robust?",
        "How far one parameter may move from its default before quality leaves the tolerance.",
        "parameter_overview plot_parameter_overview robustness_curve plot_robustness tolerance_interval ToleranceInterval"
        " tolerance_edges Edges Edge ratings_by_length plot_ratings_by_length"
        " interaction plot_interaction solver_tolerance plot_solver_tolerance perturbation_robustness"
        " plot_perturbation_robustness degradation contrast Contrast",
    ),
    Question(
        "reference/analysis-matters.md", "What matters?",
        "Which parameter, and which seed, moves quality most. Most of these need points that fill the box, as `sobol` gives.",
        "variance_components plot_variance_components parameter_importance plot_parameter_importance regional_sensitivity"
        " plot_regional_sensitivity partial_curves partial_ratings plot_partial_curve"
        " tolerance_volume plot_tolerance_volume worst_case plot_worst_case",
    ),
    Question(
        "reference/analysis-more.md", "How much more?",
        "How many seeds would settle a question that is still undetermined.",
        "power_table seeds_needed",
    ),
    Question(
        "reference/analysis-theory.md", "What does theory say?",
        "What papers and exact fields predict, beside the measured points.",
        "theory_curves plot_theory_curves data_moments DataMoments outlier_map plot_outlier_map effective_sample_size"
        " plot_effective_sample_size",
    ),
    Question(
        "reference/analysis-fields.md", "Pictures of fields and laws",
        "They draw arrays that `pfgm` computes; no study is needed. The gallery shows each of them.",
        "plot_field_lines plot_directions plot_field_strength plot_far_field plot_trajectories plot_radius_law"
        " plot_radius_tail plot_training_points plot_target_variance",
    ),
    Question(
        "reference/analysis-report.md", "Reports", "What `python -m analysis.report` calls.", "write_report write_reports",
    ),
)  # fmt: skip


def public(package: str) -> dict[str, str]:
    """Names that the stub of a package makes public, each with the module where it lies."""
    stub = ROOT.joinpath(*package.split("."), "__init__.pyi")
    body = ast.parse(stub.read_text(encoding="utf-8")).body
    return {alias.name: str(node.module) for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}


def entry(package: str, name: str) -> str:
    """The directive that puts one name, with signature and docstring, on a page; its heading is the public name."""
    return f"::: {package}.{name}\n"


def questions() -> dict[str, str]:
    """Pages of `analysis`; a public name without a question, or in two of them, is an error."""
    known = sorted(public("analysis"))
    asked = sorted(name for question in QUESTIONS for name in question.names.split())
    if known != asked:
        lost, twice = set(known) ^ set(asked), {name for name in asked if asked.count(name) > 1}
        raise ValueError(f"docs/generate/names.py: give these names of analysis one question: {sorted(lost | twice)}")
    return {
        q.address: "\n".join([f"# {q.title}\n\n{q.lead}\n", *(entry("analysis", name) for name in q.names.split())])
        for q in QUESTIONS
    }


def room(package: str, title: str, lead: str) -> str:
    """One page with every public name of a package."""
    return "\n".join([f"# {title}\n\n{lead}\n", *(entry(package, name) for name in sorted(public(package), key=str.lower))])


def top(package: str) -> str:
    """The page of a package's own names: rooms as links, names of rooms as links, the others in full."""
    lines = [f"# {package}\n\n{docstring(package)}\n\n## Names\n"]
    full = []
    for name, home in sorted(public(package).items(), key=lambda item: item[0].lower()):
        anchor = f'<a id="{package}.{name}"></a>'
        owner = next((r for r in ROOMS if package == "pfgm" and name in public_of(r)), None)
        if home == package and name in ROOMS:
            lines.append(
                f"- {anchor}[`{package}.{name}`]({package}-{name}.md): a room. {docstring(f'{package}.{name}', first=True)}"
            )
        elif owner is not None:
            link = f"[`{package}.{name}`]({package}-{owner}.md#{package}.{owner}.{name})"
            lines.append(f"- {anchor}{link}: {summary(home, name)}")
        elif home == package:
            lines.append(f"- {anchor}`{package}.{name}`: a module. {docstring(f'{package}.{name}', first=True)}")
        else:
            full.append(entry(package, name))
    return "\n".join([*lines, "", *full])


def study() -> str:
    """The page of `study`: its own names, and those that only its rooms make public."""
    known = set(public("study"))
    more = [entry(p, n) for p in ("study.config", "study.plan") for n in sorted(public(p)) if n not in known]
    return "\n".join([top("study"), *more])


def public_of(name: str) -> dict[str, str]:
    """Public names of a room of pfgm."""
    return public(f"pfgm.{name}")


def source(module: str) -> ast.Module:
    """The code of a module or package."""
    base = ROOT.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def summary(module: str, name: str) -> str:
    """The first line of the docstring of a function or class."""
    nodes = (n for n in source(module).body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)
    return next(((ast.get_docstring(node) or "").split("\n")[0] for node in nodes), "")


def docstring(module: str, first: bool = False) -> str:
    """The docstring of a module or package, or its first paragraph as one line."""
    text = ast.get_docstring(source(module)) or ""
    return " ".join(text.split("\n\n")[0].split()) if first else text


def pages() -> dict[str, str]:
    """Every page of the reference of names."""
    rooms = {f"reference/pfgm-{name}.md": room(f"pfgm.{name}", f"pfgm.{name}", docstring(f"pfgm.{name}")) for name in ROOMS}
    testing = room("analysis.testing", "Synthetic studies", docstring("analysis.testing"))
    own = {"reference/pfgm.md": top("pfgm"), "reference/study.md": study(), "reference/analysis-testing.md": testing}
    return questions() | rooms | own


def entries(text: str) -> set[str]:
    """The public names that have an entry on a page."""
    return set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)) | set(re.findall(r'<a id="([\w.]+)">', text))
